"""One meta-batch: collecting every task's data while adapting to it, and scoring what comes out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from meta_rl import parallel, seeds
from meta_rl.console import on_terminal
from meta_rl.errors import NotFiniteError
from meta_rl.inner.core import InnerLoop
from meta_rl.inner.search import Probes, Search
from meta_rl.tasks import num_tasks
from meta_rl.types import Meta, Params, Problem, Task


class Lost:
    """Tasks whose parameters or data stopped being finite, of a population that goes on without.

    Zeros stand in for their parameters, and their scores are not numbers from there on.

    Args:
        steps: K.
        tasks: M, or P x M of a population.
        device: where the scores are.
    """

    def __init__(self, steps: int, tasks: int, device: torch.device):
        self.after = torch.zeros(steps + 1, tasks, dtype=torch.bool, device=device)

    def attempt(self, k: int, do: Callable[[], Any]) -> Any:
        """What ``do`` returns, once the tasks that it fails for after k inner steps are lost.

        Raises:
            NotFiniteError: if it fails for tasks that are lost already: zeros are no better.
        """
        while True:
            try:
                return do()
            except NotFiniteError as error:
                if self.after[k, error.rows].all():
                    raise
                self.after[k:, error.rows] = True

    def stand_in(self, k: int, params: Params) -> Params:
        """Parameters with a leading M, zero for the tasks that are lost after k inner steps."""
        lost = self.after[k]
        if not lost.any():
            return params
        return {n: v.masked_fill(lost.view(-1, *(1,) * (v.ndim - 1)), 0) for n, v in params.items()}


class Trial:
    """The tasks of one iteration, for an outer step to try its Meta (or a population of them) on.

    Args:
        problem: where data come from.
        inner: the inner loop.
        tasks: M of them.
        steps: K.
        seed: of everything collected.
        scored: whether the scores are wanted.
        blocks: parts of the meta-batch, each with random numbers of its own. This process tries
            its share of them; what is returned is of all where not said otherwise.
    """

    def __init__(
        self,
        problem: Problem,
        inner: InnerLoop | Search,
        tasks: Sequence[Task],
        steps: int,
        seed: int,
        scored: bool,
        blocks: int = 1,
    ):
        self.problem, self.inner, self.tasks = problem, inner, tasks
        self.steps, self.seed, self.scored = steps, seed, scored
        self._blocks, self._whole = parallel.share(tasks, blocks), blocks == 1
        self.samples, self.seconds = 0, 0.0  # of this process
        self.batches: list[Any] = []  # of the last :meth:`run`
        self.scores: Tensor | None = None  # of the last :meth:`run`, (K + 1, M)

    def run(self, meta: Meta, tolerant: bool = False) -> list[Any]:
        """K support batches and the query batch, leaves ``(M, ...)``; or Blocks of such batches.

        Args:
            meta: to adapt from.
            tolerant: whether tasks that adapting fails for are left behind.

        Raises:
            NotFiniteError: if adapting fails for a task otherwise.
        """
        held, scores = [], []
        for block in self._blocks:
            start = time.perf_counter()
            given = (self.problem, self.inner, meta)
            lost = self._lost(len(block.tasks)) if tolerant else None
            batches = collect(*given, block.tasks, self.steps, self._seed(block), lost=lost)
            if self.scored:
                scores.append(score(*given, batches, lost=lost))
            self._account(batches, start)
            held.append(batches)
        if self.scored:
            self.scores = parallel.place(scores, self._blocks, len(self.tasks))
        blocks = [parallel.Blocks(each, len(self.tasks)) for each in zip(*held, strict=True)]
        self.batches = held[0] if self._whole else blocks
        return self.batches

    def watch(self, meta: Meta) -> None:
        """Where scores are wanted, those of a Meta that no population member is."""
        if self.scored:
            self.run(meta, tolerant=True)

    def fitness(self, population: Meta, members: int) -> Tensor:
        """How good every member of a population is on every task after K inner steps.

        Args:
            population: tensors with a leading ``members``.
            members: P; P x M tasks are walked as one dimension.

        Returns:
            ``(P, M)``, higher is better; not a number where adapting came to no finite end.
        """
        own = [self._fitness(population, members, block) for block in self._blocks]
        return parallel.place(own, self._blocks, len(self.tasks))

    def _fitness(self, population: Meta, members: int, block: parallel.Block) -> Tensor:
        start, count = time.perf_counter(), len(block.tasks)
        own = Meta(
            *(
                {name: value.repeat_interleave(count, 0) for name, value in part.items()}
                for part in population
            )
        )
        tasks = [*block.tasks] * members
        given, lost = (self.problem, self.inner, own), self._lost(len(tasks))
        seed = self._seed(block)
        batches = collect(*given, tasks, self.steps, seed, own_meta=True, lost=lost)
        last = score(*given, batches, own_meta=True, lost=lost)[-1]
        self._account(batches, start)
        return last.view(members, count) * (1 if self.problem.maximizes else -1)

    def _seed(self, block: parallel.Block) -> int:
        return self.seed if self._whole else seeds.derive(self.seed, seeds.BLOCK, block.number)

    def _lost(self, tasks: int) -> Lost:
        return Lost(self.steps, tasks, self.problem.device)

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
    lost: Lost | None = None,
    collected: Callable[[], None] | None = None,
) -> list[Any]:
    """K support batches of every task and the query batch, collected while adapting to them.

    Supports are :class:`meta_rl.inner.search.Probes` where adapting takes no gradients. Tasks that
    fail are entered in ``lost``, where it is given. ``collected`` is called after each batch.

    Raises:
        NotFiniteError: if adapting fails for a task, and there is no ``lost``.
    """
    batches: list[Any] = []

    def next_batch() -> Any:
        k = len(batches)
        stand_in = partial(lost.stand_in, k) if lost else _unchanged
        if isinstance(inner, Search) and k < steps:
            return inner.probe(problem, meta, tasks, batches, seed, stand_in, own_meta=own_meta)
        adapt = partial(inner.adapt, meta, list(batches), len(tasks), own_meta=own_meta)
        return problem.collect(tasks, met(batches), lambda: stand_in(adapt()), seed, k == steps)

    shown = tqdm(
        range(steps + 1), desc="inner steps", delay=5, leave=False, disable=not on_terminal()
    )
    for k in shown:
        batches.append(lost.attempt(k, next_batch) if lost else next_batch())
        if collected:
            collected()
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
    lost: Lost | None = None,
) -> Tensor:
    """The score of every task after 0..K inner steps, ``(K + 1, M)``; NaN where it was lost."""

    @cache
    def path() -> list[Params]:
        return inner.path(meta, batches[:-1], num_tasks(batches[-1]), own_meta=own_meta)

    each = [problem.score(met(batches), k, lambda k=k: path()[k]) for k in range(len(batches))]
    scores = torch.stack(each)
    return scores.masked_fill(lost.after, torch.nan) if lost else scores


def _unchanged(params: Params) -> Params:
    return params
