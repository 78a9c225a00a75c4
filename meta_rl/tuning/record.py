"""Write a tuning's results: ``chosen.json`` for ``meta-rl train``, JSON, CSV, and a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from meta_rl.config import to_dict
from meta_rl.evaluation.algorithms import flat
from meta_rl.evaluation.record import circumstances, finite
from meta_rl.statistics import mean, stratified_bootstrap
from meta_rl.storage import files
from meta_rl.tuning.importance import by_option, importance
from meta_rl.tuning.page import page
from meta_rl.tuning.protocol import Comparison, TuningPlan, described
from meta_rl.tuning.space import sees_task
from meta_rl.tuning.study import ENDED, SKIPPED, Study, scores_at_rungs


def record(planned: TuningPlan, content: dict[str, Any], comparison: Comparison) -> None:
    """Write ``chosen.json``, ``tuning.json``, ``trials.csv``, ``comparison.csv``, ``report.html``.

    Args:
        planned: the tuning's plan.
        content: the content of ``tuning.json``, from :func:`results`.
        comparison: the default and the chosen strategy on the test tasks.

    Raises:
        InputError: if a file cannot be written. The files before it stay.
    """
    folder = planned.folder
    files.write_json(folder / "chosen.json", to_dict(comparison.config), allow_nan=False)
    files.write_json(folder / "tuning.json", content, allow_nan=False)
    _write_trials(folder / "trials.csv", content["trials"])
    _write_comparison(folder / "comparison.csv", planned, comparison)
    files.write(folder / "report.html", page(planned, content, comparison))


def results(planned: TuningPlan, study: Study, comparison: Comparison) -> dict[str, Any]:
    """Return all results as JSON values."""
    conditions = planned.conditions
    chosen = comparison.trial
    return {
        **circumstances("optuna"),
        "problem": planned.problem.describe(),
        "score": planned.problem.score_name,
        "higher_is_better": planned.problem.maximizes,
        "search": planned.settings.search,
        "halving": planned.settings.keeps_one_of,
        "budget": conditions.budget,
        "inner_steps": conditions.steps,
        "episodes": conditions.episodes,
        "validation_tasks": len(planned.validation),
        "test_tasks": len(planned.test),
        "trials": [_trial(planned, trial) for trial in study.trials],
        "skipped": [{"number": t.number, "why": t.user_attrs[SKIPPED]} for t in study.skipped],
        "lost": study.lost,
        "options": by_option(study.trials),
        "importance": importance(study),
        "chosen": {"trial": chosen.number, "strategy": described(planned, chosen.params)},
        "settings": _settings(planned, comparison),
        "comparison": _comparison(planned, comparison),
        "verdict": verdict(planned, comparison),
    }


def verdict(planned: TuningPlan, comparison: Comparison) -> str:
    """Return the result in a sentence or two."""
    seeds, tasks = planned.settings.seeds, len(planned.test)
    if not comparison.curves:
        return (
            "No strategy that was tried is better than the default on the validation tasks: the "
            "default stays, and there is nothing to compare it with."
        )
    value, low, high = comparison.difference(planned.sign)
    interval = f"{value:+.4g} [{low:+.4g}, {high:+.4g}]"
    name = planned.problem.score_name + ("" if planned.sign > 0 else " (lower is better)")
    judged = (
        "One seed cannot tell which is better (--seeds 3 may)"
        if seeds == 1
        else "The chosen strategy beats the default"
        if low > 0
        else "The default beats the chosen strategy: what looked better on validation was not"
        if high < 0
        else "The default is hard to beat: the chosen strategy cannot be told from it"
    )
    fresh = f"{seeds} fresh seeds" if seeds > 1 else "1 fresh seed"
    gained = (
        f"{judged}. Gain in {name} after {planned.conditions.steps} inner steps, mean and 95 % "
        f"interval over {fresh} and {tasks} test tasks: {interval}."
    )
    told = [gained, *comparison.cut]
    if sees_task(comparison.config) and not sees_task(planned.default):
        seen = "The chosen strategy sees the parameters of each task: it is a bound, not a rival."
        told.insert(1, seen)
    return " ".join(told)


def _trial(planned: TuningPlan, trial: FrozenTrial) -> dict[str, Any]:
    started, ended = trial.datetime_start, trial.datetime_complete
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "strategy": described(planned, trial.params),
        "params": trial.params,
        "score": trial.value if trial.state == TrialState.COMPLETE else None,
        "rungs": list(scores_at_rungs(trial)),
        "ended": trial.user_attrs.get(ENDED, ""),
        "iterations": trial.user_attrs.get("iterations"),
        "samples": trial.user_attrs.get("samples"),
        "seconds": round((ended - started).total_seconds(), 1) if started and ended else None,
    }


def _settings(planned: TuningPlan, comparison: Comparison) -> dict[str, list[Any]]:
    """Return every setting in which chosen and default differ: ``[default, chosen]``."""
    default, chosen = flat(to_dict(planned.default)), flat(to_dict(comparison.config))
    names = [n for n in dict.fromkeys([*default, *chosen]) if n != "iterations"]
    return {n: [default.get(n), chosen.get(n)] for n in names if default.get(n) != chosen.get(n)}


def _comparison(planned: TuningPlan, comparison: Comparison) -> dict[str, Any]:
    if not comparison.curves:
        return {}
    arms = {}
    for curve in comparison.curves:
        means = [stratified_bootstrap(scores, mean) for scores in curve.scores]
        arms[curve.name] = {
            "seeds": list(curve.members),
            "mean": [[finite(v) for v in estimate] for estimate in means],
            "scores": [[[finite(v) for v in row] for row in p] for p in curve.scores.tolist()],
        }
    gain = comparison.difference(planned.sign)
    return {"arms": arms, "gain": [finite(value) for value in gain]}


def _write_trials(path: Path, trials: list[dict[str, Any]]) -> None:
    """Write one row for each trial, with its choices as columns and its rungs in one cell."""
    choices = list(dict.fromkeys(name for trial in trials for name in trial["params"]))
    plain = [name for name in trials[0] if name not in ("params", "strategy")]
    rows = [
        [
            *(" ".join(map(repr, trial[n])) if n == "rungs" else trial[n] for n in plain),
            *(trial["params"].get(name, "") for name in choices),
        ]
        for trial in trials
    ]
    files.write_csv(path, [[*plain, *choices], *rows])


def _write_comparison(path: Path, planned: TuningPlan, comparison: Comparison) -> None:
    """Write one row for each strategy, seed, task and number of inner steps."""
    head = ["strategy", "seed", "task", "parameters", "inner_steps", "score"]
    tasks = [json.dumps(dict(task)) for task in planned.test]
    rows = [
        [curve.name, curve.members[seed], m, tasks[m], k, repr(float(score))]
        for curve in comparison.curves
        for (k, seed, m), score in np.ndenumerate(curve.scores)
    ]
    files.write_csv(path, [head, *rows])
