"""Notes for the report's reader: how the numbers came about."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from meta_rl.evaluation.curves import Curve
from meta_rl.evaluation.protocol import EvaluationPlan
from meta_rl.statistics import DRAWS
from meta_rl.tasks import few_members

TOLERANCE = 0.05  # of meta-training budgets: the last iteration ends beyond a budget


def notes(planned: EvaluationPlan, curves: Sequence[Curve]) -> list[str]:
    """Return sentences on how the numbers came about and what they do not show."""
    score, sign = planned.problem.score_name, planned.sign
    told = [
        _score(planned),
        "IQM is the inter-quartile mean over all seeds and tasks: the worst and the best quarter "
        "are left out.",
        f"Brackets are 95 % percentile intervals of {DRAWS:,} stratified-bootstrap draws: seeds "
        "with replacement, and tasks with replacement, the same tasks for every seed.",
        "A contestant is clearly beaten if another is better and the 95 % interval of their "
        "difference on the same tasks (Student's, for new seeds and new tasks) does not hold zero. "
        "With few seeds it is wide. One seed is not compared.",
        *_success(curves),
        *_seeds(planned),
        *_tasks(planned),
        f"Two budgets are counted in {planned.unit}. Training: what meta-training spent on all its "
        "tasks. Adapting: what adapting spent on one task, on average, without the episodes (or "
        "examples) that a score is measured on.",
        *unequal(planned),
        *started(planned),
        *_remembering(planned),
        *_step_sizes(planned),
    ]
    if "random" in planned.settings.baselines:
        told.append(
            "Random weights are those of the run's network, drawn by its seed. They are adapted by "
            "the update rule that the run learned."
        )
    if "oracle" in planned.settings.baselines and not any(c.kind == "oracle" for c in curves):
        told.append(
            "There is no oracle: the best possible score of this family's tasks is not known "
            "exactly."
        )
    for curve in curves:
        lost = int(np.isinf(curve.scores).any(0).sum())
        if lost:
            told.append(
                f"{curve.name}, {curve.split}: adapting diverged on {lost} of "
                f"{curve.scores[0].size} seeds × tasks. They count as infinitely bad, so the mean "
                "is infinite; the IQM is finite while they are less than a quarter."
            )
    told += [f"{c.name}: {c.note}." for c in curves if c.kind == "rival"]
    if any(c.kind == "rival" for c in curves):
        told.append(
            f"Baselines of stable-baselines3 learned on the first {planned.settings.baseline_tasks}"
            f" tasks of {next(iter(planned.tasks))} alone, with {planned.settings.baseline_seeds} "
            f"seed(s); compare them with the rows for the same tasks. The steps that a baseline "
            f"needed are its first scored budget with {'at least' if sign > 0 else 'at most'} "
            f"that {score}: a lucky score counts, which favours baselines."
        )
    trained = [run.learner.samples for a in planned.algorithms for run in a.runs]
    if {"pretrained", "rl2"} & set(planned.settings.baselines):
        told.append(
            f"Pretrained PPO and RL2 trained on {planned.settings.training_steps:,} environment "
            f"steps, the runs on up to {max(trained):,}: keep that in mind when you compare them."
        )
    return told


def unequal(planned: EvaluationPlan) -> list[str]:
    """Return a warning if meta-training budgets of the algorithms differ by more than a few %."""
    spent = {a.name: [run.learner.samples for run in a.runs] for a in planned.algorithms}
    largest, smallest = max(map(max, spent.values())), min(map(min, spent.values()))
    if largest <= (1 + TOLERANCE) * smallest:
        return []
    told = "; ".join(f"{name}: {_range(counts)}" for name, counts in spent.items())
    return [
        f"Meta-training budgets differ by more than {TOLERANCE:.0%}, in {planned.unit}: {told}. "
        "Compare runs of equal budgets."
    ]


def started(planned: EvaluationPlan) -> list[str]:
    """Return a warning for algorithms whose runs did not start from random weights."""
    return [
        f"{algorithm.name} started from weights that were trained before; its meta-training budget "
        "does not count what that took."
        for algorithm in planned.algorithms
        if any(run.started for run in algorithm.runs)
    ]


def _remembering(planned: EvaluationPlan) -> list[str]:
    return [
        f"{name} takes no inner steps, but remembers: its row of k inner steps is the return of "
        "episode k + 1 of a trial, and it adapts in its first episode already."
        for name in planned.remembering
    ]


def _step_sizes(planned: EvaluationPlan) -> list[str]:
    tried = ", ".join(f"{size:g}" for size in planned.settings.step_sizes)
    return [
        f"{name} takes inner steps of {size:g}: of {tried}, the best after {planned.steps} inner "
        f"steps on {planned.settings.tasks} other tasks, drawn as in training. The budgets do not "
        "count this search."
        for name, size in planned.step_sizes.items()
    ]


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _score(planned: EvaluationPlan) -> str:
    kind = {
        "episodes": "the undiscounted return, mean of fresh episodes with sampled actions; higher "
        "is better",
        "classification": "the fraction of a task's query examples that are classified correctly; "
        "higher is better",
        "regression": "the mean squared error on a task's query examples; lower is better",
    }[planned.problem.kind]
    return f"The score is {kind}."


def _success(curves: Sequence[Curve]) -> list[str]:
    if all(curve.success is None for curve in curves):
        return []
    return [
        "Success is the fraction of the score's episodes that succeed: those in which the "
        "environment tells is_success or success in its info at any step. A task on which adapting "
        "diverged counts as 0. Baselines of stable-baselines3 have no success rate."
    ]


def _seeds(planned: EvaluationPlan) -> list[str]:
    single = [a.name for a in planned.algorithms if len(a.runs) == 1]
    if not single:
        return []
    return [
        f"One seed of {', '.join(single)}: its intervals cover tasks only, so they do not show how "
        "another training run would score."
    ]


def _tasks(planned: EvaluationPlan) -> list[str]:
    told = []
    for split, tasks in planned.tasks.items():
        told.append(
            f"{split}: {len(tasks)} tasks, drawn by seed {planned.settings.seed} from a stream "
            "that no training draws from; all runs and baselines get the same tasks."
        )
        if few := few_members(tasks):
            told.append(
                f"{split} has few members: {few}. Training has met them too unless the split keeps "
                "them apart."
            )
    return told
