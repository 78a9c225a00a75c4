"""Make the table of the classic-control presets from the results of the long runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.provenance import RESULTS
from benchmarks.provenance import read as read_json
from benchmarks.published_tables import source
from benchmarks.reproduce_list import CHEAP, Run
from benchmarks.reproduce_results import fits, read, results_file
from benchmarks.speed.tables import table
from benchmarks.tables import interval

PRESETS = (
    *("cartpole", "pendulum", "acrobot"),
    *("mountain-car-energy", "mountain-car-continuous"),
)


def classic_table() -> str:
    """Return a row for each preset: returns after its own run, and what the run cost."""
    head = ["", *("before", "after 1", "after 2", "after 3"), "worst task after 3"]
    head += ["told the task", "seeds x iterations", "environment steps", "seconds"]
    told: dict[str, list[float]] = read_json("controllers").get("returns", {})
    rows, every = [], []
    for preset in PRESETS:
        if lines := _lines([run for run in CHEAP if run.preset == preset]):
            every += lines
            best = f"{np.mean(told[preset]):.3g}" if preset in told else "-"
            rows.append([f"`{preset}`", *_cells(lines, best)])
    return f"{table(head, rows)}\n\n{source(every)}"


def _lines(runs: list[Run]) -> list[Any]:
    """Return the results of the finished seeds."""
    held = read(results_file(RESULTS / "reproduce", runs[0]))
    fitting = [line for line in held if any(fits(line, run) for run in runs)]
    return [line for line in fitting if "failed" not in line]


def _cells(lines: list[Any], best: str) -> list[str]:
    scores = np.array([line["evaluations"][0]["scores"] for line in lines])  # (seeds, K + 1, M)
    steps, seconds = (np.median([line[name] for line in lines]) for name in ("samples", "seconds"))
    trained = f"{len(lines)} x {lines[0]['iterations']}"
    cells = [interval(scores[:, k]) for k in range(4)]
    return [*cells, f"{scores[:, 3].min():.3g}", best, trained, f"{steps:,.0f}", f"{seconds:.0f}"]
