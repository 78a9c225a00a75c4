"""Adapt without meta-learning: for evaluation, pictures and deployment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor

from meta_rl import seeds
from meta_rl.inner.adaptation import adapt_to_tasks
from meta_rl.inner.core import InnerLoop
from meta_rl.inner.gradient_free import GradientFreeLoop
from meta_rl.machine.bars import slow
from meta_rl.problem import Problem
from meta_rl.types import MetaParameters, Task


def scores_of(
    problem: Problem,
    inner: InnerLoop | GradientFreeLoop,
    meta: MetaParameters,
    tasks: Sequence[Task],
    steps: int,
    seed: int,
    tick: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Return each task's score after 0..K inner steps, ``(K + 1, M)``, on the CPU.

    Adapts ``problem.evaluated_at_once`` tasks at a time.

    Args:
        problem: the problem that collects the data.
        inner: the inner loop.
        meta: the meta-parameters to adapt from.
        tasks: M tasks.
        steps: K inner steps.
        seed: seed of the data.
        tick: called with the numbers of batches collected and to collect.
    """
    size, scores = problem.evaluated_at_once or len(tasks), []
    parts = range(0, len(tasks), size)
    ticks, total = count(1), len(parts) * (steps + 1)

    def collected() -> None:
        if tick:
            tick(next(ticks), total)

    for start in slow(parts, "evaluating"):
        stream = seeds.derive(seed, start) if start else seed
        given = problem, inner, meta, tasks[start : start + size], steps, stream
        scores.append(adapt_to_tasks(*given, scored=True, collected=collected).scores)
    return torch.cat(scores, 1).cpu()


@torch.no_grad()
def adapted_model(
    problem: Problem,
    inner: InnerLoop | GradientFreeLoop,
    meta: MetaParameters,
    task: Task,
    steps: int,
    seed: int,
    manifest: dict[str, Any],
    pictures: bool,
) -> Any:
    """Adapt to one task and return the model, with its ``scores`` and ``pictures``.

    Args:
        problem: the task's problem.
        inner: the inner loop.
        meta: the meta-parameters to adapt from.
        task: the task to adapt to.
        steps: K inner steps.
        seed: seed of the data.
        manifest: the manifest that the model's ``save`` writes.
        pictures: whether to draw pictures.
    """
    given = problem, inner, meta, [task], steps, seed
    adaptation = adapt_to_tasks(*given, scored=True, path=True)
    drawn = task, adaptation.batches, adaptation.path
    shown = problem.pictures(*drawn) if pictures else {}
    params = {name: value[0].detach().clone() for name, value in adaptation.path[-1].items()}
    scores: Any = adaptation.scores  # not None: scored=True
    model = problem.deploy(params, tuple(scores[:, 0].tolist()), manifest)
    model.pictures = shown
    return model
