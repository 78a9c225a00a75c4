"""Make a run's network smaller and faster: ``meta-rl prune RUN --keep 0.5``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from meta_rl.cli.parsing import parse
from meta_rl.cli.running import work
from meta_rl.errors import require


@dataclass(frozen=True, kw_only=True)
class Prune:
    """What to prune, how far, and how it recovers."""

    run: Annotated[Path, tyro.conf.Positional]
    """A run folder, or one checkpoint in it. It stays as it is."""
    keep: tuple[float, ...] = (0.5,)
    """Share of each hidden layer's units (or channels) that stays. Several make a curve; with 1
    among them it shows what the further training alone does."""
    by: Literal["saliency", "magnitude"] = "saliency"
    """What goes first: units that the meta-gradient says matter least, or with small weights."""
    rounds: int = 1
    """Take out a few units, train on, and so on so many times."""
    iterations: int = 20
    """Iterations of meta-training after each round; 0 for none."""
    tasks: int | None = None
    """Held-out tasks to score on; as many as the run tests on when not given."""
    log_dir: Path = Path("runs")
    """A folder RUN-pruned_1 is made in it, with a run folder for each share that stays."""
    device: str = "auto"
    """auto (CUDA where there is one), cpu or cuda."""
    data: Path | None = None
    """Where the data that the run was trained on are now, if they were moved."""
    families: Path | None = None
    """A Python file of yours that registers the family, as in meta-rl train."""


def main(arguments: list[str]) -> None:
    """Prune, train on, and show sizes, scores and latencies before and after."""
    command = parse(Prune, arguments, prog="meta-rl prune", description=__doc__)
    _check(command)
    work("prune", command)


def _check(command: Prune) -> None:
    require(len(command.keep) > 0, "keep", "a share or several", command.keep)
    for keep in command.keep:
        require(0 < keep <= 1, "keep", "a share above 0, at most 1", keep)
    twice = len(set(command.keep)) < len(command.keep)
    require(not twice, "keep", "different shares", command.keep)
    require(command.rounds >= 1, "rounds", "1 or more", command.rounds)
    require(command.iterations >= 0, "iterations", "0 or more", command.iterations)
    require(command.tasks is None or command.tasks >= 1, "tasks", "1 or more", command.tasks)
