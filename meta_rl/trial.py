"""One meta-batch: collecting every task's data while adapting to it, and scoring what comes out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from meta_rl.core import InnerLoop, num_tasks
from meta_rl.search import Probes, Search
from meta_rl.types import Meta, Params, Problem, Task


class Trial:
    """The tasks of one iteration, for an outer step to try its Meta (or a population of them) on.

    Args:
        problem: where data come from.
        inner: the inner loop.
        tasks: M of them.
        steps: K.
        seed: of everything collected.
        scored: whether the scores are wanted.
    """

    def __init__(
        self,
        problem: Problem,
        inner: InnerLoop | Search,
        tasks: Sequence[Task],
        steps: int,
        seed: int,
        scored: bool,
    ):
        self.problem, self.inner, self.tasks = problem, inner, tasks
        self.steps, self.seed, self.scored = steps, seed, scored
        self.samples, self.seconds = 0, 0.0
        self.batches: list[Any] = []  # of the last :meth:`run`
        self.scores: Tensor | None = None  # of the last :meth:`run`, (K + 1, M)

    def run(self, meta: Meta) -> list[Any]:
        """K support batches and the query batch of every task, leaves ``(M, ...)``."""
        start = time.perf_counter()
        self.batches = collect(self.problem, self.inner, meta, self.tasks, self.steps, self.seed)
        if self.scored:
            self.scores = score(self.problem, self.inner, meta, self.batches)
        self._account(self.batches, start)
        return self.batches

    def fitness(self, population: Meta, members: int) -> Tensor:
        """How good every member of a population is on every task after K inner steps.

        Args:
            population: tensors with a leading ``members``.
            members: P; P x M tasks are walked as one dimension.

        Returns:
            ``(P, M)``, higher is better.
        """
        start, count = time.perf_counter(), len(self.tasks)
        own = Meta(
            *(
                {name: value.repeat_interleave(count, 0) for name, value in part.items()}
                for part in population
            )
        )
        tasks = [*self.tasks] * members
        batches = collect(
            self.problem, self.inner, own, tasks, self.steps, self.seed, own_meta=True
        )
        last = score(self.problem, self.inner, own, batches, own_meta=True)[-1]
        self._account(batches, start)
        return last.view(members, count) * (1 if self.problem.maximizes else -1)

    def _account(self, batches: Sequence[Any], start: float) -> None:
        self.samples += self.problem.samples(met(batches))
        self.samples += sum(b.extra_samples for b in batches if isinstance(b, Probes))
        self.seconds += time.perf_counter() - start


@torch.no_grad()
def collect(
    problem: Problem,
    inner: InnerLoop | Search,
    meta: Meta,
    tasks: Sequence[Task],
    steps: int,
    seed: int,
    *,
    own_meta: bool = False,
) -> list[Any]:
    """K support batches of every task and the query batch, collected while adapting to them.

    Supports are :class:`meta_rl.search.Probes` where adapting takes no gradients.
    """
    batches: list[Any] = []
    for k in range(steps + 1):
        if isinstance(inner, Search) and k < steps:
            batches.append(inner.probe(problem, meta, tasks, batches, seed, own_meta=own_meta))
            continue
        adapted = partial(inner.adapt, meta, list(batches), len(tasks), own_meta=own_meta)
        batches.append(problem.collect(tasks, met(batches), adapted, seed, k == steps))
    return batches


def met(batches: Sequence[Any]) -> list[Any]:
    """What phi itself met in each inner step, for batches that hold other attempts as well."""
    return [batch.batch if isinstance(batch, Probes) else batch for batch in batches]


@torch.no_grad()
def score(
    problem: Problem,
    inner: InnerLoop | Search,
    meta: Meta,
    batches: Sequence[Any],
    *,
    own_meta: bool = False,
) -> Tensor:
    """The score of every task after 0..K inner steps, ``(K + 1, M)``."""

    @cache
    def path() -> list[Params]:
        return inner.path(meta, batches[:-1], num_tasks(batches[-1]), own_meta=own_meta)

    scores = [problem.score(met(batches), k, lambda k=k: path()[k]) for k in range(len(batches))]
    return torch.stack(scores)
