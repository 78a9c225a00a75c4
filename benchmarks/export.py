"""Write the results of the long runs for other tools: ``python -m benchmarks.export``.

- ``rliable/PRESET_N-tasks.npz``: for each arm that was scored on these N tasks, its scores after
  the last inner step, ``(runs, tasks)``.
- ``rliable/PRESET_N-tasks_steps.npz``: the same after 0..K inner steps, ``(runs, tasks, K + 1)``.
- ``openrlbenchmark/ENTITY/PROJECT``: every run's learning curve, as openrlbenchmark 0.3 keeps the
  runs that it works on offline.

docs/benchmarks/published.md shows how to read them.
"""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arms import FOLDER, Arm, Line, arms_in
from benchmarks.equal_budgets import EQUAL
from benchmarks.reproduce_list import RUNS, Run
from meta_rl.cli.command import run_command
from meta_rl.cli.parsing import parse
from meta_rl.storage import files

ENTITY, PROJECT = "meta-rl-agents", "reproduce"
"""The owner and the project of the runs, by which openrlbenchmark finds them."""
METRIC = "charts/episodic_return"
TABLE = """CREATE TABLE offlinerun (
    id VARCHAR(255) NOT NULL, name VARCHAR(255) NOT NULL, state VARCHAR(255) NOT NULL,
    url VARCHAR(255) NOT NULL, path TEXT NOT NULL, username VARCHAR(255) NOT NULL,
    project VARCHAR(255) NOT NULL, entity VARCHAR(255) NOT NULL, config TEXT NOT NULL)"""
"""The table in which openrlbenchmark looks up runs."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """The folder of results, and the folder to write to."""

    results: Path = FOLDER
    """Folder of results: one line for each finished run, in a file for each family."""
    folder: Path = Path("runs/export")
    """The folder to write to. Files of the same names in it are replaced."""


def main(arguments: list[str], runs: Sequence[Run] = (*RUNS, *EQUAL)) -> None:
    """Write the results of all finished runs, and say how many."""
    command = parse(Export, arguments, prog="export", description=__doc__)
    finished = [arm for arm in arms_in(command.results, runs) if arm.lines]
    for_rliable(finished, command.folder / "rliable")
    count = for_openrlbenchmark(finished, command.folder / "openrlbenchmark" / ENTITY / PROJECT)
    print(f"wrote {command.folder}: scores of {len(finished)} arms, curves of {count} runs")


def for_rliable(finished: Sequence[Arm], folder: Path) -> None:
    """Write the score matrices of each preset and number of tasks."""
    files.make_folder(folder)
    for name, scores in matrices(finished).items():
        files.write(folder / f"{name}.npz", packed({a: s[..., -1] for a, s in scores.items()}))
        files.write(folder / f"{name}_steps.npz", packed(scores))


def matrices(finished: Sequence[Arm]) -> dict[str, dict[str, np.ndarray]]:
    """Return scores ``(runs, tasks, K + 1)`` of each arm, by preset and number of tasks.

    An arm that was scored by several protocols has an entry for each, with the episodes of an
    inner step in its name. Tasks are equal within one file. Scores of Meta-World are success rates.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for arm in finished:
        count = len(arm.runs[0].protocols)
        for number in range(count):
            scores = np.moveaxis(arm.measured(number), 0, -1)
            episodes = f"_{arm.episodes(number)}-episodes" if count > 1 else ""
            group = found.setdefault(f"{arm.preset}_{scores.shape[1]}-tasks", {})
            group[arm.name + episodes] = scores
    return found


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return arrays as the content of an ``.npz`` file."""
    np.savez_compressed(file := io.BytesIO(), **arrays)  # pyright: ignore[reportArgumentType]
    return file.getvalue()


def for_openrlbenchmark(finished: Sequence[Arm], folder: Path) -> int:
    """Write the learning curves of all runs that were trained; return their number."""
    files.make_folder(folder)
    runs = [one for arm in finished for one in described(arm)]
    for run, curve in runs:
        files.make_folder(folder / run["id"])
        files.write(folder / run["id"] / "run.json", json.dumps(run))
        files.write_csv(folder / run["id"] / "run_df.csv", curve)
    files.write(folder / "offline.sqlite", database([run for run, _ in runs]))
    return len(runs)


def described(arm: Arm) -> Iterator[tuple[dict[str, Any], list[list[Any]]]]:
    """Yield what openrlbenchmark keeps of each trained run, and the rows of its curve."""
    for line in (one for one in arm.lines if "curve" in one):
        config = {"env_id": arm.preset, "exp_name": arm.name}
        config |= {name: line[name] for name in ("algorithm", "seed", "iterations", "settings")}
        config["commit"] = line["provenance"]["commit"]
        run = {
            "id": line["id"],
            "name": line["id"],
            "state": "finished",
            "url": "",
            "project": PROJECT,
            "entity": ENTITY,
            "config": config,
            "tags": [],
            "path": [ENTITY, PROJECT, line["id"]],
            "user": {"username": ENTITY, "name": ENTITY},
        }
        yield run, curve(line)


def curve(line: Line) -> list[list[Any]]:
    """Return the rows of a run's curve, the names of the columns first.

    Lines have no times of single points: ``_runtime`` divides the whole run's seconds in proportion
    to the iterations.
    """
    points, seconds = line["curve"], line["seconds"] / line["iterations"]
    after = [f"charts/return_after_{k}" for k in range(len(points["scores"][0]))]
    rows = zip(points["iteration"], points["samples"], points["scores"], strict=True)
    return [
        ["_step", "global_step", "_runtime", METRIC, *after],
        *([i, samples, i * seconds, scores[-1], *scores] for i, samples, scores in rows),
    ]


def database(runs: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the database in which openrlbenchmark looks up runs."""
    names = "id", "name", "state", "url", "path", "username", "project", "entity", "config"
    rows = [
        [json.dumps(v) if isinstance(v, list | dict) else v for v in map(values.get, names)]
        for values in ({**run, "username": run["user"]["username"]} for run in runs)
    ]
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute(TABLE)
        places = ", ".join("?" * len(names))
        connection.executemany(f"INSERT INTO offlinerun VALUES ({places})", rows)
        connection.commit()
        return connection.serialize()
    finally:
        connection.close()


if __name__ == "__main__":
    run_command(main)
