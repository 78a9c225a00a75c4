"""``meta-rl envs [FAMILY ...]``: task families with parameters, spaces, horizon and source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from meta_rl.cli.parsing import parse
from meta_rl.cli.running import work


@dataclass(frozen=True, kw_only=True)
class List:
    """Task families with parameters, spaces, horizon and source."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Families of environments to describe; everything if none is given."""
    families: Path | None = None
    """A Python file of yours that registers task families (meta_rl.register)."""


def main(arguments: list[str]) -> None:
    """Describe these families, or all."""
    work("envs", parse(List, arguments, prog="meta-rl envs"))
