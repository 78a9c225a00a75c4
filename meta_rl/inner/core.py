"""The inner loop and the outer loss, for every algorithm and both kinds of data.

Finn et al. 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", with a
general inner update rule. For tasks m = 1..M with support data D[m, 0..K-1] and query data Q[m]:

    phi[m, 0]   = theta
    phi[m, k+1] = rule(phi[m, k], grad loss(phi[m, k], D[m, k]))        inner loop
    outer(theta, rule) = mean_m loss(phi[m, K], Q[m])                   outer loss

A problem supplies ``loss(params, batch) -> scalar`` for one task. The M tasks are a leading tensor
dimension (:mod:`meta_rl.tasks`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from meta_rl.inner.recording import Usual, programmed
from meta_rl.inner.rules import Rule
from meta_rl.machine import parallel
from meta_rl.tasks import expand, in_parts, num_tasks, over_tasks, summed, unflatten_like
from meta_rl.types import MetaParameters, Params

Loss = Callable[[Params, Any], Tensor]
"""A loss ``(params, batch) -> scalar`` of one task."""

Objective = Callable[[Sequence[Params], Sequence[Any], Any], Tensor]
"""An objective ``([phi[0], ..., phi[K]], supports, query) -> scalar`` of one task."""


@dataclass(frozen=True, kw_only=True)
class InnerLoop:
    """Adapts to tasks by gradient, and computes the outer loss and its gradient.

    ``outer_loss`` is the loss on query data; the inner loss when None.
    ``exploration_loss(phi_k, support_k, query)`` is added for every inner step k. It is the part of
    the outer loss that depends on how phi_k sampled the support data; None leaves it out.
    ``tasks_at_once`` is as in :func:`meta_rl.tasks.over_tasks`.
    ``program`` is how the meta-gradient, and adapting to collect data, run: ``plain``, ``recorded``
    or ``compiled``, and ``usual`` the shapes to compile; see
    :func:`meta_rl.inner.recording.programmed`.
    """

    loss: Loss
    rule: Rule
    outer_loss: Loss | None = None
    exploration_loss: Callable[[Params, Any, Any], Tensor] | None = None
    first_order: bool = False
    tasks_at_once: int | None = None
    program: str = "plain"
    usual: Usual | None = None

    def walk(self, meta: MetaParameters, supports: Sequence[Any]) -> Iterator[Params]:
        """Yield one task's phi after 0..K inner steps."""
        phi, state = self.rule.starting_point(meta.theta), self.rule.initial_state(meta.theta)
        yield phi
        for k, support in enumerate(supports):
            at = tree_map(Tensor.detach, phi) if self.first_order else phi
            moving = {name: at[name] for name in self.rule.adapts(at)}
            gradient, loss = torch.func.grad_and_value(
                lambda part, at=at, support=support: self.loss({**at, **part}, support)
            )(moving)
            phi, state = self.rule.step(meta.rule, k, phi, gradient, loss, state)
            yield phi

    def adapt(
        self,
        meta: MetaParameters,
        supports: Sequence[Any],
        num_tasks: int,
        *,
        own_meta: bool = False,
    ) -> Params:
        """Return every task's phi[K], the parameters after one inner step on each of K supports.

        A pure function of its arguments, differentiable in ``meta``. Sampling, the outer gradient,
        curvature products, line searches, evaluation and deployment all call this.

        Args:
            meta: the meta-parameters to adapt from; tensors without a task dimension.
            supports: K batches, leaves ``(M, ...)``.
            num_tasks: M.
            own_meta: whether every task has its own meta-parameters (a member of a population):
                the tensors of ``meta`` then have a leading M.

        Returns:
            Parameters named like theta's, each ``(M, ...)``.
        """
        if not supports:
            theta = self.rule.starting_point(meta.theta)
            return dict(theta) if own_meta else expand(theta, num_tasks)
        last = self.over_tasks(lambda *one: [*self.walk(*one)][-1], 0 if own_meta else None, 0)
        return last(meta, list(supports))

    @cached_property
    def adapted(self) -> Callable[[MetaParameters, list[Any], int], Params]:
        """:meth:`adapt` as ``program`` says, to collect data with: it may have no derivative."""
        return programmed(self.adapt, self.program, self.usual)

    def path(
        self,
        meta: MetaParameters,
        supports: Sequence[Any],
        num_tasks: int,
        *,
        own_meta: bool = False,
    ) -> list[Params]:
        """Return every task's phi[0], ..., phi[K]; arguments as in :meth:`adapt`."""
        if not supports:
            return [self.adapt(meta, supports, num_tasks, own_meta=own_meta)]
        walk = self.over_tasks(lambda *one: [*self.walk(*one)], 0 if own_meta else None, 0)
        return walk(meta, list(supports))

    def query_loss(self, phi: Params, query: Any) -> Tensor:
        """Return one task's outer loss of the parameters phi, without exploration; a scalar."""
        return (self.outer_loss or self.loss)(phi, query)

    def outer_losses(
        self,
        meta: MetaParameters,
        supports: Sequence[Any],
        query: Any,
        objective: Objective | None = None,
    ) -> Tensor:
        """Return each task's outer loss, ``(M,)``: of phi[K] on its query, or an objective."""
        if objective:
            path = self.path(meta, supports, num_tasks(query))
            return self.over_tasks(objective, 0, 0, 0)(path, list(supports), query)
        phi = self.adapt(meta, supports, num_tasks(query))
        losses = self.over_tasks(self.query_loss, 0, 0)(phi, query)
        return losses + self.exploration_losses(meta, supports, query)

    def exploration_losses(
        self, meta: MetaParameters, supports: Sequence[Any], query: Any
    ) -> Tensor | float:
        """Return each task's sum of exploration losses over inner steps, ``(M,)``, or 0 if none."""
        if self.exploration_loss is None or not supports:
            return 0.0
        of_step = self.over_tasks(self.exploration_loss, 0, 0, 0)
        phis = self.path(meta, supports[:-1], num_tasks(query))
        return sum(of_step(phi, data, query) for phi, data in zip(phis, supports, strict=True))

    def meta_gradient(
        self,
        meta: MetaParameters,
        supports: Sequence[Any],
        query: Any,
        part: Callable[..., list[Tensor]] | None = None,
    ) -> tuple[Tensor, MetaParameters]:
        """Return the outer loss (mean over tasks) and its gradient in theta and the rule.

        Runs ``tasks_at_once`` tasks forward *and* backward before the next, which bounds memory.
        Batches may be a :class:`meta_rl.machine.parallel.BlockedBatch`; the mean is then over the
        tasks of all processes.

        Args:
            meta: the meta-parameters.
            supports: K batches, leaves ``(M, ...)``.
            query: the batch of the outer loss, leaves ``(M, ...)``.
            part: :meth:`gradient_part` of an objective; that of the outer loss if None.
        """
        tasks, of_part = parallel.tasks_of(query), part or self._gradient_part

        def of_block(batches: Sequence[Any]) -> list[Tensor]:
            parts = in_parts(batches, self.tasks_at_once)
            return summed(of_part(meta, each, tasks) for each in parts)

        blocks = parallel.blocks_of(supports, query)
        loss, *gradient = parallel.add([of_block((*held, own)) for held, own in blocks])
        return loss, unflatten_like(meta, gradient)

    def gradient_part(
        self,
        meta: MetaParameters,
        batches: Sequence[Any],
        tasks: int,
        objective: Objective | None = None,
    ) -> list[Tensor]:
        """Return the batches' part of the mean outer loss over ``tasks`` tasks, and its gradient.

        Their sum over all batches is the loss and the gradient's leaves.
        """
        leaves = [leaf.detach().requires_grad_() for leaf in tree_leaves(meta)]
        learned, (*supports, query) = unflatten_like(meta, leaves), batches
        loss = self.outer_losses(learned, supports, query, objective).sum() / tasks
        gradient = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
        return [loss.detach(), *gradient]

    @cached_property
    def _gradient_part(self) -> Callable[..., list[Tensor]]:
        return self.program_of_part(None)

    def program_of_part(self, objective: Objective | None) -> Callable[..., list[Tensor]]:
        """Return :meth:`gradient_part` of an objective as ``program`` says.

        Args:
            objective: depends on its arguments, and on tensors that are changed in place alone.
        """
        part = partial(self.gradient_part, objective=objective)
        return programmed(part, self.program, self.usual)

    def over_tasks(self, function: Callable[..., Any], *in_dims: int | None) -> Callable[..., Any]:
        """Map a function of one task over all tasks, ``tasks_at_once`` at a time."""
        return over_tasks(function, in_dims, self.tasks_at_once)
