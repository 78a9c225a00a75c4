"""Choose the step size that fine-tunes best, on tasks apart from the held-out ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from meta_rl import seeds
from meta_rl.errors import InputError
from meta_rl.evaluation.adapting import adapted
from meta_rl.evaluation.algorithms import Algorithm, Run
from meta_rl.evaluation.protocol import EvaluationPlan
from meta_rl.loading import keeps_step_size, with_step_size
from meta_rl.types import Task


def tuned(planned: EvaluationPlan) -> EvaluationPlan:
    """Return the plan with the best of ``--step-sizes`` for each algorithm that keeps its own.

    The best has the best mean score after the last inner step, on as many tasks as a split has,
    drawn as in training. Seeds of one algorithm share the choice.
    """
    sizes = planned.settings.step_sizes
    if not sizes:
        return planned
    kept = [keeps_step_size(algorithm.runs[0].learner) for algorithm in planned.algorithms]
    seed = seeds.derive(planned.settings.seed, seeds.EVALUATION, 3)
    tasks = planned.problem.sample_tasks(planned.settings.tasks, seed)
    algorithms, chosen = [], {}
    for algorithm, keeps in zip(planned.algorithms, kept, strict=True):
        if keeps:
            size = best(planned, algorithm, tasks, seed)
            algorithm, chosen[algorithm.name] = with_size(algorithm, size), size
        algorithms.append(algorithm)
    return replace(planned, algorithms=algorithms, step_sizes=chosen)


def best(planned: EvaluationPlan, algorithm: Algorithm, tasks: Sequence[Task], seed: int) -> float:
    """Return the step size with the best mean score after the last inner step.

    Raises:
        InputError: if adapting diverges on a task with every size.
    """
    scores = {}
    for size in planned.settings.step_sizes:
        given = with_size(algorithm, size), tasks, "", planned.steps, seed, lambda _: None
        mean = planned.sign * float(np.mean(adapted(*given).scores[-1]))
        scores[size] = mean if math.isfinite(mean) else -math.inf
    if max(scores.values()) == -math.inf:
        raise InputError(
            f"step_sizes: expected one with which {algorithm.name} diverges on no task, got "
            f"{', '.join(f'{size:g}' for size in scores)}. Give smaller ones."
        )
    return max(scores, key=lambda size: scores[size])


def with_size(algorithm: Algorithm, size: float) -> Algorithm:
    """Return the algorithm with another step size."""
    return replace(algorithm, runs=tuple(_changed(run, size) for run in algorithm.runs))


def _changed(run: Run, size: float) -> Run:
    return replace(run, learner=with_step_size(run.learner, size))
