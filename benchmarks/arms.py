"""Group the runs of ``benchmarks.reproduce`` and their results: one arm for all seeds of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.provenance import RESULTS
from benchmarks.reproduce_list import Run
from benchmarks.reproduce_results import fits, read, results_file
from meta_rl.config import EpisodesConfig
from meta_rl.errors import require

FOLDER = RESULTS / "reproduce"
Line = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Runs of one preset, algorithm, label and length, which differ in their seeds alone.

    Args:
        runs: the listed runs, one for each seed.
        lines: the lines of results of the finished runs.
        failed: why each other finished run has no scores.
        older: number of lines whose settings or protocols are no longer those of the list.
    """

    runs: tuple[Run, ...]
    lines: tuple[Line, ...]
    failed: tuple[str, ...]
    older: int

    @property
    def preset(self) -> str:
        """The preset with the settings."""
        return self.runs[0].preset

    @property
    def name(self) -> str:
        """The arm's name among those of its preset: algorithm, label and length."""
        return _without_seed(self.runs[0]).removeprefix(f"{self.preset}_")

    @property
    def title(self) -> str:
        """The arm's name for people, without the length."""
        run = self.runs[0]
        label = re.sub(r"\b1 episodes", "1 episode", run.label.replace("-", " "))
        return ", ".join(filter(None, [run.method, *label.split("_")]))

    @property
    def planned(self) -> str:
        """The planned length of training."""
        run = self.runs[0]
        if run.scratch:
            return "none"
        return f"{run.samples:,} steps" if run.samples else f"{run.iterations:,} iterations"

    @property
    def remembers(self) -> bool:
        """Whether the policy adapts by its memory: scores are those of a trial's episodes."""
        return self.runs[0].config.inner.method == "memory"

    @property
    def score_name(self) -> str:
        """The name of the scores."""
        config = self.runs[0].config
        if isinstance(config.data, EpisodesConfig):
            return "return"
        return "accuracy" if config.network.kind == "convolutional" else "mean squared error"

    def episodes(self, protocol: int = 0) -> int:
        """Return the episodes of an inner step in one evaluation; 0 if there are none."""
        run = self.runs[0]
        data = run.config.data
        return run.protocols[protocol].episodes or getattr(data, "episodes", 0)

    def values(self, protocol: int = 0, of: str = "scores") -> np.ndarray:
        """Return the values of one evaluation, ``(K + 1, S, M)`` for S finished seeds.

        Args:
            protocol: number of the protocol.
            of: ``scores``, ``lengths`` or ``successes``.
        """
        return np.stack(
            [np.array(line["evaluations"][protocol][of], float) for line in self.lines], 1
        )

    def measured(self, protocol: int = 0) -> np.ndarray:
        """Return success rates where the environments tell them, else scores: ``(K + 1, S, M)``."""
        told = "successes" in self.lines[0]["evaluations"][protocol]
        return self.values(protocol, "successes" if told else "scores")


def arms(runs: Sequence[Run], folder: Path = FOLDER) -> list[Arm]:
    """Return the arms of a list of runs, in the list's order, with the results so far."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_without_seed(run), []).append(run)
    known = {
        path: {line["id"]: line for line in read(path)}
        for path in dict.fromkeys(results_file(folder, run) for run in runs)
    }
    return [_arm(group, known[results_file(folder, group[0])]) for group in groups.values()]


def arms_in(folder: Path, runs: Sequence[Run]) -> list[Arm]:
    """Return :func:`arms` with the results in a folder that a user names.

    Raises:
        InputError: if there is no such folder.
    """
    require(folder.is_dir(), "results", "a folder of results", str(folder))
    return arms(runs, folder)


def by_preset(found: Sequence[Arm]) -> dict[str, list[Arm]]:
    """Return the arms of each preset, in the list's order."""
    groups: dict[str, list[Arm]] = {}
    for arm in found:
        groups.setdefault(arm.preset, []).append(arm)
    return groups


def _arm(runs: Sequence[Run], known: Mapping[str, Line]) -> Arm:
    held = [(known[run.id], run) for run in runs if run.id in known]
    valid = [line for line, run in held if fits(line, run)]
    return Arm(
        runs=tuple(runs),
        lines=tuple(line for line in valid if "failed" not in line),
        failed=tuple(line["failed"] for line in valid if "failed" in line),
        older=len(held) - len(valid),
    )


def _without_seed(run: Run) -> str:
    return run.id.rsplit("_seed-", 1)[0]
