"""ProMP: several outer steps on the same data, kept near the policies that sampled it.

Rothfuss et al. 2019, "ProMP: Proximal Meta-Policy Search", equations 13 to 15 and algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from meta_rl.config import AdamConfig, ProMPConfig
from meta_rl.inner.core import InnerLoop
from meta_rl.inner.recording import programmed
from meta_rl.machine import parallel
from meta_rl.naming import part_of, under
from meta_rl.outer.adam import Adam
from meta_rl.outer.step import StepOnData, gradient_norms, take
from meta_rl.tasks import num_tasks
from meta_rl.types import Distribution, Episodes, MetaParameters, Params

RANGE = 2.0**20
"""Largest factor between an adaptive coefficient and its initial value, so that it can return."""


class Measures(NamedTuple):
    """ProMP's loss and diagnostics, of one task or with a leading M."""

    loss: Tensor  # (), the outer objective
    kl: Tensor  # (), nats, KL(stored || recomputed) of the adapted policy on the query
    inner_kls: Tensor  # (K,), nats, the same KL at each inner step, on its support
    clip_fraction: Tensor  # (), fraction of the query's ratios outside [1 - clip, 1 + clip]


class ProMP(StepOnData):
    """Epochs of Adam on the clipped ratio, with a KL penalty on each inner step's policy.

        for each of the epochs, on the data of one iteration:
            phi[m, 0..K] = adapt(theta, rule, supports[m])           against the stored log-probs
            r = pi_phi[m, K](a|s) / stored pi(a|s)                   on the query data
            J = -mean min(r A, clip(r, 1 - eps, 1 + eps) A)
                + mean_k eta_k KL(stored pi_k, pi_phi[m, k])         on the support data
            (theta, rule) <- Adam((theta, rule), grad mean_m J)

    Each epoch adapts again on the recorded supports. The inner loss is that of sampling, a
    likelihood ratio to the *stored* probabilities; the ratio moves away from 1 as theta changes.
    Each inner step has its own eta, and their penalties are averaged, as in the authors' code. Eta
    is fixed; or, with a target KL, doubles if the KL exceeds 1.5 times the target, and halves if
    the KL falls below the target / 1.5.

    Args:
        config: settings of the outer step.
        inner: the inner loop; its loss takes ratios to the stored log-probabilities.
        meta: the meta-parameters, leaf tensors; :meth:`step` changes them in place.
        distribution: the policy of one task, ``(params, episodes) -> Distribution``.
        steps: K inner steps.
    """

    def __init__(
        self,
        config: ProMPConfig,
        inner: InnerLoop,
        meta: MetaParameters,
        distribution: Callable[[Params, Episodes], Distribution],
        steps: int,
    ):
        self.config, self.inner, self.meta = config, inner, meta
        self.distribution = distribution
        theta = next(iter(meta.theta.values()))
        # eta, (K,): changed in place, because programs hold it.
        self.kl_coefficient = theta.new_full((steps,), config.kl_coefficient)
        adam = AdamConfig(
            learning_rate=config.learning_rate,
            step_size_learning_rate=config.step_size_learning_rate,
            max_grad_norm=config.max_grad_norm,
        )
        self._adam = Adam(adam, inner, meta)
        self._part = inner.program_of_part(self.objective)
        self._measured = programmed(self._of_tasks, inner.program, inner.usual)

    def step(self, supports: Sequence[Episodes], query: Episodes) -> dict[str, Tensor | float]:
        """Update ``meta`` in place; skip all epochs from the first non-finite gradient on.

        Returns:
            ``train/outer_loss`` and gradient norms of the first epoch. After the last epoch:
            ``train/outer_loss_after``; ``train/kl`` of the adapted policies and ``train/kl_inner``,
            the mean over inner steps, in nats; and ``train/clip_fraction``. Also
            ``train/kl_coefficient`` of this step, and ``train/skipped`` if epochs were skipped.
        """
        metrics: dict[str, Tensor | float] = {}
        for epoch in range(self.config.epochs):
            loss, gradient = self.inner.meta_gradient(self.meta, supports, query, self._part)
            norm = self._adam.descend(gradient)
            if epoch == 0:
                norms = {"train/grad_norm": norm, **gradient_norms(gradient)}
                metrics = {"train/outer_loss": loss, **norms}
            if not torch.isfinite(norm):
                metrics["train/skipped"] = 1.0
                break
        after = self._mean(supports, query)
        metrics |= {
            "train/outer_loss_after": after.loss,
            "train/kl": after.kl,
            "train/kl_inner": after.inner_kls.mean(),
            "train/clip_fraction": after.clip_fraction,
            "train/kl_coefficient": float(self.kl_coefficient.mean()),
        }
        if self.config.kl_target is not None and "train/skipped" not in metrics:
            moved = adapt_coefficient(self.kl_coefficient, after.inner_kls, self.config.kl_target)
            start = self.config.kl_coefficient
            self.kl_coefficient.copy_(moved.clamp(start / RANGE, start * RANGE))
        return metrics

    def objective(
        self, path: Sequence[Params], supports: Sequence[Episodes], query: Episodes
    ) -> Tensor:
        """Return J, the loss of one task's parameters phi[0..K]; a scalar."""
        return self._measure(path, supports, query).loss

    @torch.no_grad()
    def measure(self, supports: Sequence[Episodes], query: Episodes) -> Measures:
        """Return every task's measures at the current meta-parameters, with a leading M."""
        return self._measured(self.meta, list(supports), query)

    def _of_tasks(
        self, meta: MetaParameters, supports: Sequence[Episodes], query: Episodes
    ) -> Measures:
        path = self.inner.path(meta, supports, num_tasks(query))
        every = self.inner.over_tasks(self._measure, 0, 0, 0)
        return every(path, supports, query)

    def _mean(self, supports: Sequence[Episodes], query: Episodes) -> Measures:
        """Return the measures' mean over the tasks of all processes."""
        measured = [self.measure(*block) for block in parallel.blocks_of(supports, query)]
        sums = parallel.add([[value.sum(0) for value in measures] for measures in measured])
        return Measures(*(value / parallel.tasks_of(query) for value in sums))

    def state_dict(self) -> dict[str, Tensor]:
        """Return Adam's moments and eta, as named tensors."""
        return {"kl_coefficient": self.kl_coefficient, **under("adam", self._adam.state_dict())}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the result of :meth:`state_dict`."""
        like = {"kl_coefficient": self.kl_coefficient}
        self.kl_coefficient.copy_(take(dict(state), like)["kl_coefficient"])
        self._adam.load_state_dict(part_of("adam", state))

    def _measure(
        self, path: Sequence[Params], supports: Sequence[Episodes], query: Episodes
    ) -> Measures:
        before = zip(path[:-1], supports, strict=True)
        inner_kls = torch.stack(
            [_mean_kl(self.distribution(phi, support), support) for phi, support in before]
        )
        policy = self.distribution(path[-1], query)
        surrogate, clip_fraction = clipped_surrogate(
            policy.log_prob(query.action), query, self.config.clip
        )
        loss = surrogate + (self.kl_coefficient * inner_kls).mean()
        return Measures(loss, _mean_kl(policy, query), inner_kls, clip_fraction)


def clipped_surrogate(log_prob: Tensor, episodes: Episodes, clip: float) -> tuple[Tensor, Tensor]:
    """Return ``-mean min(r A, clip(r, 1 - clip, 1 + clip) A)`` over one task's real steps.

    Args:
        log_prob: the taken actions' log-probabilities under the new policy, ``(B, T)``.
        episodes: the task's episodes, with the stored log-probabilities.
        clip: epsilon.

    Returns:
        The loss, and the fraction of steps whose ratio r is outside the bounds; scalars.
    """
    mask, real = episodes.mask, episodes.mask.sum().clamp(min=1.0)
    # Masked before the exponential: padding must not overflow and add inf * 0 to the sum.
    ratio = torch.exp((log_prob - episodes.log_prob) * mask)
    bounded = ratio.clamp(1 - clip, 1 + clip)
    gain = torch.minimum(ratio * episodes.advantage, bounded * episodes.advantage)
    outside = ((ratio - 1).abs() > clip) * mask
    return -(gain * mask).sum() / real, outside.sum() / real


def adapt_coefficient(coefficient: Tensor, kl: Tensor, target: float) -> Tensor:
    """Double the coefficients where ``kl > 1.5 target``, halve them where ``kl < target / 1.5``."""
    doubled = torch.where(kl > 1.5 * target, 2 * coefficient, coefficient)
    return torch.where(kl < target / 1.5, coefficient / 2, doubled)


def _mean_kl(policy: Distribution, episodes: Episodes) -> Tensor:
    """Return the mean KL(stored || policy) over one task's real steps; a scalar, in nats."""
    kl = episodes.behaviour.kl(policy)
    return (kl * episodes.mask).sum() / episodes.mask.sum().clamp(min=1.0)
