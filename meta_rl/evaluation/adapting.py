"""Score runs, random weights and an oracle on held-out tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from meta_rl import assemble, seeds
from meta_rl.evaluation.algorithms import Algorithm, Run
from meta_rl.evaluation.curves import Curve
from meta_rl.inner.adaptation import adapt_to_tasks, samples_of_each
from meta_rl.problems.success import counted
from meta_rl.problems.trials import TrialReinforcement
from meta_rl.types import MetaParameters, Task, TaskFamily

AT_ONCE = 20  # tasks adapted together, if the problem does not say

Tick = Callable[[int], object]
"""Called with the number of tasks done."""


def adapted(
    algorithm: Algorithm,
    tasks: Sequence[Task],
    split: str,
    steps: int,
    seed: int,
    tick: Tick,
    *,
    random: bool = False,
) -> Curve:
    """Score every run after 0..K inner steps.

    Args:
        algorithm: the algorithm whose runs to score.
        tasks: the m tasks of the split.
        split: the split's name.
        steps: number of inner steps K.
        seed: seed of the episodes (or examples).
        tick: function to call with progress.
        random: adapt the weights from before training by the learned update rule.
    """
    tasks = algorithm.runs[0].problem.check_tasks(tasks)
    scores, success, budgets = [], [], []
    for number, run in enumerate(algorithm.runs):
        learner, meta = run.learner, run.learner.deployed
        if random:
            device = str(run.problem.device)
            fresh = assemble.build(learner.config, device, origin=learner.config)
            meta = MetaParameters(fresh.meta.theta, meta.rule)
        found = _adapt(run, meta, tasks, steps, seeds.derive(seed, number), tick)
        scores.append(found[0])
        success.append(found[1])
        budgets.append(found[2])
    spent = np.mean(budgets, 0)
    name = f"random weights, rule of {algorithm.name}" if random else algorithm.name
    return Curve(
        name=name,
        kind="random" if random else "algorithm",
        split=split,
        members=tuple(str(run.path) for run in algorithm.runs),
        steps=tuple(range(steps + 1)),
        budget=spent.mean(1),
        spent=spent,
        scores=np.stack(scores, 1),
        success=_known(np.stack(success, 1)),
        trained=0.0 if random else float(np.mean([run.learner.samples for run in algorithm.runs])),
    )


def oracle(family: TaskFamily, tasks: Sequence[Task], split: str) -> Curve | None:
    """Return the best policy's expected return on every task; None if the family lacks it."""
    returns = [family.optimal_return(task) for task in tasks]
    known = [value for value in returns if value is not None]
    if len(known) < len(tasks):
        return None
    return Curve(
        name="oracle",
        kind="oracle",
        split=split,
        members=("exact",),
        steps=(None,),
        budget=np.zeros(1),
        scores=np.array(known)[None, None],
        note="expected return of the best policy that knows the task, exact",
    )


def _adapt(
    run: Run, meta: MetaParameters, tasks: Sequence[Task], steps: int, seed: int, tick: Tick
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores, success rates, and the budget spent on each task before them: ``(K + 1, m)``.

    Success rates are NaN where they are not told.
    """
    problem = run.problem
    size = problem.evaluated_at_once or AT_ONCE
    scores, success, spent = [], [], []
    # Each trial of a policy that remembers adapts to its own episodes alone.
    remembers = isinstance(problem, TrialReinforcement)
    apart = problem.config.episodes if remembers else 1
    for start in range(0, len(tasks), size):
        group, stream = tasks[start : start + size], seeds.derive(seed, start)
        given = problem, run.learner.evaluated, meta, group, steps, stream
        adaptation = adapt_to_tasks(*given, scored=True, tolerant=True)
        scored: Any = adaptation.scores  # not None, because of scored=True
        found = scored.cpu().double().numpy()
        worst = -np.inf if problem.maximizes else np.inf
        scores.append(np.where(np.isfinite(found), found, worst))
        told = adaptation.success
        success.append(np.full_like(found, np.nan) if told is None else told.cpu().double().numpy())
        before = [
            samples_of_each(problem, adaptation.supports[:k], len(group)) for k in range(steps + 1)
        ]
        spent.append(np.array(before) / apart)
        tick(len(group))
    problem.close()
    return np.concatenate(scores, 1), np.concatenate(success, 1), np.concatenate(spent, 1)


def _known(rates: np.ndarray) -> np.ndarray | None:
    """Return the success rates of all runs; None if none of them tells it."""
    rate = counted(torch.from_numpy(rates))
    return None if rate is None else rate.numpy()
