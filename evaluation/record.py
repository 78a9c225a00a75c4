"""The evaluation's folder: JSON, CSV, the page, and the same figures for TensorBoard."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import platform
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluation.curves import Curve
from evaluation.figures import figures
from evaluation.notes import notes
from evaluation.page import page
from evaluation.protocol import Plan
from meta_rl.config import to_dict
from meta_rl.errors import InputError
from meta_rl.naming import csv_cell
from meta_rl.statistics import interquartile_mean, mean
from meta_rl.tensorboard import RunWriter

PACKAGES = ("torch", "numpy", "gymnasium", "stable-baselines3")


def open_folder(out: Path | None, planned: Plan) -> Path:
    """Make the folder: the one given, or the next ``evaluation_N`` of the first run.

    Raises:
        InputError: if it holds something already, or cannot be made.
    """
    home, number = planned.algorithms[0].runs[0].path, 1
    while (folder := out or home / f"evaluation_{number}").exists():
        if out and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"out: expected a folder to make, got {out}, which holds something.")
        if out:
            break
        number += 1
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"out: cannot make {folder}: {error}. Give another --out.") from error
    return folder


def record(folder: Path, planned: Plan, curves: Sequence[Curve]) -> None:
    """Write ``evaluation.json``, ``evaluation.csv``, ``report.html`` and TensorBoard's events."""
    origin = _origin(planned)
    drawn = figures(planned, curves)
    content = {**origin, **_results(planned, curves)}
    (folder / "evaluation.json").write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    _write_csv(folder / "evaluation.csv", planned, curves)
    (folder / "report.html").write_text(page(planned, curves, drawn, origin), encoding="utf-8")
    writer = RunWriter(folder, planned.problem.score_name)
    for name, (figure, _) in drawn.items():
        writer.picture(f"evaluation/{name}", figure, 0)
    for curve in (c for c in curves if c.kind == "algorithm"):
        whole = torch.from_numpy(curve.scores).flatten(1)
        writer.adaptation_curve(whole, f"{curve.split}/{curve.name}", 0)
    writer.close()


def _origin(planned: Plan) -> dict[str, Any]:
    settings = dataclasses.asdict(planned.settings)
    settings |= {"steps": planned.steps, "splits": [*planned.tasks]}
    return {"settings": json.loads(json.dumps(settings, default=str)), **circumstances()}


def circumstances(*packages: str) -> dict[str, Any]:
    """The day, and versions of Python and of what was used."""
    versions = {name: version(name) for name in (*PACKAGES, *packages)}
    return {
        "date": date.today().isoformat(),
        "versions": {"python": platform.python_version(), **versions},
    }


def _results(planned: Plan, curves: Sequence[Curve]) -> dict[str, Any]:
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


def _curve(planned: Plan, curve: Curve) -> dict[str, Any]:
    points = []
    for point, (k, budget) in enumerate(zip(curve.steps, curve.budget, strict=True)):
        found = {
            name: [finite(v) for v in curve.estimate(point, statistic, planned.settings.seed)]
            for name, statistic in (("mean", mean), ("iqm", interquartile_mean))
        }
        scores = [[finite(v) for v in row] for row in curve.scores[point].tolist()]
        points.append({"inner_steps": k, "budget": float(budget), **found, "scores": scores})
    return {
        "name": curve.name,
        "kind": curve.kind,
        "split": curve.split,
        "members": list(curve.members),
        "note": curve.note,
        "points": points,
    }


def finite(value: float) -> float | str:
    """A number as JSON, which has no infinities."""
    return value if math.isfinite(value) else str(value)


def _write_csv(path: Path, planned: Plan, curves: Sequence[Curve]) -> None:
    """One row for each contestant, split, seed, task and point."""
    head = ["name", "kind", "split", "run", "task", "parameters", "inner_steps", "budget", "score"]
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(head)
        for curve in curves:
            tasks = planned.tasks[curve.split]
            for (point, seed, m), score in np.ndenumerate(curve.scores):
                k = curve.steps[point]
                table.writerow(csv_cell(cell) for cell in [
                    curve.name, curve.kind, curve.split, curve.members[seed], m,
                    json.dumps(dict(tasks[m])), "" if k is None else k,
                    round(float(curve.budget[point]), 3), repr(float(score)),
                ])  # fmt: skip
