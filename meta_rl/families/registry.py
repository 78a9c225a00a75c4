"""Task families by id: those of the catalogue, and those that a user registers."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from meta_rl.errors import InputError, unknown
from meta_rl.families.family import Family

FAMILIES: dict[str, Family] = {}
"""Every registered family. Importing the catalogue, :mod:`meta_rl.envs`, registers its own."""


def catalogue() -> Any:
    """Return :mod:`meta_rl.envs`, whose families are registered from then on."""
    return import_module("meta_rl.envs")


def make_family(name: str) -> Family:
    """Return the family of this id; some are made on demand.

    Raises:
        InputError: if there is none (names the nearest), or it needs a package that is missing.
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
        family: an instance.
        replace: whether it takes the place of another one with its id, as when the cell of a
            notebook runs again.

    Raises:
        InputError: if another family has this id and is not to be replaced, or this is a class.
    """
    if isinstance(family, type):
        name = family.__name__
        raise InputError(f"family: expected a family, got the class; write register({name}()).")
    catalogue()
    if family.id in FAMILIES and not replace:
        raise InputError(
            f"family: there is a {family.id!r} already; give yours another id, or take its place "
            "by register(..., replace=True)."
        )
    FAMILIES[family.id] = family
    return family
