"""The inner and the outer loop, once, for every algorithm and both kinds of data.

Finn et al. 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", with a
general inner update rule. For tasks m = 1..M with support data D[m, 0..K-1] and query data Q[m]:

    phi[m, 0]   = theta
    phi[m, k+1] = rule(phi[m, k], grad loss(phi[m, k], D[m, k]))        inner loop
    outer(theta, rule) = mean_m loss(phi[m, K], Q[m])                   outer loss

An objective supplies ``loss(params_of_one_task, batch_of_one_task) -> scalar`` and nothing more;
all M tasks are one leading tensor dimension that :func:`over_tasks` walks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from meta_rl.rules import Rule
from meta_rl.types import Meta, Params

Loss = Callable[[Params, Any], Tensor]
"""``loss(params, batch)`` of one task; a scalar."""

Objective = Callable[[Sequence[Params], Sequence[Any], Any], Tensor]
"""``objective([phi[0], ..., phi[K]], supports, query)`` of one task; a scalar."""


@dataclass(frozen=True, kw_only=True)
class InnerLoop:
    """How one task is learned: the loss, the update rule, and how the M tasks are walked.

    ``outer_loss`` is the loss on query data, where it is not the one that is adapted on.
    ``exploration_loss(phi_k, support_k, query)`` joins it for every inner step k, where the support
    data depend on the parameters that sampled them and the outer loop is to answer for that.
    """

    loss: Loss
    rule: Rule
    outer_loss: Loss | None = None
    exploration_loss: Callable[[Params, Any, Any], Tensor] | None = None
    first_order: bool = False
    tasks_at_once: int | None = None

    def adapt(
        self, meta: Meta, supports: Sequence[Any], num_tasks: int, *, own_meta: bool = False
    ) -> Params:
        """The adapted parameters phi after one inner step on each of the K supports.

        A pure function of its arguments, differentiable in ``meta``. Sampling, the outer gradient,
        curvature products, line searches, evaluation and deployment all call this.

        Args:
            meta: what the outer loop learns; tensors without a task dimension.
            supports: K batches, leaves ``(M, ...)``.
            num_tasks: M.
            own_meta: whether every task starts from a Meta of its own (a member of a population):
                then its tensors have a leading M too.

        Returns:
            Parameters named like theta's, each ``(M, ...)``.
        """
        if not supports:
            theta = self.rule.begin(meta.theta)
            return dict(theta) if own_meta else expand(theta, num_tasks)

        def adapt_one(meta: Meta, supports: Sequence[Any]) -> Params:
            *_, phi = self._walk(meta, supports)
            return phi

        in_dims = (0 if own_meta else None, 0)
        return over_tasks(adapt_one, in_dims, self.tasks_at_once)(meta, list(supports))

    def path(
        self, meta: Meta, supports: Sequence[Any], num_tasks: int, *, own_meta: bool = False
    ) -> list[Params]:
        """Parameters after 0..K steps, where :meth:`adapt` gives the last; each ``(M, ...)``."""
        if not supports:
            return [self.adapt(meta, supports, num_tasks, own_meta=own_meta)]
        in_dims = (0 if own_meta else None, 0)
        walk = over_tasks(lambda *one: list(self._walk(*one)), in_dims, self.tasks_at_once)
        return walk(meta, list(supports))

    def outer_losses(
        self, meta: Meta, supports: Sequence[Any], query: Any, objective: Objective | None = None
    ) -> Tensor:
        """Each task's outer loss, ``(M,)``: that of phi[K] on its query data, or an objective's."""
        if objective:
            path = self.path(meta, supports, num_tasks(query))
            every = over_tasks(objective, (0, 0, 0), self.tasks_at_once)
            return every(path, list(supports), query)
        phi = self.adapt(meta, supports, num_tasks(query))
        losses = over_tasks(self.outer_loss or self.loss, (0, 0), self.tasks_at_once)(phi, query)
        return losses + self.exploration_losses(meta, supports, query)

    def exploration_losses(self, meta: Meta, supports: Sequence[Any], query: Any) -> Tensor | float:
        """What each task's loss owes to how supports were sampled: ``(M,)``, or 0 if unasked."""
        if self.exploration_loss is None:
            return 0.0
        of_step = over_tasks(self.exploration_loss, (0, 0, 0), self.tasks_at_once)
        phis = self.path(meta, supports[:-1], num_tasks(query))
        return sum(
            of_step(phi, support, query) for phi, support in zip(phis, supports, strict=True)
        )

    def meta_gradient(
        self, meta: Meta, supports: Sequence[Any], query: Any, objective: Objective | None = None
    ) -> tuple[Tensor, Meta]:
        """The outer loss (mean over tasks) and its gradient in theta and the rule.

        Walks ``tasks_at_once`` tasks forward *and* backward before the next ones, so that memory
        is bounded by them.
        """
        leaves = [leaf.detach().requires_grad_() for leaf in tree_leaves(meta)]
        learned = unflatten_like(meta, leaves)
        total_tasks = num_tasks(query)
        size = self.tasks_at_once or total_tasks
        loss, gradient = torch.zeros(()), None
        for start in range(0, total_tasks, size):
            part = [select(batch, slice(start, start + size)) for batch in (*supports, query)]
            losses = self.outer_losses(learned, part[:-1], part[-1], objective)
            part_loss = losses.sum() / total_tasks
            part_gradient = torch.autograd.grad(
                part_loss, leaves, allow_unused=True, materialize_grads=True
            )
            loss = loss.to(part_loss) + part_loss.detach()
            gradient = part_gradient if gradient is None else _sum(gradient, part_gradient)
        return loss, unflatten_like(meta, gradient or ())

    def _walk(self, meta: Meta, supports: Sequence[Any]) -> Iterator[Params]:
        """One task's phi after 0..K steps."""
        phi, state = self.rule.begin(meta.theta), self.rule.start(meta.theta)
        yield phi
        for k, support in enumerate(supports):
            at = tree_map(Tensor.detach, phi) if self.first_order else phi
            moving = {name: at[name] for name in self.rule.adapts(at)}
            gradient, loss = torch.func.grad_and_value(
                lambda part, at=at, support=support: self.loss({**at, **part}, support)
            )(moving)
            phi, state = self.rule.step(meta.rule, k, phi, gradient, loss, state)
            yield phi


def over_tasks(function: Callable, in_dims: tuple, tasks_at_once: int | None) -> Callable:
    """Map a function of one task over all tasks.

    Args:
        function: of one task's arguments.
        in_dims: 0 for an argument with a leading M, None for one shared by all tasks.
        tasks_at_once: all in one ``vmap`` (None), so many per ``vmap``, or 1 for a plain loop
            without vmap. Which is fastest depends on model and device: vmap wins several times
            over on small dense networks and loses to the loop on CPU convolutions.
    """
    if tasks_at_once != 1:
        return torch.vmap(function, in_dims=in_dims, chunk_size=tasks_at_once)

    def loop(*arguments: Any) -> Any:
        pairs = list(zip(arguments, in_dims, strict=True))
        count = next(num_tasks(value) for value, dim in pairs if dim == 0)
        results = [
            function(*(value if dim is None else select(value, m) for value, dim in pairs))
            for m in range(count)
        ]
        return tree_map(lambda *each: torch.stack(each), *results)

    return loop


def expand(theta: Params, num_tasks: int) -> Params:
    """Theta as the parameters of M tasks: every tensor viewed as ``(M, ...)``."""
    return {name: value.expand(num_tasks, *value.shape) for name, value in theta.items()}


def num_tasks(batch: Any) -> int:
    """M, the length of the batch's leading dimension."""
    return tree_leaves(batch)[0].shape[0]


def select(batch: Any, tasks: int | slice) -> Any:
    """One task's part of a batch, or a slice of its tasks."""
    return tree_map(lambda value: value[tasks], batch)


def unflatten_like(meta: Meta, leaves: Sequence[Tensor]) -> Meta:
    """Tensors in the order of ``tree_leaves(meta)`` as a Meta of the same names."""
    remaining = iter(leaves)
    return tree_map(lambda _: next(remaining), meta)


def _sum(left: Sequence[Tensor], right: Sequence[Tensor]) -> list[Tensor]:
    return [a + b for a, b in zip(left, right, strict=True)]
