"""Randomness as a value: every stream derives from the run's seed and where it is used.

Nothing random is carried from one iteration to the next, so a run that resumes at iteration i
draws exactly what a run that never stopped draws there.
"""

from __future__ import annotations

import numpy as np
import torch

TASKS, INITIAL, EVALUATION, ADAPTATION, DATA, POPULATION, SEARCH, BLOCK, PRUNING = range(9)
"""Names of streams, so that no two uses of one seed coincide."""


def derive(seed: int, *path: int) -> int:
    """A 63-bit seed for one use of a seed, the same on every machine.

    Args:
        seed: 0 or more.
        path: what it is for: a stream, an iteration, an inner step.
    """
    low, high = np.random.SeedSequence(seed, spawn_key=path).generate_state(2)
    return (int(high) << 32 | int(low)) & (2**63 - 1)


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator of its own, seeded."""
    return torch.Generator(device=device).manual_seed(seed)
