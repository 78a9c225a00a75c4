"""Find task families by id: the catalogue's families, and families that a user registers."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from meta_rl.errors import InputError, unknown
from meta_rl.families.family import Family
from meta_rl.storage.reading import shortened

FAMILIES: dict[str, Family] = {}
"""Every registered family, by id. Importing the catalogue, :mod:`meta_rl.envs`, registers its."""


def catalogue() -> Any:
    """Import and return :mod:`meta_rl.envs`, which registers its families."""
    return import_module("meta_rl.envs")


def make_family(name: str) -> Family:
    """Return the family of this id; some families are made on demand.

    Raises:
        InputError: if no family has the id (names the nearest), or its package is missing.
    """
    envs = catalogue()
    if name in FAMILIES:
        return FAMILIES[name]
    for prefix, make in envs.ON_DEMAND.items():
        if name.startswith(prefix):
            return make(name)
    known = [*FAMILIES, *envs.IDS]
    raise unknown("family", known, name, "One of your own? Give --families FILE.py.")


def register(family: Family, replace: bool = False) -> Family:
    """Make a family known by its id to presets, commands and checkpoints; return it.

    Args:
        family: an instance of a family.
        replace: True to replace a family with the same id, as when a notebook's cell runs again.

    Raises:
        InputError: if another family has the id (made on demand or not) and ``replace`` is False,
            the id cannot be written on a command line or means few-shot data, or ``family`` is a
            class or not a family.
    """
    if isinstance(family, type):
        name = family.__name__
        raise InputError(f"family: expected a family, got the class; write register({name}()).")
    if not isinstance(family, Family):
        raise InputError(f"family: expected a family, got {shortened(family)}.")
    _check_id(getattr(family, "id", None))
    made_on_demand = family.id.startswith(tuple(catalogue().ON_DEMAND))
    if (family.id in FAMILIES or made_on_demand) and not replace:
        raise InputError(
            f"family: there is a {family.id!r} already{', made on demand' * made_on_demand}; give "
            "yours another id, or take its place by register(..., replace=True)."
        )
    FAMILIES[family.id] = family
    return family


def _check_id(name: Any) -> None:
    """Refuse an id that cannot be written on a command line, or that means few-shot data."""
    said = isinstance(name, str) and name.isprintable() and name == name.strip()
    if not said or name in ("", ".", "..") or name.startswith("-"):
        raise InputError(
            f"family: expected an id that --preset can take, got {name!r}. Give it letters, digits "
            "and dashes, a letter first."
        )
    data, of_shots = re.sub(r"-\d+way-\d+shot$", "", name), catalogue().EXAMPLES
    if data in of_shots:
        raise InputError(
            f"family: expected an id of its own, got {name!r}, which means few-shot data. "
            "Give it another."
        )
