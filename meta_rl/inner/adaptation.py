"""Adapt to tasks while collecting their data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from meta_rl.errors import NOT_FINITE
from meta_rl.inner.core import InnerLoop
from meta_rl.inner.gradient_free import GradientFreeLoop, Probes
from meta_rl.inner.memory import Loop
from meta_rl.machine.bars import slow
from meta_rl.problem import Problem
from meta_rl.tasks import num_tasks, select
from meta_rl.types import MetaParameters, Params, Task


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """The result of adapting to the M tasks of a meta-batch."""

    supports: Sequence[Any]
    """K batches for the inner loop, leaves ``(M, ...)``; ``Probes`` without gradients."""
    query: Any
    """The batch collected after adapting, leaves ``(M, ...)``."""
    scores: Tensor | None = None
    """Each task's score after 0..K inner steps, ``(K + 1, M)``; NaN once the task failed. None
    unless asked for."""
    success: Tensor | None = None
    """Each task's success rate after 0..K inner steps, ``(K + 1, M)``; NaN where the environment
    does not tell it. None if the problem has no notion of success, or scores were not asked for."""
    path: Sequence[Params] = ()
    """Every task's phi after 0..K inner steps, tensors ``(M, ...)``; empty unless asked for."""
    samples: int = 0
    """Environment steps or examples collected by this process."""
    failure: Exception | None = None
    """The first error of a task that failed while the others went on."""

    @property
    def batches(self) -> list[Any]:
        """The K supports and the query, collected with phi itself."""
        return [*_met(self.supports), self.query]


class Failures:
    """Tracks the tasks whose parameters or data are not finite, while the other tasks go on.

    From its failure on, a task's parameters are replaced by zeros, and its scores are NaN.

    Args:
        steps: K inner steps.
        tasks: M tasks, or P x M for a population.
        device: the scores' device.
    """

    def __init__(self, steps: int, tasks: int, device: torch.device):
        self.after = torch.zeros(steps + 1, tasks, dtype=torch.bool, device=device)
        self.first: Exception | None = None

    def attempt(self, k: int, do: Callable[[], Any]) -> Any:
        """Return the result of ``do``; call it again after recording the tasks that fail at step k.

        Raises:
            DivergedError, NotFiniteError: if all the tasks that fail had failed before: replacing
                their parameters by zeros did not help.
        """
        while True:
            try:
                return do()
            except NOT_FINITE as error:
                if self.after[k, error.rows].all():
                    raise
                self.after[k:, error.rows] = True
                self.first = self.first or error

    def stand_in(self, k: int, params: Params) -> Params:
        """Return parameters ``(M, ...)`` with zeros for the tasks that failed by step k."""
        failed = self.after[k]
        if not failed.any():
            return params
        return {
            n: v.masked_fill(failed.view(-1, *(1,) * (v.ndim - 1)), 0) for n, v in params.items()
        }


@torch.no_grad()
def adapt_to_tasks(
    problem: Problem,
    inner: Loop,
    meta: MetaParameters,
    tasks: Sequence[Task],
    steps: int,
    seed: int,
    *,
    scored: bool = False,
    path: bool = False,
    own_meta: bool = False,
    tolerant: bool = False,
    collected: Callable[[], None] | None = None,
) -> Adaptation:
    """Collect every task's K support batches and its query batch, adapting after each support.

    Args:
        problem: the problem that collects the data.
        inner: the inner loop.
        meta: the meta-parameters to adapt from.
        tasks: M tasks.
        steps: K inner steps.
        seed: seed of the data.
        scored: whether to return scores.
        path: whether to return the path of phi.
        own_meta: whether every task has its own meta-parameters, tensors ``(M, ...)``.
        tolerant: whether to go on without the tasks that fail; see :class:`Failures`.
        collected: called after each batch.

    Raises:
        DivergedError, NotFiniteError: if adaptation fails for a task, unless ``tolerant``.
    """
    failures = Failures(steps, len(tasks), problem.device) if tolerant else None
    batches: list[Any] = []

    def next_batch() -> Any:
        k = len(batches)
        stand_in = partial(failures.stand_in, k) if failures else _unchanged
        if isinstance(inner, GradientFreeLoop) and k < steps:
            return inner.probe(problem, meta, tasks, batches, seed, stand_in, own_meta=own_meta)
        adapt = partial(inner.adapt, meta, list(batches), len(tasks), own_meta=own_meta)
        if isinstance(inner, InnerLoop) and batches and not own_meta:
            adapt = partial(inner.adapted, *adapt.args)
        return problem.collect(tasks, _met(batches), lambda: stand_in(adapt()), seed, k == steps)

    for k in slow(range(steps + 1), "inner steps", delay=5):
        batches.append(failures.attempt(k, next_batch) if failures else next_batch())
        if collected:
            collected()

    *supports, query = batches

    @cache
    def walked() -> list[Params]:
        return inner.path(meta, supports, num_tasks(query), own_meta=own_meta)

    return Adaptation(
        supports=supports,
        query=query,
        scores=_scores(problem, _met(batches), walked, failures) if scored else None,
        success=_success(problem, _met(batches), failures) if scored else None,
        path=walked() if path else (),
        samples=samples_of(problem, batches),
        failure=failures.first if failures else None,
    )


def samples_of(problem: Problem, batches: Sequence[Any]) -> int:
    """Return the environment steps or examples of the batches, with every candidate of probes."""
    extra = sum(batch.extra_samples for batch in batches if isinstance(batch, Probes))
    return problem.samples(_met(batches)) + extra


def samples_of_each(problem: Problem, batches: Sequence[Any], tasks: int) -> list[float]:
    """Return :func:`samples_of` for each task; candidates of probes count as the tasks' mean."""
    whole, met = samples_of(problem, batches), _met(batches)
    if problem.environments is None:  # every task has as many examples
        return [whole / tasks] * tasks
    each = [
        problem.samples([select(batch, slice(m, m + 1)) for batch in met]) for m in range(tasks)
    ]
    return [own + (whole - sum(each)) / tasks for own in each]


def _met(batches: Sequence[Any]) -> list[Any]:
    """Return the batches of phi itself, without a probe's other candidates."""
    return [batch.batch if isinstance(batch, Probes) else batch for batch in batches]


def _scores(
    problem: Problem,
    batches: Sequence[Any],
    walked: Callable[[], list[Params]],
    failures: Failures | None,
) -> Tensor:
    each = [problem.score(batches, k, lambda k=k: walked()[k]) for k in range(len(batches))]
    scores = torch.stack(each)
    return scores.masked_fill(failures.after, torch.nan) if failures else scores


def _success(problem: Problem, batches: Sequence[Any], failures: Failures | None) -> Tensor | None:
    each = [problem.success(batches, k) for k in range(len(batches))]
    told = [rate for rate in each if rate is not None]
    if not told:
        return None
    rates = torch.stack(told)
    return rates.masked_fill(failures.after, torch.nan) if failures else rates


def _unchanged(params: Params) -> Params:
    return params
