"""``python -m envs [FAMILY ...]``: task families with parameters, spaces, horizon and source."""

from __future__ import annotations

import inspect
import sys

from envs import FAMILIES, Family, Sinusoid, make_family
from meta_rl.errors import InputError


def describe(family: Family | Sinusoid) -> str:
    """What there is to know about a family, in a few lines."""
    first = (inspect.getdoc(type(family)) or "").splitlines()[0]
    lines = [family.id, f"  {first}"]
    for p in family.space.parameters:
        unit = f" {p.unit}" if p.unit else ""
        lines.append(f"  {p.name}: {p.expected()}{unit}")
    if isinstance(family, Family):
        try:
            lines.append(f"  observations {family.observation_space}")
            lines.append(f"  actions {family.action_space}")
        except InputError as error:
            lines.append(f"  {error}")
        lines.append(f"  horizon {family.horizon}")
    if family.source:
        lines.append(f"  source: {family.source}")
    return "\n".join(lines)


def main(names: list[str]) -> None:
    """Describe these families, or all."""
    families = [make_family(name) for name in names] or FAMILIES.values()
    print("\n\n".join(describe(family) for family in families))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
