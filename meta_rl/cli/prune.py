"""Make a run's network smaller and faster: ``meta-rl prune RUN --keep 0.5``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from meta_rl.cli.command import work
from meta_rl.cli.parsing import parse
from meta_rl.errors import require


@dataclass(frozen=True, kw_only=True)
class Prune:
    """Options of ``meta-rl prune``."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder, a checkpoint in it, or pretrained:NAME for a model that is shipped. It is not
    changed."""
    keep: tuple[float, ...] = (0.5,)
    """Fraction of each hidden layer's units (or channels) to keep. Several fractions make a curve.
    Fraction 1 shows the effect of the further training alone."""
    by: Literal["saliency", "magnitude"] = "saliency"
    """Units to remove first. saliency: units whose removal would change
    the outer loss least, by the meta-gradient.
    magnitude: units with the smallest weights."""
    rounds: int = 1
    """Number of rounds in which to remove units and train further."""
    iterations: int = 20
    """Iterations of meta-training after each round; 0 for none."""
    tasks: int | None = None
    """Number of held-out tasks to score; if not given, as in the run's final test."""
    log_dir: Path = Path("runs")
    """Folder in which to make a folder RUN-pruned_1, with a run folder for each fraction."""
    device: str = "auto"
    """Device: auto (CUDA if there is one), cpu or cuda."""
    data: Path | None = None
    """Folder of the run's training data, if it was moved."""
    families: Path | None = None
    """Python file of yours to run, which registers the family or has the network's module, as in
    meta-rl train."""


def main(arguments: list[str]) -> None:
    """Prune, train further, and show sizes, scores and latencies before and after."""
    command = parse(Prune, arguments, prog="meta-rl prune", description=__doc__)
    _check(command)
    work("prune", command)


def _check(command: Prune) -> None:
    require(len(command.keep) > 0, "keep", "a fraction or several", command.keep)
    for keep in command.keep:
        require(0 < keep <= 1, "keep", "a fraction above 0, at most 1", keep)
    twice = len(set(command.keep)) < len(command.keep)
    require(not twice, "keep", "different fractions", command.keep)
    require(command.rounds >= 1, "rounds", "1 or more", command.rounds)
    require(command.iterations >= 0, "iterations", "0 or more", command.iterations)
    require(command.tasks is None or command.tasks >= 1, "tasks", "1 or more", command.tasks)
