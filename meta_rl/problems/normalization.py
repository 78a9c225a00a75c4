"""Running statistics of observations, by which a policy normalizes what it sees.

They are what ``VecNormalize`` is to stable-baselines3, and belong to the meta-policy: collected
over all tasks while meta-training, kept in checkpoints, fixed while adapting and evaluating.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from meta_rl.errors import InputError
from meta_rl.machine import parallel
from meta_rl.problems import returns
from meta_rl.problems.observations import image_layout, observation_size
from meta_rl.types import Policy

CLIP, EPSILON = 10.0, 1e-8
"""Bound of a normalized entry, and the number added to variances; those of ``VecNormalize``."""


class RunningStatistics(nn.Module):
    """The mean and variance of numbers that come in parts, from mean 0 and variance 1; float64.

    Args:
        size: N numbers in a row.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def sums(self, rows: Tensor, mask: Tensor) -> list[Tensor]:
        """Return the number of real rows, and sums of their distances from the mean.

        Sums of several parts add up: :meth:`update` with their total takes all parts at once.

        Args:
            rows: numbers ``(*, N)``.
            mask: 1.0 on real rows, ``(*)``.

        Returns:
            The number ``()``, and the sums of distances and of their squares, ``(N,)``.
        """
        real = mask.double().flatten()
        away = (rows.double().flatten(0, -2) - self.mean) * real[:, None]
        return [real.sum(), away.sum(0), away.square().sum(0)]

    def update(self, sums: Sequence[Tensor]) -> None:
        """Take in rows by their :meth:`sums` since the last update.

        The parallel update of Chan et al. 1979, with the running mean as the sums' origin.
        """
        number, distance, squared = sums
        total = (self.count + number).clamp(min=1.0)
        shift = distance / total
        variance = (self.variance * self.count + squared) / total - shift**2
        self.variance.copy_(variance.clamp(min=0.0))
        self.mean.add_(shift)
        self.count.add_(number)

    def std(self) -> Tensor:
        """Return the standard deviation, of a variance that is never 0, ``(N,)``."""
        return (self.variance + EPSILON).sqrt()

    def is_valid(self) -> bool:
        """Return whether the numbers are finite, and variances and count 0 or more."""
        values = torch.cat([self.mean, self.variance, self.count[None]])
        positive = (self.variance >= 0).all() & (self.count >= 0)
        return bool(torch.isfinite(values).all() & positive)


class Normalization(nn.Module):
    """Return observations minus their running mean, over their standard deviation, within +-10.

    Only numbers are normalized: the entries of a Box that is no image. Images, one-hot entries and
    flags pass through. ``observations`` are the numbers' statistics, in their order; ``returns``
    those of discounted rewards, as ``VecNormalize`` keeps them, for exports. All is float64.

    Args:
        space: the observation space.

    Raises:
        InputError: if no entry of the space's observations is normalized.
    """

    std: Tensor
    numbers: Tensor
    others: Tensor
    places: Tensor

    def __init__(self, space: spaces.Space):
        super().__init__()
        chosen = normalized_entries(space)
        if not chosen.any():
            raise InputError(
                "data.normalize_observations: expected observations with numbers, got "
                f"{space}. Images are scaled in the network; one-hot entries and flags are 0 or 1. "
                "Leave the setting out."
            )
        self.whole, size = bool(chosen.all()), int(chosen.sum())
        self.observations, self.returns = RunningStatistics(size), RunningStatistics(1)
        # Recorded programs hold this tensor, and would not see a root of the variance change.
        self.register_buffer("std", torch.ones(size, dtype=torch.float64), persistent=False)
        numbers, others = (torch.from_numpy(each.nonzero()[0]) for each in (chosen, ~chosen))
        self.register_buffer("numbers", numbers, persistent=False)
        self.register_buffer("others", others, persistent=False)
        # Where each entry is, with the numbers first.
        self.register_buffer("places", torch.cat([numbers, others]).argsort(), persistent=False)
        self.refresh()

    def forward(self, obs: Tensor) -> Tensor:
        """Map observations ``(*, O)`` to normalized ones; bytes become float32."""
        units = (self._numbers(obs).double() - self.observations.mean) / self.std
        kind = obs.dtype if obs.is_floating_point() else torch.float32
        units = units.clamp(-CLIP, CLIP).to(kind)
        if self.whole:
            return units
        rest = obs.index_select(-1, self.others).to(kind)
        return torch.cat([units, rest], -1).index_select(-1, self.places)

    @torch.no_grad()
    def learn(self, blocks: Sequence[Sequence[Any]], gamma: float) -> None:
        """Take a meta-batch into the statistics, with the same bits on all processes.

        Args:
            blocks: the rollouts or episodes of each block that this process holds.
            gamma: discount per step.
        """
        held = [self._sums(batches, gamma) for batches in blocks]
        if held:
            *seen, number, distance, squared = parallel.add(held)
            self.observations.update(seen)
            self.returns.update([number, distance, squared])
            self.refresh()

    @torch.no_grad()
    def start(self, obs: Tensor) -> None:
        """Take observations ``(N, O)`` that no meta-training collected into the statistics."""
        real = torch.ones(len(obs), device=obs.device)
        self.observations.update(self.observations.sums(self._numbers(obs), real))
        self.refresh()

    def _numbers(self, obs: Tensor) -> Tensor:
        """Return an observation's entries to normalize: a few beside an image's many."""
        return obs if self.whole else obs.index_select(-1, self.numbers)

    def _sums(self, batches: Sequence[Any], gamma: float) -> list[Tensor]:
        """Return the sums of a block's batches, one after another."""
        total: list[Tensor] = []
        for batch in batches:
            paid = returns.discounted_returns(batch.reward.flip(-1), batch.mask.flip(-1), gamma)
            sums = [
                *self.observations.sums(self._numbers(batch.obs), batch.mask),
                *self.returns.sums(paid.flip(-1).unsqueeze(-1), batch.mask),
            ]
            total = [a + b for a, b in zip(total, sums, strict=True)] if total else sums
        return total

    @torch.no_grad()
    def refresh(self) -> None:
        """Compute what follows from the statistics, after they changed.

        Raises:
            InputError: if they are no statistics.
        """
        if not (self.observations.is_valid() and self.returns.is_valid()):
            raise InputError(
                "checkpoint: expected finite means and variances of observations, got others. "
                "Use an older checkpoint."
            )
        self.std.copy_(self.observations.std())


def with_normalization(policy: Policy, space: spaces.Space) -> Policy:
    """Give a policy a :class:`Normalization` of its observations, and return the policy.

    The statistics are buffers of its module ``normalization``, so they are saved with it. Names and
    initial values of its parameters stay as they are.

    Args:
        policy: one of ours or of your own.
        space: its observation space.

    Raises:
        InputError: if the space has no entries to normalize.
    """
    policy.add_module("normalization", Normalization(space))
    policy.register_forward_pre_hook(_normalize)
    return policy


def normalization_of(policy: nn.Module) -> Normalization | None:
    """Return the policy's statistics; None if it takes observations as they are."""
    own = getattr(policy, "normalization", None)
    return own if isinstance(own, Normalization) else None


def required_normalization(policy: nn.Module, wanted: bool) -> Normalization | None:
    """Return :func:`normalization_of` a policy, which may be a user's own.

    Raises:
        InputError: unless it has statistics exactly if they are wanted.
    """
    own = normalization_of(policy)
    if wanted and own is None:
        raise InputError(
            "data.normalize_observations: expected a policy with running statistics, got one "
            "without. Give it some: meta_rl.problems.normalization.with_normalization(policy, "
            "observation_space)."
        )
    if own is not None and not wanted:
        raise InputError(
            "data.normalize_observations: expected True, as the policy has running statistics, "
            "got False."
        )
    return own


def normalized_entries(space: spaces.Space) -> np.ndarray:
    """Return which entries of an observation's flat vector are normalized, ``(O,)`` bool."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces
        return np.concatenate([normalized_entries(part) for part in parts])
    return np.full(observation_size(space), is_normalized(space))


def is_normalized(space: spaces.Space) -> bool:
    """Return whether a plain space's observations are numbers, and not an image of bytes."""
    return isinstance(space, spaces.Box) and image_layout(space) is None


def _normalize(policy: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Normalize the first argument; policies with memory have more than the observation."""
    return (policy.normalization(given[0]), *given[1:])
