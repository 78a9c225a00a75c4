"""Tables and figures of the runs at equal budgets, from the lines of ``benchmarks.reproduce``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.arms import FOLDER, Arm, arms
from benchmarks.equal_budgets import EQUAL, LABEL
from benchmarks.reproduce_list import Run
from benchmarks.speed.tables import table
from meta_rl.evaluation.curves import Curve
from meta_rl.evaluation.figures import budget
from meta_rl.evaluation.tables import scores, unbeaten

PLAN: Any = SimpleNamespace(
    unit="environment steps",
    settings=SimpleNamespace(seed=0),
    sign=1,
    problem=SimpleNamespace(score_name="return"),
)
"""What the evaluation's tables and figures ask of a plan."""


def results(folder: Path = FOLDER) -> dict[str, list[Curve]]:
    """Return the curves of each preset, in the list's order."""
    presets = dict.fromkeys(run.preset for run in EQUAL)
    return {f"{LABEL}-{preset}": curves_of(preset, folder) for preset in presets}


def curves_of(preset: str, folder: Path, runs: Sequence[Run] = EQUAL) -> list[Curve]:
    """Return a curve for each algorithm with finished runs of a preset's current settings."""
    own = [run for run in runs if run.preset == preset]
    return [curve(arm) for arm in arms(own, folder) if arm.lines]


def curve(arm: Arm) -> Curve:
    """Return the curve of the seeds of one arm: scores against the steps of adapting."""
    spent = adapting(arm)
    told = arm.runs[0].algorithm == "oracle"  # a bound, where nothing is left to adapt to
    points = 1 if told else len(spent)
    return Curve(
        name=contestant(arm.runs[0]),
        kind="oracle" if told else "rival" if arm.runs[0].scratch else "algorithm",
        split="in-distribution",
        members=tuple(line["id"] for line in arm.lines),
        steps=tuple(range(points)),
        budget=spent[:points],
        scores=arm.values()[:points],
        trained=float(np.mean([line["samples"] for line in arm.lines])),
    )


def contestant(run: Run) -> str:
    """Return the name of a run's algorithm, and of what it changes."""
    return run.arm.removeprefix(f"{run.preset}_").removesuffix(f"_{LABEL}")


def adapting(arm: Arm) -> np.ndarray:
    """Return the mean environment steps spent on a task before each score, ``(K + 1,)``.

    A trial of a policy that remembers adapts to its own episodes alone.
    """
    if arm.runs[0].scratch:
        return np.array(arm.lines[0]["evaluations"][0]["budgets"], float)
    episodes = 1 if arm.remembers else arm.episodes()
    each = arm.values(of="lengths").mean((1, 2)) * episodes
    return np.concatenate([[0.0], np.cumsum(each[:-1])])


def text(name: str, curves: Sequence[Curve]) -> str:
    """Return the table of one preset, and its figure; that it has not run if there is no curve."""
    preset = name.removeprefix(f"{LABEL}-")
    if not curves:
        return f"{preset}: not run yet with today's settings."
    listed = dict.fromkeys(contestant(run) for run in EQUAL if run.preset == preset)
    left = [f"`{one}`" for one in listed if one not in {curve.name for curve in curves}]
    lacking = [f"Not run yet with today's settings: {', '.join(left)}."] if left else []
    drawn = f"![{preset}: return against environment steps of adapting](../images/{name}.png)"
    return "\n\n".join([table(*scores(PLAN, curves)), unbeaten(curves, PLAN.sign), *lacking, drawn])


def figure(curves: Sequence[Curve]) -> Figure:
    """Draw return against the environment steps of adapting, with 95 % intervals.

    A contestant has the same color in every figure, also where others have no runs.
    """
    return budget(PLAN, curves, order=list(dict.fromkeys(map(contestant, EQUAL))))
