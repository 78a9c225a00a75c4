"""Make the page of published numbers beside ours, from the lines of ``benchmarks.reproduce``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arms import FOLDER, Arm, arms, by_preset
from benchmarks.published import Published
from benchmarks.published_list import PUBLISHED
from benchmarks.reproduce_list import RUNS, Run
from benchmarks.speed.tables import table
from meta_rl import envs
from meta_rl.config import EpisodesConfig
from meta_rl.evaluation.tables import interval
from meta_rl.statistics import interquartile_mean, mean, stratified_bootstrap

BONUS = {
    "ant-direction": 1.0,
    "ant-direction-maml": 0.05,
    "ant-velocity": 0.05,
    "humanoid-direction": 5.0,
    "walker2d-random-params": 1.0,
    "hopper-random-params": 1.0,
}
"""The reward of each step on which a robot is healthy, in every return of its family."""
SHOWN = 0, 1, 2, 3, 5, 10
"""Numbers of inner steps in the tables."""
READ = {
    "table": "its table",
    "files": "its result files",
    "plot": "its plot",
    "second-hand": "notes of others",
}
MINUS, NO_BREAK = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"
STATISTICS = mean, interquartile_mean
TRAINED = {True: "yes", False: "no", None: "not said"}


def text(runs: Sequence[Run] = RUNS, folder: Path = FOLDER) -> str:
    """Return a section for each preset of the list: our results, then the published ones."""
    parts = []
    for preset, found in by_preset(arms(runs, folder)).items():
        parts += [f"## {preset}", protocol(found[0]), ours(found)]
        if beside := [one for one in PUBLISHED if one.preset == preset]:
            parts.append(published(beside))
        if any(arm.lines for arm in found):
            parts.append(source([line for arm in found for line in arm.lines]))
    return "\n\n".join([*parts, "## Sources of the published numbers", studies(PUBLISHED)])


def protocol(arm: Arm) -> str:
    """Return a sentence on how the runs of a preset are scored."""
    run = arm.runs[0]
    first, data = run.protocols[0], run.config.data
    told = isinstance(first.tasks, int)
    tasks = f"{first.tasks} held-out tasks" if told else "both tasks, which are trained on"
    if not isinstance(data, EpisodesConfig):
        return f"{arm.score_name.capitalize()} on {tasks}."
    score = "Return" if run.config.family in envs.FAMILIES else "Success rate"
    return f"{score} on {tasks}; horizon {horizon(arm)}, {_episodes(arm, 0)} an inner step."


def horizon(arm: Arm) -> int:
    """Return the steps of an episode that does not end early."""
    family = envs.FAMILIES.get(arm.runs[0].config.family)
    return envs.metaworld.MetaWorld.horizon if family is None else family.horizon


def ours(found: Sequence[Arm]) -> str:
    """Return the table of our arms: mean over IQM after each number of inner steps."""
    last = max((len(arm.values()) - 1 for arm in found if arm.lines), default=0)
    steps = [k for k in SHOWN if k <= last]
    episodes = isinstance(found[0].runs[0].config.data, EpisodesConfig)
    spent = "environment steps" if episodes else "examples"
    head = ["here", spent, "seeds x tasks", *(f"after {k}" for k in steps)]
    rows = [row for arm in found for row in _rows(arm, steps)]
    return table([*head, "processor seconds", "note"], rows)


def _rows(arm: Arm, steps: Sequence[int]) -> Iterator[list[str]]:
    """Yield the rows of one arm: its first protocol's, then what is counted apart, then others'."""
    wanted, note = len(arm.runs), "; ".join(_notes(arm))
    if not arm.lines:
        empty = ["" for _ in steps[1:]]
        seeds = f"0 of {wanted}"
        state = "failed" if arm.failed else "not yet run"
        yield [arm.title, _planned(arm), seeds, state, *empty, "", note]
        return
    spent, seconds = (np.median([line[n] for line in arm.lines]) for n in ("samples", "seconds"))
    values, seeds = arm.measured(), len(arm.lines)
    counted = f"{seeds}{f' of {wanted}' if seeds < wanted else ''} x {values.shape[2]}"
    costs = [f"{spent:,.0f}", counted]
    yield [arm.title, *costs, *_cells(values, steps), f"{seconds:,.0f}", note]
    for title, apart in _apart(arm):
        yield [title, "", "", *_cells(apart, steps), "", ""]
    for number in range(1, len(arm.runs[0].protocols)):
        title, others = f"the same, {_episodes(arm, number)} a step", arm.measured(number)
        yield [title, "", f"x {others.shape[2]}", *_cells(others, steps), "", ""]


def _planned(arm: Arm) -> str:
    """Return the planned length, in environment steps too, as if no episode ended early."""
    config = arm.runs[0].config
    if not isinstance(config.data, EpisodesConfig):
        return arm.planned
    steps = config.data.tasks * config.data.episodes * horizon(arm) * (config.inner.steps + 1)
    return f"{arm.planned}, up to {config.iterations * steps / 1e6:.3g}M steps"


def _apart(arm: Arm) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what a return is divided into: forward progress, and a trial's whole reward."""
    if arm.preset in BONUS:
        bonus = BONUS[arm.preset]
        rest = arm.values() - bonus * arm.values(of="lengths")
        yield f"the same, without the bonus of {bonus:g} a step", rest
    if arm.remembers and len(arm.values()) > 1:
        yield "the same, whole trials", arm.values().sum(0, keepdims=True)


def _cells(values: np.ndarray, steps: Sequence[int]) -> list[str]:
    """Return mean over IQM after each number of inner steps; empty beyond the last."""
    cells = []
    for k in steps:
        if k < len(values):
            both = (stratified_bootstrap(values[k], statistic) for statistic in STATISTICS)
            cells.append("<br>".join(map(interval, both)).replace(" ", NO_BREAK))
        else:
            cells.append("")
    return cells


def _notes(arm: Arm) -> Iterator[str]:
    if note := arm.runs[0].note:
        yield note
    if arm.failed:
        yield f"{len(arm.failed)} failed: {arm.failed[0]}".replace("|", r"\|")
    if arm.older:
        yield f"seeds run with older settings, to be run again: {arm.older}"
    if arm.lines and arm.remembers:
        yield "after k: episode k + 1 of a trial"


def _episodes(arm: Arm, protocol: int) -> str:
    count = arm.episodes(protocol)
    return f"{count} episode{'s' if count > 1 else ''}"


def published(found: Sequence[Published]) -> str:
    """Return the table of published results of one preset."""
    head = ["published", "score", "meta-training", "seeds", "horizon", "on training tasks"]
    return table([*head, "source"], [_published_row(one) for one in found])


def _published_row(one: Published) -> list[str]:
    after = ", ".join(str(k) for k in one.scores if k is not None)
    score = ", ".join(f"{value:g}" for value in one.scores.values()).replace("-", MINUS)
    spread = one.spread if one.spread.startswith("±") else f"({one.spread})" * bool(one.spread)
    return [
        one.algorithm,
        " ".join(filter(None, [score, spread, f"after {after}" * bool(after)])),
        one.length,
        _known(one.study.seeds),
        _known(one.study.horizon),
        TRAINED[one.training_tasks],
        "; ".join(filter(None, [one.study.name, one.note])),
    ]


def studies(found: Sequence[Published]) -> str:
    """Return the table of the sources of published results, with their protocols."""
    rows = {
        one.study.name: [one.study.name, one.study.source, READ[one.study.read], one.study.protocol]
        for one in found
    }
    return table(["name", "source", "read from", "protocol"], list(rows.values()))


def _known(number: int | None) -> str:
    return "" if number is None else str(number)


def source(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return a line with the commits, days, versions and hardware of finished runs."""
    made = [line["provenance"] for line in lines]
    commits = dict.fromkeys(commit for one in made for commit in one["commit"])
    days = sorted({one["date"] for one in made})
    versions = dict.fromkeys(
        f"torch {one['torch']}, gymnasium {one['gymnasium']}, mujoco {one['mujoco']}, "
        f"Python {one['python']}; {one['gpu'] or one['cpu']}, {one['threads']} thread"
        for one in made
    )
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    named = ", ".join(f"`{commit}`" for commit in commits)
    return f"Commit {named}, {when}; {'; '.join(versions)}."
