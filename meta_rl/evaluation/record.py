"""Write an evaluation's folder: JSON, CSV, the page, and the same figures for TensorBoard."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from meta_rl.config import to_dict
from meta_rl.errors import InputError
from meta_rl.evaluation.curves import Curve
from meta_rl.evaluation.figures import figures
from meta_rl.evaluation.notes import notes
from meta_rl.evaluation.page import page
from meta_rl.evaluation.protocol import EvaluationPlan
from meta_rl.runs.tensorboard import EVENTS, events
from meta_rl.statistics import interquartile_mean, mean, worst_mean
from meta_rl.storage import files
from meta_rl.storage.run_folder import results_of

JSON, CSV, REPORT = "evaluation.json", "evaluation.csv", "report.html"
PACKAGES = ("torch", "numpy", "gymnasium", "stable-baselines3")


def open_folder(out: Path | None, planned: EvaluationPlan) -> Path:
    """Make the given folder, or the next ``evaluation_N`` of the first run, or beside a checkpoint.

    Files of an evaluation that was interrupted before its report was written are removed.

    Raises:
        InputError: if the folder holds other files, cannot be made or cannot be written to.
    """
    run, number = planned.algorithms[0].runs[0].path, 1
    while not out and os.path.exists(results_of(run, f"evaluation_{number}")):
        number += 1
    folder = out or results_of(run, f"evaluation_{number}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        left = [*folder.iterdir()]
        if any(not _is_unfinished(path) for path in left):
            raise InputError(f"out: expected a folder to make, got {out}, which holds something.")
        for path in left:
            path.unlink()
    except OSError as error:
        raise InputError(f"out: cannot make {folder}: {error}. Give another --out.") from error
    files.check_folder(folder)
    return folder


def _is_unfinished(path: Path) -> bool:
    """Return whether a file belongs to an evaluation without its report, which is written last."""
    ours = path.name in (JSON, CSV, REPORT) or path.match(EVENTS) or path.match(files.TEMPORARY)
    report = path.with_name(REPORT)
    return ours and path.is_file() and not (report.exists() and report.stat().st_size)


def record(folder: Path, planned: EvaluationPlan, curves: Sequence[Curve]) -> None:
    """Write ``evaluation.json``, ``evaluation.csv``, TensorBoard's events and ``report.html``.

    Raises:
        InputError: if a file cannot be written. The files before it stay.
    """
    origin = _origin(planned)
    drawn = figures(planned, curves)
    content = {**origin, **_results(planned, curves)}
    files.write_json(folder / JSON, content, allow_nan=False)
    _write_csv(folder / CSV, planned, curves)
    with events(folder, planned.problem.score_name) as writer:
        for name, (figure, _) in drawn.items():
            writer.picture(f"evaluation/{name}", figure, 0)
        for curve in (c for c in curves if c.kind == "algorithm"):
            whole, tag = torch.from_numpy(curve.scores).flatten(1), f"{curve.split}/{curve.name}"
            told = curve.success
            success = None if told is None else torch.from_numpy(told).flatten(1)
            writer.adaptation_curve(whole, tag, 0, success)
    files.write(folder / REPORT, page(planned, curves, drawn, origin))


def _origin(planned: EvaluationPlan) -> dict[str, Any]:
    settings = dataclasses.asdict(planned.settings)
    settings |= {"steps": planned.steps, "splits": [*planned.tasks]}
    return {"settings": json.loads(json.dumps(settings, default=str)), **circumstances()}


def circumstances(*packages: str) -> dict[str, Any]:
    """Return the date, and the versions of Python and the packages used."""
    versions = {name: version(name) for name in (*PACKAGES, *packages)}
    return {
        "date": date.today().isoformat(),
        "versions": {"python": platform.python_version(), **versions},
    }


def _results(planned: EvaluationPlan, curves: Sequence[Curve]) -> dict[str, Any]:
    runs = [
        {
            "algorithm": algorithm.name,
            "path": str(run.path),
            "seed": run.learner.config.seed,
            "iteration": run.learner.iteration,
            "samples": run.learner.samples,
            "config": to_dict(run.learner.config),
        }
        for algorithm in planned.algorithms
        for run in algorithm.runs
    ]
    return {
        "problem": planned.problem.describe(),
        "score": planned.problem.score_name,
        "higher_is_better": planned.problem.maximizes,
        "budget_unit": planned.unit,
        "runs": runs,
        "tasks": {split: [dict(task) for task in tasks] for split, tasks in planned.tasks.items()},
        "curves": [_curve(planned, curve) for curve in curves],
        "notes": notes(planned, curves),
    }


def _curve(planned: EvaluationPlan, curve: Curve) -> dict[str, Any]:
    points = []
    averages = {"mean": mean, "iqm": interquartile_mean, "worst": worst_mean(planned.sign)}
    for point, (k, budget) in enumerate(zip(curve.steps, curve.budget, strict=True)):
        found = {
            name: [finite(v) for v in curve.estimate(point, statistic, planned.settings.seed)]
            for name, statistic in averages.items()
        }
        scores = [[finite(v) for v in row] for row in curve.scores[point].tolist()]
        points.append({"inner_steps": k, "budget": float(budget), **found, "scores": scores})
        if curve.success is not None:
            rate = curve.success_rate(point, planned.settings.seed)
            points[-1] |= {"success_rate": rate, "success": curve.success[point].tolist()}
    return {
        "name": curve.name,
        "kind": curve.kind,
        "split": curve.split,
        "members": list(curve.members),
        "note": curve.note,
        "trained": curve.trained,
        "points": points,
    }


def finite(value: float) -> float | str:
    """Return a finite number as it is and others as text: JSON has no infinities."""
    return value if math.isfinite(value) else str(value)


def _write_csv(path: Path, planned: EvaluationPlan, curves: Sequence[Curve]) -> None:
    """Write one row for each contestant, split, seed, task and point."""
    head = ["name", "kind", "split", "run", "task", "parameters", "inner_steps", "budget", "score"]
    told = any(curve.success is not None for curve in curves)
    rows: list[list[Any]] = [[*head, "success_rate"] if told else head]
    for curve in curves:
        tasks = planned.tasks[curve.split]
        for (point, seed, m), score in np.ndenumerate(curve.scores):
            k = curve.steps[point]
            rows.append([
                curve.name, curve.kind, curve.split, curve.members[seed], m,
                json.dumps(dict(tasks[m])), "" if k is None else k,
                round(float(curve.budget[point]), 3), repr(float(score)),
            ])  # fmt: skip
            if told:
                rate = None if curve.success is None else curve.success[point, seed, m]
                rows[-1].append("" if rate is None else repr(float(rate)))
    files.write_csv(path, rows)
