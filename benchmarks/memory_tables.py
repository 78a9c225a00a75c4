"""Make the table of policies with memory from the results of the long runs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmarks.arms import Arm, arms
from benchmarks.provenance import read
from benchmarks.published import RL2_TABLES
from benchmarks.reproduce_list import MEMORY, RUNS
from benchmarks.speed.tables import table
from benchmarks.tables import interval


def rl2_table() -> str:
    """Return total rewards of whole trials, beside the published ones; a row for each problem."""
    head = ["total reward of a trial", "random", "Gittins; PSRL", "UCB1; UCRL2", "RL2, published"]
    head += ["Gittins, here", "MAML, here"]
    head += ["RL2, here", "seeds", "environment steps a seed", "hours a seed"]
    rows, known = [], read("gittins").get("scores", {})
    by = (arm for arm in arms(RUNS) if arm.runs[0].algorithm == "maml" and not arm.runs[0].label)
    adapting = {arm.preset: arm for arm in by}
    for arm in arms(MEMORY):
        name = arm.runs[0].arm
        title, *numbers = RL2_TABLES[name]
        by_index = f"{known[name]['mean']:.1f}" if name in known else ""
        rows.append([title, *map(str, numbers), by_index, by_maml(arm, adapting), *_measured(arm)])
    return table(head, rows)


def by_maml(arm: Arm, adapting: Mapping[str, Arm]) -> str:
    """Return the total reward if MAML plays an arm's trials, with the best number of inner steps.

    It plays the episodes of one inner step after another, and the rest of the trial adapted.
    """
    maml = adapting.get(arm.preset)
    if maml is None:
        return ""
    if not maml.lines:
        return "not run yet"
    trial, each, values = arm.runs[0].config.inner.steps + 1, maml.episodes(), maml.values()
    last = min(len(values) - 1, (trial - 1) // each)
    totals = [
        each * values[:steps].sum(0) + (trial - each * steps) * values[steps]
        for steps in range(last + 1)
    ]
    return interval(max(totals, key=np.mean))


def _measured(arm: Arm) -> list[str]:
    """Return the cells of our results: those of the finished seeds."""
    if not arm.lines:
        return ["not run yet", "0", "-", "-"]
    spent = ("samples", "seconds")
    steps, seconds = (np.median([line[name] for line in arm.lines]) for name in spent)
    totals = interval(arm.values().sum(0))
    return [totals, str(len(arm.lines)), f"{steps:,.0f}", f"{seconds / 3600:.2f}"]
