"""Tables and figures of the runs at equal budgets, from the lines of ``benchmarks.reproduce``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.arms import FOLDER, arms
from benchmarks.equal_budgets import EQUAL, LABEL
from benchmarks.reproduce_list import Run
from benchmarks.speed.tables import table
from meta_rl.config import EpisodesConfig
from meta_rl.evaluation.curves import Curve
from meta_rl.evaluation.figures import budget
from meta_rl.evaluation.tables import scores

PLAN: Any = SimpleNamespace(
    unit="environment steps",
    settings=SimpleNamespace(seed=0),
    sign=1,
    problem=SimpleNamespace(score_name="return"),
)
"""What the evaluation's tables and figures ask of a plan."""


def results(folder: Path = FOLDER) -> dict[str, list[Curve]]:
    """Return the curves of each preset that has some, in the list's order."""
    presets = dict.fromkeys(run.preset for run in EQUAL)
    found = {f"{LABEL}-{preset}": curves_of(preset, folder) for preset in presets}
    return {name: curves for name, curves in found.items() if curves}


def curves_of(preset: str, folder: Path, runs: Sequence[Run] = EQUAL) -> list[Curve]:
    """Return a curve for each algorithm with finished runs of a preset's current settings."""
    own = [run for run in runs if run.preset == preset]
    return [curve(arm.lines) for arm in arms(own, folder) if arm.lines]


def curve(lines: Sequence[Mapping[str, Any]]) -> Curve:
    """Return the curve of the seeds of one arm: scores against the steps of adapting."""
    evaluations = [line["evaluations"][0] for line in lines]
    spent = [adapting(line) for line in lines]
    name = lines[0]["arm"].removeprefix(f"{lines[0]['preset']}_").removesuffix(f"_{LABEL}")
    told = lines[0]["algorithm"] == "oracle"  # a bound, where nothing is left to adapt to
    points = 1 if told else len(spent[0])
    return Curve(
        name=name,
        kind="oracle" if told else "rival" if "budgets" in evaluations[0] else "algorithm",
        split="in-distribution",
        members=tuple(line["id"] for line in lines),
        steps=tuple(range(points)),
        budget=np.mean(spent, 0)[:points],
        scores=np.stack([np.array(each["scores"][:points], float) for each in evaluations], 1),
        trained=float(np.mean([line["samples"] for line in lines])),
    )


def adapting(line: Mapping[str, Any]) -> np.ndarray:
    """Return the environment steps spent on a task before each score, ``(K + 1,)``.

    A trial of a policy that remembers adapts to its own episodes alone.
    """
    first, settings = line["evaluations"][0], line["settings"]
    if "budgets" in first:
        return np.array(first["budgets"], float)
    remembers = settings.get("inner", {}).get("method") == "memory"
    trained = settings.get("data", {}).get("episodes", EpisodesConfig.episodes)
    episodes = 1 if remembers else first["episodes"] or trained
    each = np.array(first["lengths"], float).mean(1) * episodes
    return np.concatenate([[0.0], np.cumsum(each[:-1])])


def text(name: str, curves: Sequence[Curve]) -> str:
    """Return the table of one preset, and its figure."""
    preset = name.removeprefix(f"{LABEL}-")
    drawn = f"![{preset}: return against environment steps of adapting](../images/{name}.png)"
    return f"{table(*scores(PLAN, curves))}\n\n{drawn}"


def figure(curves: Sequence[Curve]) -> Figure:
    """Draw return against the environment steps of adapting, with 95 % intervals."""
    return budget(PLAN, curves)
