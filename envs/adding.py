"""The adding problem (Hochreiter and Schmidhuber 1997) as few-shot regression on sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from meta_rl.errors import require
from meta_rl.families.distributions import Uniform
from meta_rl.families.parameters import Parameter, ParameterSpace, ParameterTasks
from meta_rl.types import Task


class Adding(ParameterTasks):
    """Regression on ``y = first * a + second * b``, of the two marked numbers in a sequence.

    A step of the sequence is a number from U[-1, 1], and its mark: 1 at one place of the first half
    and at one of the second, else 0. A task is the two weights.

    Args:
        steps: T, the length of a sequence; even.

    Raises:
        InputError: if the length is not an even number above 0.
    """

    id = "adding"
    summary = "Regression on a weighted sum of two marked numbers in a sequence."
    source = "Hochreiter and Schmidhuber 1997, section 5.4; weights are ours"
    kind: Literal["regression"] = "regression"
    output_size = 1
    space = ParameterSpace(
        Parameter("first", Uniform(-2.0, 2.0)), Parameter("second", Uniform(-2.0, 2.0))
    )

    def __init__(self, steps: int = 20):
        require(steps > 0 and steps % 2 == 0, "steps", "an even number above 0", steps)
        self.input_shape = (steps, 2)

    def draw(
        self,
        tasks: Sequence[Task],
        first: int,
        count: int,
        seed: int,
        device: torch.device | str,
    ) -> tuple[Tensor, Tensor]:
        """Draw sequences and labels ``first`` to ``first + count`` of every task.

        The seed gives one order of examples, so a larger ``count`` keeps the earlier examples.

        Returns:
            Sequences ``(M, count, T, 2)`` and labels ``(M, count, 1)``.
        """
        steps, size = self.input_shape[0], (first + count, len(tasks))
        generator = torch.Generator(device=device).manual_seed(seed)
        unit = torch.rand(*size, steps + 2, generator=generator, device=device)
        unit = unit[first:].transpose(0, 1)  # (M, count, T + 2)
        numbers = 2 * unit[..., :steps] - 1
        half = steps // 2
        places = (unit[..., steps:] * half).long().clamp(max=half - 1)
        places = places + torch.tensor([0, half], device=device)
        marks = torch.zeros_like(numbers).scatter_(-1, places, 1.0)
        weights = torch.tensor([[t["first"], t["second"]] for t in tasks], device=device)
        marked = numbers.gather(-1, places)  # (M, count, 2)
        labels = (marked * weights.unsqueeze(1)).sum(-1, keepdim=True)
        return torch.stack([numbers, marks], -1), labels
