"""A learning rate that follows how far an iteration's steps move the policy."""

from __future__ import annotations

import torch
from torch import Tensor

from meta_rl.outer.step import take
from meta_rl.types import Params

FACTOR = 1.5
"""Factor between a limit of the divergence and its target, and of one change of the rate."""
RANGE = 20.0
"""Largest factor between the learning rate and the given one."""


class Following:
    """The factor of a learning rate, which follows the policy's divergence.

    As in Rudin et al. 2021, "Learning to Walk in Minutes Using Massively Parallel Deep
    Reinforcement Learning", but once an iteration. The limit is that of stable-baselines3.

    Args:
        target: the divergence (nats) that an iteration aims at; no limit and no change if None.
        most: the largest factor.
    """

    def __init__(self, target: float | None, most: float = RANGE):
        self.target, self.most, self.scale = target, most, 1.0

    def too_far(self, kl: Tensor | float) -> bool:
        """Return whether the divergence is above its limit, or NaN."""
        return self.target is not None and not float(kl) <= FACTOR * self.target

    def follow(self, kl: Tensor | float) -> None:
        """Raise the factor if an iteration ended below half of the target; lower it if too far."""
        if self.target is not None:
            low, high = float(kl) < self.target / 2, self.too_far(kl)
            factor = FACTOR if low else 1 / FACTOR if high else 1.0
            self.scale = min(max(self.scale * factor, 1 / RANGE), self.most)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the factor, as a named tensor."""
        return {"scale": torch.tensor(self.scale, dtype=torch.float64)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take the result of :meth:`state_dict` out of ``state``; 1 if there is none (older runs).

        Raises:
            InputError: if it has another shape or type.
        """
        own = self.state_dict()
        given = take(state, own) if "scale" in state else {"scale": torch.ones_like(own["scale"])}
        self.scale = min(max(float(given["scale"]), 1 / RANGE), self.most)


def copied(theta: Params) -> Params:
    """Return a copy of the values."""
    return {name: value.detach().clone() for name, value in theta.items()}


@torch.no_grad()
def restore(theta: Params, before: Params) -> None:
    """Write earlier values into the tensors."""
    for name, value in before.items():
        theta[name].copy_(value)
