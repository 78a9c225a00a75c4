"""Do the work of ``meta-rl envs``."""

from __future__ import annotations

from meta_rl import envs
from meta_rl.cli.command import import_families
from meta_rl.cli.envs import List
from meta_rl.errors import InputError
from meta_rl.families import Family, make_family
from meta_rl.storage import pretrained


def describe(family: Family) -> str:
    """Return a description of a family in a few lines."""
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


def run(command: List) -> None:
    """Print descriptions of the families that the command names, or of all."""
    import_families(command.families)
    families = [make_family(name) for name in command.names] or envs.FAMILIES.values()
    print("\n\n".join(describe(family) for family in families))
    if not command.names:
        print(f"\nMeta-World (pip install -e '.[metaworld]'): {', '.join(envs.IDS)}")
        print("\nFew-shot data (docs/few-shot.md):")
        print("\n".join(f"  {name}: {what}" for name, what in envs.EXAMPLES.items()))
        print("\nTrained models (docs/pretrained.md):")
        print("\n".join(f"  {pretrained.PREFIX}{name}" for name in pretrained.names()))
