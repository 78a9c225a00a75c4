"""Which settings have an effect in a run, so that ``--help`` shows these alone."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

from meta_rl.config.checks import options_of
from meta_rl.config.effects import PARTS, Facts
from meta_rl.config.run import Config
from meta_rl.errors import InputError

RARE = {
    *("outer.cg_iterations", "outer.cg_progress", "outer.damping"),
    *("outer.backtrack_ratio", "outer.backtracks"),
    *("blocks", "speed.members_at_once", "inner.positive"),
}
"""Settings that act and that hardly anybody changes: ``--help-all`` shows them."""


def without_effect(run: Config, facts: Facts) -> set[str]:
    """Return the settings, by their dotted names, of which no other value would do anything.

    Every other value is refused, or what it acts with is not chosen. A setting of a kind that is
    not known here, in a class of your own, counts as one with an effect.
    """
    found = set()
    for part in PARTS:
        owner = getattr(run, part) if part else run
        hints = typing.get_type_hints(type(owner))
        for field in dataclasses.fields(owner):
            if field.name not in PARTS:
                tried = [*others(getattr(owner, field.name), hints[field.name])]
                acts = [_acts(run, part, field.name, value, facts) for value in tried]
                if acts and not any(acts):
                    found.add(f"{part}.{field.name}".lstrip("."))
    return found


def others(value: Any, hint: Any) -> Iterator[Any]:
    """Yield values of a type other than the one given, a few of each kind that it allows."""
    for kind in options_of(hint):
        if typing.get_origin(kind) is Literal:
            yield from (word for word in typing.get_args(kind) if word != value)
        elif kind is bool:
            yield not value
        elif kind is int:
            yield from (value + 1, value - 1) if type(value) is int else (1, 2)
        elif kind is float:
            yield from (value / 2, 2 * value) if value else (0.5, 1.0)
        elif kind is str:
            yield f"{value}-other"
        elif typing.get_origin(kind) is tuple:
            yield (3, 3, 3, 3)


def _acts(run: Config, part: str, name: str, value: Any, facts: Facts) -> bool:
    """Return whether a run with this value is accepted, and the setting acts in it."""
    try:
        changed: Any = {name: value}
        if part:
            changed = {part: replace(getattr(run, part), **changed)}
        other = replace(run, **changed)
    except InputError:
        return False
    dotted = f"{part}.{name}".lstrip(".")
    owners = (getattr(other, part) if part else other for part in PARTS)
    told = (condition for owner in owners for condition in owner.conditions(other, facts))
    return all(acts for setting, acts, _ in told if setting == dotted)
