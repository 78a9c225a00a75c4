"""List task families with parameters, spaces, horizon and source: ``meta-rl envs [FAMILY ...]``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from meta_rl.cli.command import work
from meta_rl.cli.parsing import parse


@dataclass(frozen=True, kw_only=True)
class List:
    """List task families with their parameters, spaces, horizon and source."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Task families to describe; if none is given, all of them, the few-shot data and the trained
    models that are shipped."""
    families: Path | None = None
    """Python file of yours to run, which registers task families (meta_rl.register)."""


def main(arguments: list[str]) -> None:
    """Describe the families that the arguments name, or all."""
    work("envs", parse(List, arguments, prog="meta-rl envs"))
