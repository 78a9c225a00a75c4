"""Make the table of policies with memory from the results of the long runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.provenance import RESULTS
from benchmarks.reproduce_list import MEMORY, Run
from benchmarks.reproduce_results import read, results_file
from benchmarks.speed.tables import table
from benchmarks.tables import interval

FOLDER = RESULTS / "reproduce"
PUBLISHED = {
    "bandit-5_rl2_1-episodes": ("bandits, 5 arms, 10 pulls", 5.0, 6.6, 6.7, 6.7),
    "bandit-10_rl2_1-episodes": ("bandits, 10 arms, 100 pulls", 49.9, 82.8, 82.4, 83.5),
    "bandit-50_rl2_1-episodes": ("bandits, 50 arms, 500 pulls", 249.6, 463.7, 457.6, 438.9),
    "tabular-mdp_rl2_10-episodes": ("tabular MDPs, 10 episodes", 100.1, 138.1, 146.6, 156.2),
    "tabular-mdp_rl2_25-episodes": ("tabular MDPs, 25 episodes", 250.2, 408.8, 424.1, 445.7),
    "tabular-mdp_rl2_50-episodes": ("tabular MDPs, 50 episodes", 499.7, 904.4, 918.9, 936.1),
    "tabular-mdp_rl2_100-episodes": ("tabular MDPs, 100 episodes", 999.4, 1939.5, 1942.1, 1913.7),
}
"""Duan et al. 2016, tables 1 and 2: random; Gittins or PSRL; UCB1 or UCRL2; RL2."""


def rl2_table() -> str:
    """Return total rewards of whole trials, beside the published ones; a row for each problem."""
    head = ["total reward of a trial", "random", "Gittins; PSRL", "UCB1; UCRL2", "RL2, published"]
    head += ["RL2, here", "seeds", "environment steps a seed", "hours a seed"]
    rows = []
    for arm in dict.fromkeys(run.arm for run in MEMORY):
        title, *numbers = PUBLISHED[arm]
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
