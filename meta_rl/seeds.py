"""Seeds of random streams, each derived from the run's seed and its use.

Iterations carry no random state over, so a run that resumes at iteration i draws the same numbers
as a run that never stopped.
"""

from __future__ import annotations

import numpy as np
import torch

TASKS, INITIAL, EVALUATION, ADAPTATION, DATA, POPULATION, SEARCH = range(7)
BLOCK, PRUNING, VALUE, TRIALS, SAMPLING, BELIEFS = range(7, 13)
"""Numbers of the streams, so that no two uses of one seed coincide."""


def derive(seed: int, *path: int) -> int:
    """Return a 63-bit seed for one use of a seed, the same on every machine.

    Args:
        seed: the seed to derive from, 0 or more.
        path: numbers of the use: a stream, an iteration, an inner step.
    """
    low, high = np.random.SeedSequence(seed, spawn_key=path).generate_state(2)
    return (int(high) << 32 | int(low)) & (2**63 - 1)


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a new torch generator with this seed."""
    return torch.Generator(device=device).manual_seed(seed)
