"""Make the table of policies with memory from the results of the long runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.arms import FOLDER
from benchmarks.published import RL2_TABLES
from benchmarks.reproduce_list import MEMORY, Run
from benchmarks.reproduce_results import read, results_file
from benchmarks.speed.tables import table
from benchmarks.tables import interval


def rl2_table() -> str:
    """Return total rewards of whole trials, beside the published ones; a row for each problem."""
    head = ["total reward of a trial", "random", "Gittins; PSRL", "UCB1; UCRL2", "RL2, published"]
    head += ["RL2, here", "seeds", "environment steps a seed", "hours a seed"]
    rows = []
    for arm in dict.fromkeys(run.arm for run in MEMORY):
        title, *numbers = RL2_TABLES[arm]
        rows.append([title, *map(str, numbers), *_measured([r for r in MEMORY if r.arm == arm])])
    return table(head, rows)


def _measured(runs: list[Run]) -> list[str]:
    """Return the cells of our results: those of the finished seeds."""
    known: dict[str, Any] = {line["id"]: line for line in read(results_file(FOLDER, runs[0]))}
    lines = [known[run.id] for run in runs if run.id in known and "failed" not in known[run.id]]
    if not lines:
        return ["not run yet", "0", "-", "-"]
    totals = np.array([np.sum(line["evaluations"][0]["scores"], 0) for line in lines])
    steps, seconds = (np.median([line[name] for line in lines]) for name in ("samples", "seconds"))
    return [interval(totals), str(len(lines)), f"{steps:,.0f}", f"{seconds / 3600:.2f}"]
