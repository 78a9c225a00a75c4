"""Find the settings that have an effect in a run: ``--help`` shows no others."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

from meta_rl.config.checks import options_of, types_of
from meta_rl.config.effects import PARTS, Facts
from meta_rl.config.run import Config
from meta_rl.errors import InputError

RARE = {
    *("outer.cg_iterations", "outer.cg_progress", "outer.damping"),
    *("outer.backtrack_ratio", "outer.backtracks"),
    *("blocks", "speed.members_at_once", "inner.positive", "network.initialization"),
    *("data.baseline", "data.init_std", "data.noise_persistence"),
    *("data.sampling", "outer.decoded", "data.sees_task"),
}
"""Settings that act but that users hardly ever change: only ``--help-all`` shows them."""


ONLY_IN_RUNS = {"log_every", "checkpoint_every", "eval.every", "eval.test", "eval.pictures"}
"""Settings of what a run writes: the trials of ``meta-rl tune`` write none of it."""


def without_effect(run: Config, facts: Facts) -> set[str]:
    """Return the dotted names of the settings that would have no effect at any other value.

    Each other value is refused, or acts only with settings that the run does not have. A setting
    of an unknown type, in a class of your own, counts as having an effect.
    """
    found = set()
    for part in PARTS:
        owner = getattr(run, part) if part else run
        hints = types_of(type(owner))
        for field in dataclasses.fields(owner):
            if field.name not in PARTS:
                tried = [*others(getattr(owner, field.name), hints[field.name])]
                acts = [_acts(run, part, field.name, value, facts) for value in tried]
                if acts and not any(acts):
                    found.add(f"{part}.{field.name}".lstrip("."))
    return found


def others(value: Any, hint: Any) -> Iterator[Any]:
    """Yield a few values that a type hint allows, all different from the given value."""
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
    """Return whether a run accepts this value and the setting then acts."""
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
