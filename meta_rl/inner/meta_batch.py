"""The meta-batch of one iteration, for an outer step to adapt to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from meta_rl import seeds
from meta_rl.inner.adaptation import Adaptation, adapt_to_tasks
from meta_rl.inner.memory import Loop
from meta_rl.machine import parallel
from meta_rl.problem import Problem
from meta_rl.types import MetaParameters, Task


class MetaBatch:
    """The M tasks of one iteration, for an outer step to adapt to.

    It counts the ``samples`` (environment steps or examples) and ``seconds`` of this process.
    Unless stated otherwise, return values cover the tasks of all processes.

    Args:
        problem: the problem that collects the data.
        inner: the inner loop.
        tasks: M tasks.
        steps: K inner steps.
        seed: seed of the data.
        scored: whether this iteration is logged, so that adaptations have scores.
        blocks: number of blocks of tasks, each with its own random numbers; the processes divide
            them among themselves.
    """

    def __init__(
        self,
        problem: Problem,
        inner: Loop,
        tasks: Sequence[Task],
        steps: int,
        seed: int,
        scored: bool,
        blocks: int = 1,
    ):
        self.problem, self.inner, self.tasks = problem, inner, tasks
        self.steps, self.seed, self.scored = steps, seed, scored
        self._blocks, self._whole = parallel.own_blocks(tasks, blocks), blocks == 1
        self.samples, self.seconds = 0, 0.0
        self._held: dict[int, tuple[int, Sequence[Any]]] = {}

    def adapt(self, meta: MetaParameters, tolerant: bool = False) -> Adaptation:
        """Adapt to the tasks while collecting their data.

        With several blocks, a batch is a :class:`meta_rl.machine.parallel.BlockedBatch`, with one
        part for each block of this process; scores cover all tasks.

        Args:
            meta: the meta-parameters to adapt from.
            tolerant: whether to go on without the tasks that fail.

        Raises:
            DivergedError, NotFiniteError: if adaptation fails for a task, unless ``tolerant``.
        """
        held = [
            self._adapt(meta, block, block.tasks, scored=self.scored, tolerant=tolerant)
            for block in self._blocks
        ]
        for block, one in zip(self._blocks, held, strict=True):
            # A population's own adaptation is for scores alone: its members' data stay.
            self._held.setdefault(block.number, (self._seed(block), one.batches))
        scores, success = self._placed(held) if self.scored else (None, None)
        if self._whole:
            return replace(held[0], scores=scores, success=success)
        *supports, query = [
            parallel.BlockedBatch(each, len(self.tasks))
            for each in zip(*([*one.supports, one.query] for one in held), strict=True)
        ]
        samples = sum(one.samples for one in held)
        return Adaptation(
            supports=supports, query=query, scores=scores, success=success, samples=samples
        )

    def fitness(self, population: MetaParameters, members: int) -> Tensor:
        """Return every member's fitness on every task after K inner steps.

        Args:
            population: P members' meta-parameters, tensors ``(P, ...)``.
            members: P; the P x M pairs of member and task share one dimension.

        Returns:
            ``(P, M)``, higher is better; NaN if adaptation was not finite.
        """
        own = [self._fitness(population, members, block) for block in self._blocks]
        return parallel.place(own, self._blocks, len(self.tasks))

    def _placed(self, held: Sequence[Adaptation]) -> tuple[Tensor, Tensor | None]:
        """Return the scores and success rates of every task of all processes, sent together."""
        both = [[v for v in (one.scores, one.success) if v is not None] for one in held]
        together = [torch.stack(values) for values in both]
        scores, *success = parallel.place(together, self._blocks, len(self.tasks))
        return scores, success[0] if success else None

    def potentials(self, adaptation: Adaptation) -> Tensor:
        """Return every task's learning potential after adapting, ``(M,)``; see ``Losses``.

        Args:
            adaptation: the adaptation, with scores.
        """
        own: Any = [query for _, query in parallel.blocks_of([], adaptation.query)]
        scores: Any = adaptation.scores
        held = [
            self.problem.potential(query, scores[-1, block.start : block.start + len(block.tasks)])
            for query, block in zip(own, self._blocks, strict=True)
        ]
        return parallel.place(held, self._blocks, len(self.tasks))

    def teach(self) -> float:
        """Let the problem learn what it keeps itself, after the outer step: see ``TaskSource``.

        Returns:
            The seconds that this took.
        """
        start = time.perf_counter()
        self.problem.learn([*self._held.values()])
        return time.perf_counter() - start

    def _fitness(
        self, population: MetaParameters, members: int, block: parallel.TaskBlock
    ) -> Tensor:
        count = len(block.tasks)
        own = MetaParameters(
            *(
                {name: value.repeat_interleave(count, 0) for name, value in part.items()}
                for part in population
            )
        )
        tasks, options = [*block.tasks] * members, {"own_meta": True, "tolerant": True}
        found = self._adapt(own, block, tasks, scored=True, **options)
        # A copy of the first member's data, so that the others' are freed.
        first = tree_map(lambda value: value[:count].clone(), found.batches)
        self._held[block.number] = self._seed(block), first
        scores: Any = found.scores  # not None: asked for
        return scores[-1].view(members, count) * (1 if self.problem.maximizes else -1)

    def _adapt(
        self, meta: MetaParameters, block: parallel.TaskBlock, tasks: Sequence[Task], **options: Any
    ) -> Adaptation:
        start = time.perf_counter()
        given = self.problem, self.inner, meta, tasks, self.steps
        found = adapt_to_tasks(*given, self._seed(block), **options)
        self.samples += found.samples
        self.seconds += time.perf_counter() - start
        return found

    def _seed(self, block: parallel.TaskBlock) -> int:
        return self.seed if self._whole else seeds.derive(self.seed, seeds.BLOCK, block.number)
