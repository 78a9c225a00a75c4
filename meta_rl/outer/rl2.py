"""RL2's outer step: PPO on whole trials.

Duan et al. 2016, "RL2: Fast Reinforcement Learning via Slow Reinforcement Learning"; Schulman et
al. 2017, "Proximal Policy Optimization Algorithms".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from meta_rl import seeds
from meta_rl.config import AdamConfig, EpisodesConfig, RL2Config
from meta_rl.inner.core import InnerLoop
from meta_rl.machine import parallel
from meta_rl.naming import part_of, under
from meta_rl.outer.adam import Adam, annealed
from meta_rl.outer.following import RANGE, Following, copied, restore
from meta_rl.outer.step import StepOnData, take
from meta_rl.problems.memory import Recalled, Trials, joined
from meta_rl.problems.returns import explained, gae, share_left
from meta_rl.types import MetaParameters, Params


class Recall(Protocol):
    """A recurrent policy."""

    def __call__(self, params: Params, trials: Trials, state: Tensor | None) -> Recalled:
        """Return its outputs at every step, from a state ``(N, S)``; None at a trial's start."""
        ...


class Judged(NamedTuple):
    """Whole trials, and what PPO compares the policy with."""

    trials: Trials  # their values multiplied by share
    advantage: Tensor  # (N, L), normalized over all trials
    target: Tensor  # (N, L), of the value: the trial's later return, by GAE
    share: Tensor  # (N, L), of an episode's discounted time that is left in the trial


class Sums(NamedTuple):
    """Sums over real steps."""

    loss: Tensor
    value_error: Tensor  # squared, in the critic's units
    kl: Tensor  # nats, KL(stored || new), estimated as r - 1 - log r
    clipped: Tensor  # steps whose ratio r is outside the bounds


class TrialPPO(StepOnData):
    """Epochs of Adam on the clipped ratio, the value's error and the entropy of whole trials.

        A, R = GAE over all episodes of a trial, as if they were one long episode
        for each of the epochs, for each minibatch of trials:
            pi, v = policy(theta, trial)                             from the trial's first step on
            V = v * (1 - gamma^left) / (1 - gamma^limit)             steps left in trial, in episode
            r = pi(a) / stored pi(a)
            if mean [r - 1 - log r] > 1.5 d:                        d: config.target_kl
                undo the last step, divide the learning rate by 1.5, and end the iteration
            J = mean [- min(r A, clip(r, 1 - eps, 1 + eps) A) + c_v (V - R)^2 - c_h H(pi)]
            theta <- Adam(theta, grad J)
        multiply the learning rate by 1.5 if the last of these means was below d / 2

    The gradient goes back through the whole trial, or through parts of ``config.truncation`` steps:
    then a part starts with the state that the part before has left, as a constant. Advantages are
    normalized over all trials of the meta-batch. The means are over real steps.

    The estimate of the divergence is stable-baselines3's. A step is judged on the next minibatch,
    so an iteration's last step never is. What is undone is theta, not Adam's moments. The learning
    rate is :class:`Following`, or without d falls to ``config.final_learning_rate``, if given.

    Args:
        config: settings of the outer step.
        inner: an inner loop; Adam's.
        meta: the meta-parameters, leaf tensors; :meth:`step` changes them in place.
        recall: the policy.
        data: settings of the episodes: discount and lambda.
        seed: seed of the minibatches.
        iterations: iterations of the run, for a learning rate that falls over it.
        most: the largest factor between the learning rate and the given one.
    """

    def __init__(
        self,
        config: RL2Config,
        inner: InnerLoop,
        meta: MetaParameters,
        recall: Recall,
        data: EpisodesConfig,
        seed: int,
        iterations: int = 1,
        most: float = RANGE,
    ):
        self.config, self.meta, self.recall, self.data = config, meta, recall, data
        self._seed, self._steps, self._iterations = seed, 0, iterations
        rates = AdamConfig(learning_rate=config.learning_rate, max_grad_norm=config.max_grad_norm)
        self._adam, self._rate = Adam(rates, inner, meta), Following(config.target_kl, most)

    def step(self, supports: Sequence[Any], query: Any) -> dict[str, Tensor | float]:
        """Update ``meta`` in place; skip all minibatches from the first non-finite gradient on.

        Returns:
            ``train/outer_loss`` and ``train/grad_norm`` of the first minibatch;
            ``train/value_loss``, ``train/kl`` and ``train/clip_fraction`` of the last one, before
            its step, or before the last step was undone; ``train/explained_variance`` of the stored
            values; ``train/learning_rate`` of this iteration; ``train/steps``, the number of Adam's
            steps that were kept; and ``train/skipped`` if minibatches were skipped, or the first
            step led to no finite divergence.
        """
        return self.improve([joined([*s, q]) for s, q in parallel.blocks_of(supports, query)])

    def improve(self, trials: Sequence[Trials]) -> dict[str, Tensor | float]:
        """Update ``meta`` as :meth:`step` does, from the whole trials of each block."""
        held = self._judged(trials)
        scale = self._rate.scale * annealed(self.config, min(1.0, self._steps / self._iterations))
        metrics: dict[str, Tensor | float] = {
            "train/explained_variance": _explained(held),
            "train/learning_rate": scale * self.config.learning_rate,
        }
        before, taken, rate = {}, 0, self._rate
        for chosen in self._minibatches(held):
            sums, real, gradient = self._derived(chosen)
            kl = sums.kl / real
            metrics |= {
                "train/value_loss": sums.value_error / real,
                "train/kl": kl,
                "train/clip_fraction": sums.clipped / real,
            }
            if taken and rate.too_far(kl):
                restore(self.meta.theta, before)
                taken -= 1
                break
            before = copied(self.meta.theta) if rate.target is not None else {}
            norm = self._adam.descend(gradient, scale)
            if not taken:
                metrics |= {"train/outer_loss": sums.loss / real, "train/grad_norm": norm}
            if not torch.isfinite(norm):
                metrics["train/skipped"] = 1.0
                break
            taken += 1
        if "train/skipped" not in metrics and self.config.epochs * self.config.minibatches > 1:
            rate.follow(metrics["train/kl"])
        if not taken and not math.isfinite(metrics["train/kl"]):
            metrics["train/skipped"] = 1.0
        self._steps += 1
        return metrics | {"train/steps": float(taken)}

    def state_dict(self) -> dict[str, Tensor]:
        """Return Adam's moments, the learning rate's factor and the number of steps, by name."""
        own = {"trials": torch.tensor(self._steps), **self._rate.state_dict()}
        return own | under("adam", self._adam.state_dict())

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the result of :meth:`state_dict`."""
        own = dict(state)
        self._rate.load_state_dict(own)
        self._steps = int(take(own, {"trials": torch.tensor(0)})["trials"])
        self._adam.load_state_dict(part_of("adam", state))

    def _judged(self, held: Sequence[Trials]) -> list[Judged]:
        """Return each block's trials with their advantages, normalized over all processes."""
        data = self.data
        shares = [share_left(t.clock, data.gamma) for t in held]
        held = [t._replace(value=t.value * s) for t, s in zip(held, shares, strict=True)]
        raw = [gae(t.reward, t.value, t.mask, data.gamma, data.gae_lambda) for t in held]
        pairs = [*zip(held, raw, strict=True)]
        count, total = parallel.add([[t.mask.sum(), a.sum()] for t, a in pairs])
        mean = total / count
        (squares,) = parallel.add([[(((a - mean) * t.mask) ** 2).sum()] for t, a in pairs])
        std = (squares / (count - 1).clamp(min=1)).sqrt()
        return [
            Judged(t, (a - mean) * t.mask / (std + 1e-8), a + t.value, share)
            for (t, a), share in zip(pairs, shares, strict=True)
        ]

    def _minibatches(self, held: Sequence[Judged]) -> Iterator[list[Judged]]:
        """Yield the part of each block's trials for each gradient, in a random order."""
        sizes = [len(block.advantage) for block in held]
        for epoch in range(self.config.epochs):
            path = self._seed, seeds.TRIALS, self._steps, epoch
            for each in shuffled(sizes, self.config.minibatches, path):
                yield [_rows(block, rows) for block, rows in zip(held, each, strict=True)]

    def _derived(self, held: Sequence[Judged]) -> tuple[Sums, Tensor, MetaParameters]:
        """Return one minibatch's sums, its number of steps, and the loss's gradient."""
        (real,) = parallel.add([[block.trials.mask.sum()] for block in held])
        found = [self._gradient(block) for block in held]
        (*sums,) = parallel.add(found)
        gradient = [value / real for value in sums[len(Sums._fields) :]]
        theta = dict(zip(self.meta.theta, gradient, strict=True))
        return Sums(*sums[: len(Sums._fields)]), real, MetaParameters(theta, {})

    def _gradient(self, block: Judged) -> list[Tensor]:
        """Return a block's sums, and the gradient of its summed loss, one part after another."""
        total, state = [], None
        with torch.enable_grad():
            theta = {n: v.detach().requires_grad_() for n, v in self.meta.theta.items()}
            for part in _parts(block, self.config.truncation):
                found = self.recall(theta, part.trials, state)
                sums = ppo_sums(found, part, self.config)
                gradient = torch.autograd.grad(sums.loss, [*theta.values()])
                one = [*(value.detach() for value in sums), *gradient]
                total = [a + b for a, b in zip(total, one, strict=True)] if total else one
                state = found.state.detach()
        return total


def ppo_sums(found: Recalled, block: Judged, config: RL2Config) -> Sums:
    """Return PPO's loss and diagnostics of trials, summed over their real steps.

    Per step, the loss is stable-baselines3's, with the value's error in the critic's units.

    Args:
        found: the policy's outputs on the trials.
        block: the trials, their advantages and the values' targets.
        config: clip range and coefficients.
    """
    trials, mask = block.trials, block.trials.mask
    # Masked before the exponential: padding must not overflow and add inf * 0 to the sum.
    log_ratio = (found.policy.log_prob(trials.action) - trials.log_prob) * mask
    ratio = log_ratio.exp()
    bounded = ratio.clamp(1 - config.clip, 1 + config.clip)
    gain = torch.minimum(ratio * block.advantage, bounded * block.advantage)
    error = ((found.value * block.share - block.target) / found.unit * mask) ** 2
    bonus = config.entropy_coefficient * found.policy.entropy()
    loss = ((config.value_coefficient * error - gain - bonus) * mask).sum()
    outside = (((ratio - 1).abs() > config.clip) * mask).sum()
    return Sums(loss, error.sum(), ((ratio - 1 - log_ratio) * mask).sum(), outside)


def shuffled(
    sizes: Sequence[int], parts: int, path: tuple[int, ...]
) -> Iterator[tuple[Tensor, ...]]:
    """Yield the trials of each block for each minibatch of one pass, in a random order.

    Args:
        sizes: trials of each block that this process holds.
        parts: the number of minibatches.
        path: a seed, and the numbers of its use.
    """
    first, orders = parallel.rank() * len(sizes), []
    for number, size in enumerate(sizes, first):
        generator = seeds.generator(seeds.derive(*path, number))
        orders.append(torch.randperm(size, generator=generator).tensor_split(parts))
    yield from zip(*orders, strict=True)


def cut(trials: Trials, rows: Tensor) -> Trials:
    """Return some of the trials, as long as the longest of them."""
    chosen = Trials(*(value[rows.to(value.device)] for value in trials))
    longest = int(chosen.mask.sum(1).max())
    return Trials(*(value[:, :longest] for value in chosen))


def _rows(block: Judged, rows: Tensor) -> Judged:
    """Return some of the trials, as long as the longest of them."""
    trials, rows = cut(block.trials, rows), rows.to(block.advantage.device)
    longest = trials.mask.shape[1]
    return Judged(trials, *(value[rows, :longest] for value in block[1:]))


def _parts(block: Judged, length: int | None) -> Iterator[Judged]:
    """Yield the trials' steps in parts of a length; all at once when None."""
    steps = block.advantage.shape[1]
    for start in range(0, steps, length or steps):
        yield _steps(block, slice(start, start + (length or steps)))


def _steps(block: Judged, steps: slice) -> Judged:
    """Return some of the trials' steps."""
    trials = Trials(*(value[:, steps] for value in block.trials))
    return Judged(trials, *(value[:, steps] for value in block[1:]))


def _explained(held: Sequence[Judged]) -> float:
    """Return the fraction of the targets' variance that the values explain, the mean of blocks."""
    each = [[explained(b.target, b.trials.value, b.trials.mask)] for b in held]
    return float(parallel.add(each)[0]) / (len(held) * parallel.ranks())
