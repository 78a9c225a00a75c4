"""ProMP: several outer steps on the same data, held near the policies that sampled it.

Rothfuss et al. 2019, "ProMP: Proximal Meta-Policy Search", equations 13 to 15 and algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from meta_rl.config import AdamConfig, ProMPConfig
from meta_rl.inner.core import InnerLoop
from meta_rl.machine import parallel
from meta_rl.naming import part_of, under
from meta_rl.outer.adam import Adam
from meta_rl.outer.step import StepOnData, gradient_norms, take
from meta_rl.tasks import num_tasks
from meta_rl.types import Distribution, Episodes, MetaParameters, Params

RANGE = 2.0**20
"""An adaptive coefficient stays within this factor of where it began, so that it can come back."""


class Measures(NamedTuple):
    """What ProMP minimizes and what it watches; of one task, or with a leading M."""

    loss: Tensor  # (), the outer objective
    kl: Tensor  # (), nats, from the stored adapted policy to the recomputed one, on the query
    inner_kls: Tensor  # (K,), nats, the same at each inner step, on its support
    clip_fraction: Tensor  # (), share of the query's ratios outside 1 - clip, 1 + clip


class ProMP(StepOnData):
    """Epochs of Adam on the clipped ratio, with a penalty on how far the inner policies move.

        for each of the epochs, on the data of one iteration:
            phi[m, 0..K] = adapt(theta, rule, supports[m])           against the stored log-probs
            r = pi_phi[m, K](a|s) / stored pi(a|s)                   on the query data
            J = -mean min(r A, clip(r, 1 - eps, 1 + eps) A)
                + mean_k eta_k KL(stored pi_k, pi_phi[m, k])         on the support data
            (theta, rule) <- Adam((theta, rule), grad mean_m J)

    Each epoch adapts anew on the recorded supports with the inner loss of sampling, a likelihood
    ratio to the *stored* probabilities: as theta moves on, so does that ratio move away from one.
    Eta is fixed, or with a target doubles where its KL exceeds 1.5 times that, and halves below
    1 / 1.5; one eta per inner step, and their penalties averaged, as in the authors' code.

    Args:
        config: its settings.
        inner: the inner loop; its loss takes ratios to the stored log-probabilities.
        meta: leaf tensors, changed in place by :meth:`step`.
        distribution: ``(params, episodes) -> Distribution`` of one task.
        steps: K.
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
        self.kl_coefficient = theta.new_full((steps,), config.kl_coefficient)  # eta, (K,)
        adam = AdamConfig(
            learning_rate=config.learning_rate,
            step_size_learning_rate=config.step_size_learning_rate,
            max_grad_norm=config.max_grad_norm,
        )
        self._adam = Adam(adam, inner, meta)

    def step(self, supports: Sequence[Episodes], query: Episodes) -> dict[str, Tensor | float]:
        """Update ``meta`` in place; epochs from the first non-finite gradient on are skipped.

        Returns:
            ``train/outer_loss`` and gradient norms of the first epoch; after the last,
            ``train/outer_loss_after``, ``train/kl`` of the adapted policies and ``train/kl_inner``,
            the mean over inner steps (nats), and ``train/clip_fraction``; ``train/kl_coefficient``
            as it was in this step, and ``train/skipped`` where epochs were.
        """
        metrics: dict[str, Tensor | float] = {}
        for epoch in range(self.config.epochs):
            loss, gradient = self.inner.meta_gradient(self.meta, supports, query, self.objective)
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
            self.kl_coefficient = moved.clamp(start / RANGE, start * RANGE)
        return metrics

    def objective(
        self, path: Sequence[Params], supports: Sequence[Episodes], query: Episodes
    ) -> Tensor:
        """J of one task, the loss of its parameters phi[0..K]; a scalar."""
        return self._measure(path, supports, query).loss

    @torch.no_grad()
    def measure(self, supports: Sequence[Episodes], query: Episodes) -> Measures:
        """Every task's measures at the current MetaParameters, with a leading M."""
        path = self.inner.path(self.meta, supports, num_tasks(query))
        every = self.inner.over_tasks(self._measure, 0, 0, 0)
        return every(path, list(supports), query)

    def _mean(self, supports: Sequence[Episodes], query: Episodes) -> Measures:
        """The measures' mean over the tasks of all processes."""
        measured = [self.measure(*block) for block in parallel.blocks_of(supports, query)]
        sums = parallel.add([[value.sum(0) for value in measures] for measures in measured])
        return Measures(*(value / parallel.tasks_of(query) for value in sums))

    def state_dict(self) -> dict[str, Tensor]:
        """Adam's moments and eta."""
        return {"kl_coefficient": self.kl_coefficient, **under("adam", self._adam.state_dict())}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave."""
        like = {"kl_coefficient": self.kl_coefficient}
        self.kl_coefficient = take(dict(state), like)["kl_coefficient"].to(self.kl_coefficient)
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
    """``-mean min(r A, clip(r, 1 - clip, 1 + clip) A)`` over one task's real steps.

    Args:
        log_prob: of the actions taken, under the new policy, ``(B, T)``.
        episodes: with the stored log-probabilities.
        clip: epsilon.

    Returns:
        The loss, and the share of steps whose ratio r is outside the bounds; scalars.
    """
    mask, real = episodes.mask, episodes.mask.sum().clamp(min=1.0)
    # Masked before the exponential: padding must not overflow into the sum as inf * 0.
    ratio = torch.exp((log_prob - episodes.log_prob) * mask)
    bounded = ratio.clamp(1 - clip, 1 + clip)
    gain = torch.minimum(ratio * episodes.advantage, bounded * episodes.advantage)
    outside = ((ratio - 1).abs() > clip) * mask
    return -(gain * mask).sum() / real, outside.sum() / real


def adapt_coefficient(coefficient: Tensor, kl: Tensor, target: float) -> Tensor:
    """Coefficients doubled where ``kl > 1.5 target``, halved where ``kl < target / 1.5``."""
    doubled = torch.where(kl > 1.5 * target, 2 * coefficient, coefficient)
    return torch.where(kl < target / 1.5, coefficient / 2, doubled)


def _mean_kl(policy: Distribution, episodes: Episodes) -> Tensor:
    """KL(stored || policy) over one task's real steps; a scalar, in nats."""
    kl = episodes.behaviour.kl(policy)
    return (kl * episodes.mask).sum() / episodes.mask.sum().clamp(min=1.0)
