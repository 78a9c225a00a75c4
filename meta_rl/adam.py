"""MAML's outer step by Adam on the meta-gradient (Finn et al. 2017, algorithms 1 and 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from meta_rl.config import AdamConfig
from meta_rl.core import InnerLoop
from meta_rl.outer import (
    StepOnData,
    load_optimizer_tensors,
    optimizer_of,
    optimizer_tensors,
)
from meta_rl.types import Meta


class Adam(StepOnData):
    """``(theta, rule) <- Adam((theta, rule), outer gradient)``.

    Args:
        config: its settings.
        inner: the inner loop.
        meta: leaf tensors, changed in place by :meth:`step`.
    """

    def __init__(self, config: AdamConfig, inner: InnerLoop, meta: Meta):
        self.config, self.inner, self.meta = config, inner, meta
        rates = config.learning_rate, config.step_size_learning_rate
        self._optimizer = optimizer_of(torch.optim.Adam, meta, *rates)
        self._rates = [group["lr"] for group in self._optimizer.param_groups]

    def step(self, supports: Sequence[Any], query: Any) -> dict[str, Tensor | float]:
        """Update ``meta`` in place; a non-finite gradient is skipped and counted.

        Returns:
            ``train/outer_loss``, gradient norms, and ``train/skipped`` where it was.
        """
        loss, gradient = self.inner.meta_gradient(self.meta, supports, query)
        norm = self.descend(gradient)
        metrics: dict[str, Tensor | float] = {"train/outer_loss": loss, "train/grad_norm": norm}
        return metrics if torch.isfinite(norm) else metrics | {"train/skipped": 1.0}

    def descend(self, gradient: Meta, scale: float = 1.0) -> Tensor:
        """One step of Adam on any gradient, or none where it is not finite.

        Args:
            gradient: like ``meta``.
            scale: multiplies the learning rates, for this step.

        Returns:
            The gradient's norm before ``max_grad_norm`` shortened it.
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
        """Adam's moments and step counts, as named tensors."""
        return optimizer_tensors(self._optimizer)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave."""
        load_optimizer_tensors(self._optimizer, state)
