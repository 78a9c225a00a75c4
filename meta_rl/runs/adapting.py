"""Adapt without meta-learning: for evaluation, pictures and deployment."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor

from meta_rl import seeds
from meta_rl.errors import DivergedError, require_whole
from meta_rl.inner.adaptation import adapt_to_tasks
from meta_rl.inner.memory import Loop
from meta_rl.machine.bars import slow
from meta_rl.problem import Problem
from meta_rl.problems.success import counted
from meta_rl.types import MetaParameters, Task


class Results(NamedTuple):
    """The results of adapting to M tasks, on the CPU."""

    scores: Tensor
    """Each task's score after 0..K inner steps, ``(K + 1, M)``; NaN once adapting diverged."""
    success: Tensor | None
    """The success rates of the same episodes, ``(K + 1, M)``; None if no environment tells success.
    """


def results_of(
    problem: Problem,
    inner: Loop,
    meta: MetaParameters,
    tasks: Sequence[Task],
    steps: int,
    seed: int,
    tick: Callable[[int, int], None] | None = None,
) -> Results:
    """Return each task's scores and success rates after 0..K inner steps.

    Adapts ``problem.evaluated_at_once`` tasks at a time. Warns if adapting to a task fails, whose
    scores are NaN from there on.

    Args:
        problem: the problem that collects the data.
        inner: the inner loop.
        meta: the meta-parameters to adapt from.
        tasks: M tasks.
        steps: K inner steps.
        seed: seed of the data.
        tick: called with the numbers of batches collected and to collect.
    """
    size, found = problem.evaluated_at_once or len(tasks), []
    parts = range(0, len(tasks), size)
    ticks, total = count(1), len(parts) * (steps + 1)

    def collected() -> None:
        if tick:
            tick(next(ticks), total)

    for start in slow(parts, "evaluating"):
        stream = seeds.derive(seed, start) if start else seed
        given = problem, inner, meta, tasks[start : start + size], steps, stream
        found.append(adapt_to_tasks(*given, scored=True, tolerant=True, collected=collected))
    scores: Any = [one.scores for one in found]  # not None: scored=True
    if failed := [one.failure for one in found if one.failure]:
        lost = int(torch.cat(scores, 1).isnan().any(0).sum())
        warnings.warn(
            f"evaluation: {lost} of {len(tasks)} tasks have no score after {steps} inner steps: "
            f"{failed[0]}",
            stacklevel=2,
        )
    told = [one.success for one in found if one.success is not None]
    success = counted(torch.cat(told, 1)) if told else None
    return Results(torch.cat(scores, 1).cpu(), None if success is None else success.cpu())


@torch.no_grad()
def adapted_model(
    problem: Problem,
    inner: Loop,
    meta: MetaParameters,
    task: Task,
    steps: int,
    seed: int,
    manifest: dict[str, Any],
    pictures: bool,
) -> Any:
    """Adapt to one task and return the model, with ``scores``, ``success`` and ``pictures``.

    Args:
        problem: the task's problem.
        inner: the inner loop.
        meta: the meta-parameters to adapt from.
        task: the task to adapt to.
        steps: K inner steps.
        seed: seed of the data.
        manifest: the manifest that the model's ``save`` writes.
        pictures: whether to draw pictures.

    Raises:
        DivergedError: if an adapted parameter is not finite.
    """
    given = problem, inner, meta, [task], steps, seed
    adaptation = adapt_to_tasks(*given, scored=True, path=True)
    drawn = task, adaptation.batches, adaptation.path
    shown = problem.pictures(*drawn) if pictures else {}
    params = {name: value[0].detach().clone() for name, value in adaptation.path[-1].items()}
    if not all(value.isfinite().all() for value in params.values()):
        raise DivergedError(
            f"adapt: expected finite parameters after {steps} inner steps, got others: adapting "
            "diverged. Take fewer steps."
        )
    scores: Any = adaptation.scores  # not None: scored=True
    model = problem.deploy(params, tuple(scores[:, 0].tolist()), manifest)
    success = counted(adaptation.success)
    model.success = None if success is None else tuple(success[:, 0].tolist())
    model.pictures = shown
    return model


def require_numbers(steps: int, seed: int, episodes: int | None = None) -> None:
    """Refuse numbers of inner steps, a seed or episodes that are out of range.

    Raises:
        InputError: naming the number, what is expected and what it is.
    """
    for name, number in (("steps", steps), ("seed", seed)):
        require_whole(name, number, 0)
    if episodes is not None:
        require_whole("episodes", episodes, 1)
