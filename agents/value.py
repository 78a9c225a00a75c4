"""The baseline of large observations: a network of all tasks, fitted while meta-training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from meta_rl import seeds
from meta_rl.config import EpisodesConfig, NetworkConfig
from meta_rl.machine import parallel
from meta_rl.naming import under
from meta_rl.problems.baseline import Baseline, ValuedBlock
from meta_rl.problems.normalization import RunningStatistics
from meta_rl.problems.observations import LARGE, has_images, observation_size
from meta_rl.types import Params, TaskFamily

from .baselines import LinearFeatureBaseline
from .networks import policy_network

LEARNING_RATE, EPOCHS = 1e-3, 4
"""Adam's learning rate, and passes over the steps of a meta-batch."""
MINIBATCH, PARTS = 256, 16
"""Steps in each gradient, but at most so many gradients in a pass."""
POWERS = 4
"""Powers of time, from 0, that the network has an output for."""
AT_ONCE = 512
"""Observations whose values are computed together, which bounds memory."""


class ValueNetwork(Baseline):
    """Ridge regression of returns on features of one network, which all tasks share.

    Features ``[f_i(o) s^i, s^i]``, i = 0..3: the network's outputs f, and the time s as a fraction
    of the horizon. As in :class:`LinearFeatureBaseline`, they are fitted to each task's returns at
    each inner step, since values differ between these. These are 8 numbers a task, however large
    the observation; a linear fit of an image has more numbers than returns, and fits their noise.

    The network learns over all tasks and iterations, by regression on the returns:

        minimize  mean over steps of (sum_i f_i(o) s^i - (return - mean) / std)^2

    with mean and std those of all returns so far. :meth:`fit` does so after the returns were used,
    so the network's weights come from earlier iterations alone and do not fit the noise that they
    are to remove. Adapting and evaluating never change them.

    Args:
        network: a module from observations ``(N, O)`` to ``(N, POWERS)``.
        horizon: the longest episode in steps.
    """

    def __init__(self, network: nn.Module, horizon: int):
        self.network, self.horizon = network, horizon
        self._linear = LinearFeatureBaseline()
        self._weights = [*network.parameters()]
        self._returns = RunningStatistics(1).to(self._weights[0].device)
        self._adam = torch.optim.Adam(self._weights, LEARNING_RATE)
        for weight in self._weights:  # the state from the start on, as checkpoints hold it
            moments = {name: torch.zeros_like(weight) for name in ("exp_avg", "exp_avg_sq")}
            self._adam.state[weight] = {"step": torch.tensor(0.0), **moments}

    @torch.no_grad()
    def values(self, obs: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
        """Return values ``(M, B, T)`` in the network's features, 0 where masked."""
        time = torch.arange(obs.shape[2], device=obs.device).expand(mask.shape)
        parts = zip(obs.flatten(0, 2).split(AT_ONCE), time.flatten().split(AT_ONCE), strict=True)
        features = torch.cat([self._features(*part) for part in parts]).unflatten(0, mask.shape)
        return self._linear.on_features(features.double(), returns * mask, mask).to(returns.dtype)

    def fit(self, blocks: Sequence[ValuedBlock]) -> None:
        """Take :data:`EPOCHS` epochs of Adam on the returns of a meta-batch, of all processes.

        Each gradient sums over the blocks in their order, so the number of processes does not
        change a bit.

        Args:
            blocks: the blocks of this process.
        """
        held = [_Steps.of(block) for block in blocks]
        self._count_returns(held)
        targets = [self._in_units(steps.returns) for steps in held]
        rows = parallel.total(sum(len(steps.time) for steps in held))
        parts = min(max(1, round(rows / MINIBATCH)), PARTS)
        generators = [seeds.generator(seeds.derive(block.seed, seeds.VALUE)) for block in blocks]
        for _ in range(EPOCHS):
            orders = [
                torch.randperm(len(steps.time), generator=generator).to(steps.time.device)
                for steps, generator in zip(held, generators, strict=True)
            ]
            for chosen in zip(*(order.tensor_split(parts) for order in orders), strict=True):
                self._step([*map(self._gradient, held, targets, chosen)])

    def state(self) -> Params:
        """Return the tensors that :meth:`fit` changes, in place."""
        returns = dict(self._returns.state_dict())
        moments = {
            f"adam.{name}.{key}": value
            for name, weight in self.network.named_parameters()
            for key, value in self._adam.state[weight].items()
        }
        return {**under("network", dict(self.network.state_dict())), **moments, **returns}

    def _features(self, obs: Tensor, time: Tensor) -> Tensor:
        """Return the features ``(N, 2 POWERS)`` of observations and their time steps."""
        fraction = (time / self.horizon).clamp(max=1.0)
        powers = torch.stack([fraction**power for power in range(POWERS)], -1)
        return torch.cat([self.network(obs) * powers, powers.expand(len(obs), -1)], -1)

    def _std(self) -> Tensor:
        """Return the std of all returns so far; 0 if they differ by rounding alone."""
        std, mean = self._returns.variance.sqrt(), self._returns.mean
        return torch.where(std <= 1e-12 * mean.abs(), torch.zeros_like(std), std)

    def _in_units(self, returns: Tensor) -> Tensor:
        std = self._std()
        away = (returns - self._returns.mean) / std
        units = torch.where(std > 0, away, torch.zeros_like(returns))
        return units.to(self._weights[0].dtype)

    def _count_returns(self, held: Sequence[_Steps]) -> None:
        """Take returns into their mean and variance."""
        sums = [
            self._returns.sums(steps.returns.unsqueeze(-1), torch.ones_like(steps.returns))
            for steps in held
        ]
        self._returns.update(parallel.add(sums))

    def _gradient(self, steps: _Steps, targets: Tensor, chosen: Tensor) -> list[Tensor]:
        """Return the gradient of the chosen steps' sum of squared errors, and their number."""
        units = self._features(steps.observed(chosen), steps.time[chosen])[:, :POWERS].sum(-1)
        loss = ((units - targets[chosen]) ** 2).sum()
        return [*torch.autograd.grad(loss, self._weights), units.new_tensor(len(chosen))]

    def _step(self, held: Sequence[list[Tensor]]) -> None:
        *gradients, number = parallel.add(held)
        for weight, gradient in zip(self._weights, gradients, strict=True):
            # Of many blocks with fewer steps than there are parts, a part may have none at all.
            weight.grad = gradient / number.clamp(min=1)
        self._adam.step()


def make_baseline(
    family: TaskFamily, config: EpisodesConfig, seed: int, device: str
) -> Baseline | None:
    """Return the baseline of the settings, for a family's observations; None for none.

    Args:
        family: the family of tasks.
        config: settings of the episodes.
        seed: the run's seed.
        device: device of a value network.
    """
    space = family.observation_space
    large = has_images(space) or observation_size(space) > LARGE
    kind = config.baseline or ("value" if large else "linear")
    if kind != "value":
        return None if kind == "none" else LinearFeatureBaseline()
    generator = seeds.generator(seeds.derive(seed, seeds.INITIAL, seeds.VALUE))
    network = policy_network(space, POWERS, NetworkConfig(), generator)
    return ValueNetwork(network.to(device), family.horizon)


class _Steps(NamedTuple):
    """The real steps of a block's batches, their observations left where they are."""

    obs: list[Tensor]  # of each batch, (rows, O)
    rows: Tensor  # (N,), numbers of the real steps' rows, counted over all batches
    time: Tensor  # (N,)
    returns: Tensor  # (N,), float64

    @classmethod
    def of(cls, block: ValuedBlock) -> _Steps:
        masks = [mask.flatten() > 0 for _, _, mask in block.batches]
        times = [
            torch.arange(mask.shape[2], device=mask.device).expand(mask.shape).flatten()
            for _, _, mask in block.batches
        ]
        real = torch.cat(masks)
        returns = torch.cat([one.flatten() for _, one, _ in block.batches])
        return cls(
            [obs.flatten(0, 2) for obs, _, _ in block.batches],
            real.nonzero()[:, 0],
            torch.cat(times)[real],
            returns[real].double(),
        )

    def observed(self, chosen: Tensor) -> Tensor:
        """Return the observations ``(n, O)`` of the chosen steps."""
        rows = self.rows[chosen]
        found = self.obs[0].new_empty(len(rows), self.obs[0].shape[-1])
        for start, obs in self._starts():
            inside = (rows >= start) & (rows < start + len(obs))
            found[inside] = obs[rows[inside] - start]
        return found

    def _starts(self) -> Iterator[tuple[int, Tensor]]:
        start = 0
        for obs in self.obs:
            yield start, obs
            start += len(obs)
