"""Task families by id: those of the catalogue, and those that a user registers."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from meta_rl.errors import InputError, unknown
from meta_rl.families.family import Family
from meta_rl.storage.reading import shortened

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
        InputError: if another family has this id (those made on demand too) and is not to be
            replaced, the id cannot be said on a command line or means few-shot data, or this is a
            class or no family.
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
    """Refuse an id that commands cannot say, or that means few-shot data."""
    said = isinstance(name, str) and name.isprintable() and name == name.strip()
    if not said or name in ("", ".", "..") or name.startswith("-"):
        raise InputError(
            f"family: expected an id that --preset can say, got {name!r}. Give it letters, digits "
            "and dashes, a letter first."
        )
    data, of_shots = re.sub(r"-\d+way-\d+shot$", "", name), catalogue().EXAMPLES
    if data in of_shots:
        raise InputError(
            f"family: expected an id of its own, got {name!r}, which means few-shot data. "
            "Give it another."
        )
