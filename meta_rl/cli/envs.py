"""``meta-rl envs [FAMILY ...]``: task families with parameters, spaces, horizon and source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from meta_rl.cli.running import import_families, parse
from meta_rl.errors import InputError

if TYPE_CHECKING:
    from meta_rl.families import Family


def describe(family: Family) -> str:
    """What there is to know about a family, in a few lines."""
    lines = [family.id, f"  {family.summary}"]
    for p in family.space.parameters:
        unit = f" {p.unit}" if p.unit else ""
        lines.append(f"  {p.name}: {p.expected()}{unit}")
    try:
        lines.append(f"  observations {family.observation_space}")
        lines.append(f"  actions {family.action_space}")
    except InputError as error:
        lines.append(f"  {error}")
    lines.append(f"  horizon {family.horizon}")
    if family.source:
        lines.append(f"  source: {family.source}")
    return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class List:
    """Task families with parameters, spaces, horizon and source."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Families of environments to describe; everything if none is given."""
    families: Path | None = None
    """A Python file of yours that registers task families (meta_rl.register)."""


def main(arguments: list[str]) -> None:
    """Describe these families, or all."""
    command = parse(List, arguments, prog="meta-rl envs")
    from meta_rl import envs
    from meta_rl.families.registry import make_family

    import_families(command.families)
    families = [make_family(name) for name in command.names] or envs.FAMILIES.values()
    print("\n\n".join(describe(family) for family in families))
    if not command.names:
        print(f"\nMeta-World (pip install -e '.[metaworld]'): {', '.join(envs.IDS)}")
        print("\nFew-shot data (docs/few-shot.md):")
        print("\n".join(f"  {name}: {what}" for name, what in envs.EXAMPLES.items()))
