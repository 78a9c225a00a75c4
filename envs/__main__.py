"""``python -m envs [FAMILY ...]``: task families with parameters, spaces, horizon and source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from commands import import_families, parse, run_command
from envs import EXAMPLES, FAMILIES, Family, make_family
from envs.metaworld import IDS
from meta_rl.errors import InputError


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
    """A Python file of yours that registers task families (envs.register)."""


def main(arguments: list[str]) -> None:
    """Describe these families, or all."""
    command = parse(List, arguments, prog="python -m envs")
    import_families(command.families)
    families = [make_family(name) for name in command.names] or FAMILIES.values()
    print("\n\n".join(describe(family) for family in families))
    if not command.names:
        print(f"\nMeta-World (pip install -e '.[metaworld]'): {', '.join(IDS)}")
        print("\nFew-shot data (docs/few-shot.md):")
        print("\n".join(f"  {name}: {what}" for name, what in EXAMPLES.items()))


if __name__ == "__main__":
    run_command(main, prints=True)
