"""MAML's outer step by Adam on the meta-gradient (Finn et al. 2017, algorithms 1 and 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from meta_rl.config import AdamConfig, RL2Config
from meta_rl.inner.core import InnerLoop, Objective
from meta_rl.machine import parallel
from meta_rl.outer.fused import FusedAdam
from meta_rl.outer.step import (
    StepOnData,
    load_optimizer_tensors,
    optimizer_of,
    optimizer_tensors,
    start_moments,
    take,
)
from meta_rl.tasks import num_tasks
from meta_rl.types import MetaParameters, Params


def annealed(config: AdamConfig | RL2Config, done: float) -> float:
    """Return the learning rate's factor when the fraction ``done`` of the run is done."""
    if config.final_learning_rate is None:
        return 1.0
    least = config.final_learning_rate / config.learning_rate
    return least + (1 - least) * (1 + math.cos(math.pi * done)) / 2


class Adam(StepOnData):
    """``(theta, rule) <- Adam((theta, rule), outer gradient)``.

    Its tensors are the same objects from the start on, and change in place.

    Args:
        config: settings of the outer step.
        inner: the inner loop.
        meta: the meta-parameters, leaf tensors; :meth:`step` changes them in place.
        iterations: iterations of the run, for learning rates that decay over it.
    """

    def __init__(
        self, config: AdamConfig, inner: InnerLoop, meta: MetaParameters, iterations: int = 1
    ):
        self.config, self.inner, self.meta = config, inner, meta
        self.steady = type(self) is Adam  # a subclass may replace tensors of its own
        self._iterations, self._steps = iterations, torch.tensor(0)
        rates = config.learning_rate, config.step_size_learning_rate
        self._optimizer = optimizer_of(torch.optim.Adam, meta, *rates)
        self._rates = [group["lr"] for group in self._optimizer.param_groups]
        start_moments(self._optimizer)
        compiled = isinstance(inner, InnerLoop) and inner.program == "compiled"
        given = inner, meta, self._optimizer, config.max_grad_norm
        self._fused = FusedAdam(*given) if compiled else None

    def step(self, supports: Sequence[Any], query: Any) -> dict[str, Tensor | float]:
        """Update ``meta`` in place; a non-finite gradient is skipped and counted.

        Returns:
            ``train/outer_loss``, gradient norms, and ``train/skipped`` if the step was skipped.
        """
        objective, scale = self._multi_step(self._done()), annealed(self.config, self._done())
        taken = None if objective else self._in_one(supports, query, scale)
        if taken is None:
            part = partial(self.inner.gradient_part, objective=objective) if objective else None
            loss, gradient = self.inner.meta_gradient(self.meta, supports, query, part)
            taken = loss, self.descend(gradient, scale)
        loss, norm = taken
        self._steps += 1
        metrics: dict[str, Tensor | float] = {"train/outer_loss": loss, "train/grad_norm": norm}
        return metrics if torch.isfinite(norm) else metrics | {"train/skipped": 1.0}

    def _in_one(
        self, supports: Sequence[Any], query: Any, scale: float
    ) -> tuple[Tensor, Tensor] | None:
        """Take the step by one program, if there is one for the batches."""
        if self._fused is None or isinstance(query, parallel.BlockedBatch):
            return None
        at_once = self.inner.tasks_at_once
        if at_once is not None and at_once < num_tasks(query):
            return None
        return self._fused.step(supports, query, [rate * scale for rate in self._rates])

    def descend(self, gradient: MetaParameters, scale: float = 1.0) -> Tensor:
        """Take one step of Adam on a gradient, or none if the gradient is not finite.

        Args:
            gradient: any gradient in ``meta``.
            scale: factor of the learning rates, for this step only.

        Returns:
            The gradient's norm before clipping to ``max_grad_norm``.
        """
        leaves = tree_leaves(self.meta)
        for leaf, value in zip(leaves, tree_leaves(gradient), strict=True):
            leaf.grad = value
        norm = torch.nn.utils.clip_grad_norm_(leaves, self.config.max_grad_norm or float("inf"))
        if torch.isfinite(norm):
            for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
                group["lr"] = rate * scale
            self._optimizer.step()
        return norm

    def state_dict(self) -> dict[str, Tensor]:
        """Return Adam's moments and the number of steps, as named tensors."""
        return {"steps": self._steps, **optimizer_tensors(self._optimizer)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the result of :meth:`state_dict`."""
        moments = dict(state)
        self._steps.copy_(take(moments, {"steps": self._steps})["steps"])
        load_optimizer_tensors(self._optimizer, moments)
        start_moments(self._optimizer)
        if self._fused is not None:
            self._fused.attend(self._optimizer)

    def _done(self) -> float:
        """Return the fraction of the run that is done."""
        return min(1.0, int(self._steps) / self._iterations)

    def _multi_step(self, done: float) -> Objective | None:
        """Return MAML++'s multi-step loss, or None after ``config.multi_step_fraction`` of the run.

        It is ``sum_k w_k loss(phi[k], Q)`` over k = 1..K, with ``w_k = (1 - faded) / K`` for k < K;
        the weights sum to 1.
        """
        if done >= self.config.multi_step_fraction:
            return None
        faded = done / self.config.multi_step_fraction

        def objective(path: Sequence[Params], supports: Sequence[Any], query: Any) -> Tensor:
            losses = torch.stack([self.inner.query_loss(phi, query) for phi in path[1:] or path])
            return faded * losses[-1] + (1 - faded) * losses.mean()

        return objective
