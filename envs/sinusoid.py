"""Sinusoid regression, the few-shot toy problem of MAML (Finn et al. 2017, section 5.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from meta_rl.families.distributions import Uniform
from meta_rl.families.parameters import Parameter, ParameterSpace, ParameterTasks
from meta_rl.families.table import numbers
from meta_rl.types import Task


class Sinusoid(ParameterTasks):
    """Regression on ``y = amplitude * sin(x - phase)`` with x ~ U[-5, 5], without noise."""

    id = "sinusoid"
    summary = "Regression on y = amplitude * sin(x - phase), x in [-5, 5]."
    source = "Finn et al. 2017, section 5.1"
    kind: Literal["regression"] = "regression"
    input_shape = (1,)
    input_size = 1
    output_size = 1
    bound = 5.0
    draws_ahead = True  # examples cost less for many iterations at once
    space = ParameterSpace(
        Parameter("amplitude", Uniform(0.1, 5.0)),
        Parameter("phase", Uniform(0.0, math.pi), "rad"),
    )

    def draw(
        self,
        tasks: Sequence[Task],
        first: int,
        count: int,
        seed: int,
        device: torch.device | str,
    ) -> tuple[Tensor, Tensor]:
        """Draw inputs and labels ``first`` to ``first + count`` of every task: ``(M, count, 1)``.

        The seed gives one sequence of examples, so a larger ``count`` keeps the earlier examples.
        """
        generator = torch.Generator(device=device).manual_seed(seed)
        unit = torch.rand(first + count, len(tasks), 1, generator=generator, device=device)
        x = self.bound * (2 * unit[first:] - 1).transpose(0, 1)
        given = numbers(tasks, ["amplitude", "phase"])
        both = torch.tensor(given, dtype=x.dtype, device=device)
        amplitude, phase = both.unsqueeze(1).split(1, -1)
        return x, amplitude * torch.sin(x - phase)
