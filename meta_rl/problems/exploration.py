"""Exploration noise that lasts for several steps.

Independent noise cancels out over a swing's time, so a policy that knows nothing hardly moves a
pendulum or a car. Noise that lasts moves it (action repeat in Atari agents, gSDE of Raffin et al.
2021, coloured noise of Eberhard et al. 2023).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode

from meta_rl.errors import InputError
from meta_rl.problems.stepping import takes_tensors


class LastingNoise(TorchFunctionMode):
    """Keeps the random numbers of the step before, in each row with a given probability.

    Inside the context, draws from the generator are replaced. A kept number has the same
    distribution as a new one. But an observation depends on the noise before it, so given the
    observation the noise is no longer the policy's. Log-probabilities of single steps do not see
    that: gradients are biased, as with gSDE and coloured noise, in exchange for exploration.

    Args:
        generator: the generator of the actions.
        persistence: probability of keeping the numbers.

    Raises:
        InputError: on a draw that depends on tensors, such as a policy's own distribution may make:
            to keep its result would be to keep the action.
    """

    def __init__(self, generator: Generator, persistence: float):
        super().__init__()
        self.generator, self.persistence = generator, persistence
        self._last: list[Tensor] = []
        self._draw = 0

    def __enter__(self) -> LastingNoise:
        """Begin the draws of a step."""
        self._draw = 0
        return super().__enter__()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function, and keep some of the numbers that it draws."""
        options = kwargs or {}
        if options.get("generator") is not self.generator:
            return func(*args, **options)
        if takes_tensors(args, options):
            raise InputError(
                "data.noise_persistence: expected a policy whose random numbers do not depend on "
                f"its outputs, got one that draws by {func.__name__} of a tensor. Give 0, or draw "
                "with torch.randn or torch.rand of a shape."
            )
        numbers = func(*args, **options)
        if self._draw == len(self._last):
            self._last.append(numbers)
        else:
            self._last[self._draw] = self._mixed(self._last[self._draw], numbers)
        self._draw += 1
        return self._last[self._draw - 1].clone()  # the policy may change it in place

    def _mixed(self, last: Tensor, new: Tensor) -> Tensor:
        """Return the last numbers ``(M, B, ...)`` in the rows that keep them, else the new ones."""
        rows = new.shape[:2] + (1,) * (new.ndim - 2)
        chance = torch.rand(rows, generator=self.generator, device=new.device)
        return torch.where(chance < self.persistence, last, new)
