"""Load runs and group them by algorithm: runs of one algorithm differ only in their seed."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meta_rl import loading
from meta_rl.config import to_dict
from meta_rl.errors import InputError
from meta_rl.naming import printable
from meta_rl.problem import Problem
from meta_rl.runs.learner import MetaLearner
from meta_rl.storage.reading import read_file, reading
from meta_rl.storage.run_folder import run_of

# Settings that do not define an algorithm: they change no result, or are compared elsewhere.
APART = (
    *("seed", "iterations", "log_every", "checkpoint_every", "eval"),
    *("workers", "tasks_at_once", "program"),
)

# Files of a run folder that tell theta's source, which config.json does not. OF_A_SEED are the keys
# in these files that depend on one machine or seed.
STARTS = ("init_sb3.zip", "init_run.json", "init_experts/experts.json")
ORIGINS = (*STARTS, "pruned.json")
OF_A_SEED = ("run", "file", "kl")


@dataclass(frozen=True)
class Run:
    """A trained learner and its run folder."""

    path: Path
    """The run folder, even if one of its checkpoints was given."""
    learner: MetaLearner
    problem: Problem
    """The learner's problem, with the evaluation's number of episodes (or shots)."""
    settings: dict[str, Any]
    """The settings that define the algorithm: every setting that changes results, by its dotted
    name, and hashes of the files that tell theta's source or pruning."""

    @property
    def started(self) -> bool:
        """Whether training started from weights that were trained before."""
        return any(Path(name).stem in self.settings for name in STARTS)


@dataclass(frozen=True)
class Algorithm:
    """Runs that differ only in their seed."""

    name: str
    runs: tuple[Run, ...]


def load_algorithms(
    paths: Sequence[Path],
    device: str,
    episodes: int | None = None,
    data: Path | None = None,
) -> list[Algorithm]:
    """Load runs and pool them by algorithm, in the order given.

    Args:
        paths: run folders or checkpoints.
        device: the device to compute on.
        episodes: episodes (or shots) per inner step; as in meta-training when None.
        data: the folder of the runs' data, if the data were moved.

    Raises:
        InputError: if there is no checkpoint, families differ, or a run is given twice.
    """
    runs = [_load(path, device, episodes, data) for path in paths]
    _check(runs)
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(repr(run.settings), []).append(run)
    names = _names([group[0] for group in groups.values()])
    algorithms = []
    for name, group in zip(names, groups.values(), strict=True):
        numbers = [run.learner.config.seed for run in group]
        if len(set(numbers)) < len(numbers):
            raise InputError(
                f"runs: {name} has the same settings and seed twice, which would count one run as "
                f"two; got seeds {numbers}. Give each run once, or train with another --seed."
            )
        algorithms.append(Algorithm(name, tuple(group)))
    return algorithms


def _load(path: Path, device: str, episodes: int | None, data: Path | None) -> Run:
    learner = loading.load(path, device, data=data)
    problem = learner.problem if episodes is None else learner.problem.resized(episodes)
    home = run_of(path)
    settings = {
        name: value
        for name, value in flat(to_dict(learner.config)).items()
        if not set(name.split(".")) & set(APART)
    }
    settings["iterations"] = learner.iteration
    for name in ORIGINS:
        if os.path.exists(file := home / name):
            settings[file.stem] = hashlib.sha256(_origin(file)).hexdigest()[:12]
    return Run(home, learner, problem, settings)


def _origin(file: Path) -> bytes:
    """Return the part of an origin file that is the same for every seed."""
    with reading(f"runs: {file}", "It has to be as it was written."):
        data = read_file(file)
        if file.suffix != ".json":
            return data
        content = json.loads(
            data,
            object_hook=lambda told: {k: v for k, v in told.items() if k not in OF_A_SEED},
        )
        return json.dumps(content, sort_keys=True).encode()


def _check(runs: Sequence[Run]) -> None:
    problems = [run.problem.describe() for run in runs]
    for run, problem in zip(runs, problems, strict=True):
        if problem != problems[0]:
            raise InputError(
                f"runs: expected runs of one family, got {problems[0]['family']} in {runs[0].path} "
                f"and {problem['family']} in {run.path}, or other spaces or ways. Evaluate them "
                "one by one."
            )


def _names(firsts: Sequence[Run]) -> list[str]:
    """Return the run folders' names without their number, plus settings if names are equal."""
    stems = [printable(re.sub(r"_\d+$", "", run.path.resolve().name)) for run in firsts]
    names = []
    for stem, run in zip(stems, firsts, strict=True):
        alike = [r.settings for s, r in zip(stems, firsts, strict=True) if s == stem]
        keys = dict.fromkeys(key for settings in alike for key in settings)
        differ = [key for key in keys if len({repr(s.get(key)) for s in alike}) > 1]
        told = [f"{key.split('.')[-1]}={run.settings.get(key)}" for key in differ]
        names.append(", ".join([stem, *told]))
    return names


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested values to a dict by dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        inner = flat(value, f"{prefix}{name}.") if isinstance(value, dict) else None
        found |= inner if inner is not None else {f"{prefix}{name}": value}
    return found
