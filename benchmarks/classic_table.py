"""Make the table of the classic-control presets from the results of the long runs."""

from __future__ import annotations

import numpy as np

from benchmarks.arms import Arm, arms
from benchmarks.provenance import read
from benchmarks.published_tables import source
from benchmarks.reproduce_list import CHEAP
from benchmarks.speed.tables import short, table
from benchmarks.tables import interval

PRESETS = (
    *("cartpole", "pendulum", "acrobot"),
    *("mountain-car-energy", "mountain-car-continuous"),
)


def classic_table() -> str:
    """Return a row for each preset: returns after its own run, and what the run cost."""
    head = ["", *("before", "after 1", "after 2", "after 3"), "worst task after 3"]
    head += ["told the task", "seeds x iterations", "environment steps", "seconds"]
    told: dict[str, list[float]] = read("controllers").get("returns", {})
    listed = [run for preset in PRESETS for run in CHEAP if run.preset == preset]
    finished = [arm for arm in arms(listed) if arm.lines]
    rows = []
    for arm in finished:
        best = short(np.mean(told[arm.preset])) if arm.preset in told else "-"
        rows.append([f"`{arm.preset}`", *_cells(arm, best)])
    return f"{table(head, rows)}\n\n{source([line for arm in finished for line in arm.lines])}"


def _cells(arm: Arm, best: str) -> list[str]:
    scores, spent = arm.values(), ("samples", "seconds")
    steps, seconds = (np.median([line[name] for line in arm.lines]) for name in spent)
    trained = f"{len(arm.lines)} x {arm.lines[0]['iterations']}"
    cells = [interval(scores[k]) for k in range(4)]
    return [*cells, short(scores[3].min()), best, trained, f"{steps:,.0f}", f"{seconds:.0f}"]
