"""MAML's outer step by trust-region policy optimization.

Schulman et al. 2015, "Trust Region Policy Optimization"; Finn et al. 2017, section 4.2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from meta_rl.config import TRPOConfig
from meta_rl.inner.core import InnerLoop
from meta_rl.inner.recording import prepared, programmed
from meta_rl.machine import parallel
from meta_rl.outer.curvature import KLCurvature
from meta_rl.outer.step import StepOnData, gradient_norms
from meta_rl.tasks import in_parts, num_tasks, summed, unflatten_like
from meta_rl.types import Distribution, Episodes, MetaParameters, Params


class TRPO(StepOnData):
    """A natural-gradient step on the outer loss, within a KL trust region.

        g = outer gradient;  H = J^T F J, the Hessian of the adapted policies' mean KL
        x = conjugate_gradient(H + damping, g)
        step = sqrt(2 max_kl / x.Hx) x
        for j in 0, 1, ...: accept theta - ratio^j step once the outer loss fell and KL <= max_kl

    Step sizes are part of the parameter vector, so the trust region covers their effect on the
    adapted policies. The KL is taken from the distributions stored while sampling.

    Args:
        config: settings of the outer step.
        inner: the inner loop.
        meta: the meta-parameters, leaf tensors; :meth:`step` changes them in place.
        distribution: the policy of one task, ``(params, episodes) -> Distribution``.
        policy_loss: the outer loss ``(distribution, episodes) -> scalar``. It replaces the outer
            loss of ``inner``, so that gradient and line search use one loss.
    """

    def __init__(
        self,
        config: TRPOConfig,
        inner: InnerLoop,
        meta: MetaParameters,
        distribution: Callable[[Params, Episodes], Distribution],
        policy_loss: Callable[[Distribution, Episodes], Tensor],
    ):
        def outer_loss(phi: Params, query: Episodes) -> Tensor:
            return policy_loss(distribution(phi, query), query)

        self.config, self.meta = config, meta
        self.inner = dataclasses.replace(inner, outer_loss=outer_loss)
        self.distribution, self.policy_loss = distribution, policy_loss
        self._curved = prepared(self._curvature_of, inner.program, inner.usual)
        self._tried = programmed(self._sums, inner.program, inner.usual)

    def step(self, supports: Sequence[Episodes], query: Episodes) -> dict[str, float]:
        """Update ``meta`` in place, or leave it if the line search finds no improvement.

        Returns:
            ``train/outer_loss``, ``train/kl`` (nats), ``train/line_search_trials``,
            ``train/accepted`` (0 or 1), ``train/step_scale`` (ratio^j), ``train/cg_iterations``
            and gradient norms.
        """
        loss, meta_gradient = self.inner.meta_gradient(self.meta, supports, query)
        gradient = tree_leaves(meta_gradient)
        metrics = {"train/outer_loss": float(loss), **gradient_norms(meta_gradient)}
        finite = all(bool(torch.isfinite(g).all()) for g in gradient)
        if not finite:
            return metrics | {"train/accepted": 0.0, "train/kl": 0.0, "train/skipped": 1.0}

        config, product = self.config, self._curvature(supports, query)
        limits = config.cg_iterations, config.cg_progress
        direction, residual, products = conjugate_gradient(product, gradient, *limits)
        metrics["train/cg_iterations"] = float(products)
        # x.Hx without another product, by H x = g - residual.
        quadratic = float(_dot(direction, gradient) - _dot(direction, residual))
        scale = (2 * config.max_kl / max(quadratic, 1e-12)) ** 0.5
        full_step = [scale * d for d in direction]
        return metrics | self._line_search(full_step, float(loss), supports, query)

    def _curvature(self, supports: Sequence[Episodes], query: Episodes) -> Callable:
        damping, tasks = self.config.damping, parallel.tasks_of(query)

        def of_block(supports: Sequence[Episodes], query: Episodes) -> list[Callable]:
            kept = max(1, round(self.config.curvature_fraction * query.mask.shape[1]))
            batches = [tree_map(lambda leaf: leaf[:, :kept], batch) for batch in (*supports, query)]
            parts = in_parts(batches, self.inner.tasks_at_once)
            return [self._curved(self.meta, part[:-1], part[-1], tasks) for part in parts]

        curvatures = [of_block(*block) for block in parallel.blocks_of(supports, query)]

        def product(v: list[Tensor]) -> list[Tensor]:
            curved = parallel.add([summed(part(v) for part in parts) for parts in curvatures])
            return [h + damping * x for h, x in zip(curved, v, strict=True)]

        return product

    def _curvature_of(
        self, meta: MetaParameters, supports: Sequence[Episodes], query: Episodes, tasks: int
    ) -> KLCurvature:
        return KLCurvature(self.inner, self.distribution, meta, supports, query, tasks)

    @torch.no_grad()
    def _line_search(
        self, full_step: list[Tensor], loss: float, supports: Sequence[Episodes], query: Episodes
    ) -> dict[str, float]:
        leaves = tree_leaves(self.meta)
        for trial in range(self.config.backtracks):
            ratio = self.config.backtrack_ratio**trial
            moved = [leaf - ratio * s for leaf, s in zip(leaves, full_step, strict=True)]
            candidate = unflatten_like(self.meta, moved)
            new_loss, kl = self._loss_and_kl(candidate, supports, query)
            if new_loss < loss and kl <= self.config.max_kl:
                for leaf, value in zip(leaves, moved, strict=True):
                    leaf.copy_(value)
                return _search_metrics(True, trial + 1, ratio, kl, loss - new_loss)
        return _search_metrics(False, self.config.backtracks, 0.0, 0.0, 0.0)

    def _loss_and_kl(
        self, meta: MetaParameters, supports: Sequence[Episodes], query: Episodes
    ) -> tuple[float, float]:
        each = [
            self._tried(meta, supports, query)
            for supports, query in parallel.blocks_of(supports, query)
        ]
        loss, kl = parallel.add(each)
        return float(loss / parallel.tasks_of(query)), float(kl / parallel.tasks_of(query))

    def _sums(
        self, meta: MetaParameters, supports: Sequence[Episodes], query: Episodes
    ) -> list[Tensor]:
        """Return the sums over tasks of the outer loss and of the mean KL to the stored policy."""

        def of_task(params: Params, episodes: Episodes) -> tuple[Tensor, Tensor]:
            policy = self.distribution(params, episodes)
            kl = episodes.behaviour.kl(policy)
            mean_kl = (kl * episodes.mask).sum() / episodes.mask.sum().clamp(min=1.0)
            return self.policy_loss(policy, episodes), mean_kl

        phi = self.inner.adapt(meta, supports, num_tasks(query))
        losses, kls = self.inner.over_tasks(of_task, 0, 0)(phi, query)
        losses = losses + self.inner.exploration_losses(meta, supports, query)
        return [losses.sum(), kls.sum()]


def conjugate_gradient(
    product: Callable[[list[Tensor]], list[Tensor]],
    target: list[Tensor],
    iterations: int,
    progress: float = 1e-10,
) -> tuple[list[Tensor], list[Tensor], int]:
    """Solve ``A x = target`` approximately, for a positive semi-definite A given by its products.

    Stops early once an iteration adds less than the fraction ``progress`` to ``target . x``, twice
    the decrease of the quadratic model (after Martens 2010, "Deep learning via Hessian-free
    optimization", section 4.4), or if rounding makes a direction's curvature non-positive.

    Returns:
        x, the residual ``target - A x``, and the number of products taken.
    """
    solution = [torch.zeros_like(t) for t in target]
    residual = [t.clone() for t in target]
    direction = [t.clone() for t in target]
    squared = _dot(residual, residual)
    fallen = torch.zeros_like(squared)
    products = 0
    while products < iterations:
        products += 1
        curved = product(direction)
        curvature = _dot(direction, curved)
        if curvature <= 0:
            break
        alpha = squared / curvature
        solution = [s + alpha * d for s, d in zip(solution, direction, strict=True)]
        residual = [r - alpha * c for r, c in zip(residual, curved, strict=True)]
        fallen = fallen + alpha * squared
        if alpha * squared <= progress * fallen:
            break
        previous, squared = squared, _dot(residual, residual)
        beta = squared / previous
        direction = [r + beta * d for r, d in zip(residual, direction, strict=True)]
    return solution, residual, products


def _dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    return torch.stack([(a * b).sum() for a, b in zip(left, right, strict=True)]).sum()


def _search_metrics(
    accepted: bool, trials: int, ratio: float, kl: float, improvement: float
) -> dict[str, float]:
    return {
        "train/accepted": float(accepted),
        "train/line_search_trials": float(trials),
        "train/step_scale": ratio,
        "train/kl": kl,
        "train/improvement": improvement,
    }
