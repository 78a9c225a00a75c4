"""Adam's whole step as one compiled program: the meta-gradient, clipping, and the moments.

Kingma and Ba 2015, "Adam: A Method for Stochastic Optimization", algorithm 1; the moments are those
of ``torch.optim.Adam``, which takes over wherever the program does not fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from meta_rl.inner.core import InnerLoop
from meta_rl.inner.recording import Program, Recorded
from meta_rl.tasks import copy_each
from meta_rl.types import MetaParameters


class FusedAdam:
    """Steps on the meta-gradient of one meta-batch.

    Args:
        inner: the inner loop, with compiled programs.
        meta: the meta-parameters, leaf tensors; a step changes them in place.
        optimizer: the optimizer whose moments a step changes in place.
        max_norm: largest norm of the gradient; None for no limit.
    """

    def __init__(
        self,
        inner: InnerLoop,
        meta: MetaParameters,
        optimizer: torch.optim.Optimizer,
        max_norm: float | None,
    ):
        self.inner, self.meta, self.max_norm = inner, meta, max_norm
        self._recorded = Recorded(self._stepped, "compiled", inner.usual)
        self._programs: dict[Any, Program | None] = {}
        self.attend(optimizer)

    def attend(self, optimizer: torch.optim.Optimizer) -> None:
        """Take the optimizer's tensors, which loading replaces."""
        self._programs.clear()
        leaves = tree_leaves(self.meta)
        groups = optimizer.param_groups
        self._beta1, self._beta2 = groups[0]["betas"]
        self._eps = groups[0]["eps"]
        of_leaf = {id(leaf): number for number, g in enumerate(groups) for leaf in g["params"]}
        self._group = [of_leaf[id(leaf)] for leaf in leaves]
        states: list[Any] = [optimizer.state[leaf] for leaf in leaves]
        self._moments = [[s["exp_avg"] for s in states], [s["exp_avg_sq"] for s in states]]
        self._counts = [s["step"] for s in states]
        self._rates, self._last = torch.zeros(len(groups), dtype=torch.float64), []
        self._tensors = [*leaves, *self._moments[0], *self._moments[1], self._counts[0]]

    def step(
        self, supports: Sequence[Any], query: Any, rates: list[float]
    ) -> tuple[Tensor, Tensor] | None:
        """Update the meta-parameters and moments in place, unless the gradient is not finite.

        Args:
            supports: K batches, leaves ``(M, ...)``.
            query: the query batch, leaves ``(M, ...)``.
            rates: the learning rate of each of the optimizer's groups.

        Returns:
            The outer loss, and the gradient's norm before clipping; None if no program fits the
            batches' shapes. Then nothing has changed.
        """
        batches = [*supports, query]
        given = tree_leaves(batches)
        if not all(isinstance(leaf, Tensor) for leaf in given):
            return None
        places = {id(leaf): place for place, leaf in enumerate(given)}
        key = tuple([(leaf.shape, leaf.stride(), places[id(leaf)]) for leaf in given])
        if key not in self._programs:
            arguments = self.meta, self._moments, self._counts[0], self._rates, batches
            self._programs[key] = self._recorded.program(*arguments)
        program = self._programs[key]
        if program is None:
            return None
        if rates != self._last:
            self._rates.copy_(torch.tensor(rates, dtype=torch.float64))
            self._last = rates
        with torch.no_grad():
            loss, norm, count, *values = program.rest(*self._tensors, self._rates, *given)
            copy_each(self._tensors[:-1], values)
            copy_each(self._counts, [count] * len(self._counts))
        return loss, norm

    def _stepped(
        self,
        meta: MetaParameters,
        moments: Sequence[Sequence[Tensor]],
        count: Tensor,
        rates: Tensor,
        batches: Sequence[Any],
    ) -> list[Tensor]:
        """Return the loss, the norm, the number of steps, and the new leaves and moments."""
        tasks = tree_leaves(batches)[0].shape[0]
        loss, *gradient = self.inner.gradient_part(meta, batches, tasks)
        norm = torch.stack([leaf.norm() for leaf in gradient]).norm()
        if self.max_norm is not None:
            shrink = (self.max_norm / (norm + 1e-6)).clamp(max=1.0)
            gradient = [leaf * shrink for leaf in gradient]
        finite, steps = torch.isfinite(norm), count.double() + 1
        # As torch's Adam does, in double precision: 1 - beta^t cancels.
        corrections = 1 - self._beta1**steps, (1 - self._beta2**steps).sqrt()
        found: list[list[Tensor]] = [[], [], []]
        for leaf, first, second, slope, group in zip(
            tree_leaves(meta), *moments, gradient, self._group, strict=True
        ):
            mean = first + (1 - self._beta1) * (slope - first)
            square = self._beta2 * second + (1 - self._beta2) * slope * slope
            length = (rates[group] / corrections[0]).to(leaf.dtype)
            root = square.sqrt() / corrections[1].to(leaf.dtype) + self._eps
            moved = leaf - length * mean / root
            new = moved, mean, square
            for old, value, to in zip((leaf, first, second), new, found, strict=True):
                to.append(torch.where(finite, value, old))
        taken = torch.where(finite, steps, steps - 1).to(count.dtype)
        return [loss, norm, taken, *found[0], *found[1], *found[2]]
