"""Reptile's outer step (Nichol et al. 2018, "On First-Order Meta-Learning Algorithms").

It is the paper's algorithm 2, the batched version, with Adam as the outer optimizer (section 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from meta_rl.config import AdamConfig, ReptileConfig
from meta_rl.inner.core import InnerLoop
from meta_rl.machine import parallel
from meta_rl.naming import part_of, under
from meta_rl.outer.adam import Adam
from meta_rl.outer.step import StepOnData, take
from meta_rl.tasks import num_tasks
from meta_rl.types import MetaParameters, Params


class Reptile(StepOnData):
    """A step from theta towards the mean of the parameters adapted to M tasks.

        phi[m, K] = adapt(theta, rule, supports[m])
        theta <- theta + epsilon mean_m (phi[m, K] - theta)

    It does not differentiate through adaptation, and uses support data alone: K batches of
    episodes, or the support set K times. The query is only scored. The inner rule's tensors do not
    change. With linear decay, epsilon falls to 0 over the run's iterations.

    Args:
        config: settings of the outer step.
        inner: the inner loop.
        meta: the meta-parameters, leaf tensors; :meth:`step` changes them in place.
        iterations: iterations of the run.
    """

    def __init__(
        self, config: ReptileConfig, inner: InnerLoop, meta: MetaParameters, iterations: int
    ):
        self.config, self.inner, self.meta = config, inner, meta
        self._iterations, self._steps = iterations, 0
        adam = AdamConfig(learning_rate=config.learning_rate)
        self._adam = Adam(adam, inner, meta) if config.optimizer == "adam" else None

    @torch.no_grad()
    def step(self, supports: Sequence[Any], query: Any) -> dict[str, Tensor | float]:
        """Update theta in place; a step that is not finite is skipped and counted.

        Returns:
            ``train/outer_loss`` on the query data; ``train/grad_norm``, the length of
            theta - mean phi; ``train/outer_learning_rate``; and ``train/skipped`` if the step was
            skipped.
        """
        loss, phi = self._mean(supports, query)
        away = {name: value - phi[name] for name, value in self.meta.theta.items()}
        norm = torch.stack([value.norm() for value in away.values()]).norm()
        decay = max(0.0, 1 - self._steps / self._iterations) if self.config.linear_decay else 1.0
        rate = self.config.learning_rate * decay
        metrics: dict[str, Tensor | float] = {
            "train/outer_loss": loss,
            "train/grad_norm": norm,
            "train/outer_learning_rate": rate,
        }
        self._steps += 1
        if not torch.isfinite(norm):
            return metrics | {"train/skipped": 1.0}
        if self._adam:
            kept = {name: torch.zeros_like(value) for name, value in self.meta.rule.items()}
            self._adam.descend(MetaParameters(away, kept), decay)
        else:
            for name, value in self.meta.theta.items():
                value.sub_(rate * away[name])
        return metrics

    def _mean(self, supports: Sequence[Any], query: Any) -> tuple[Tensor, Params]:
        """Return the query loss and the adapted parameters, averaged over all processes' tasks."""

        def of_block(supports: Sequence[Any], query: Any) -> list[Tensor]:
            phi = self.inner.adapt(self.meta, supports, num_tasks(query))
            losses = self.inner.over_tasks(self.inner.query_loss, 0, 0)(phi, query)
            return [losses.sum(), *(phi[name].sum(0) for name in self.meta.theta)]

        sums = parallel.add([of_block(*block) for block in parallel.blocks_of(supports, query)])
        loss, *phi = (value / parallel.tasks_of(query) for value in sums)
        return loss, dict(zip(self.meta.theta, phi, strict=True))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the number of steps taken, and Adam's moments if Adam is used."""
        moments = self._adam.state_dict() if self._adam else {}
        return {"steps": torch.tensor(self._steps), **under("adam", moments)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the result of :meth:`state_dict`."""
        self._steps = int(take(dict(state), {"steps": torch.tensor(0)})["steps"])
        if self._adam:
            self._adam.load_state_dict(part_of("adam", state))
