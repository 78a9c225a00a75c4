"""Refuse settings that a user chose and that would have no effect in the run.

Each settings class declares ``conditions`` beside its fields: for a setting that does not always
act, whether it acts and with what. Default values are never refused, nor values of the settings
that the run's settings were derived from.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from meta_rl.errors import InputError

if TYPE_CHECKING:
    from meta_rl.config.run import Config

Conditions = list[tuple[str, bool, str]]
"""Dotted names of settings, whether each acts, and with or on what it would act."""

PARTS = ("", "inner", "outer", "data", "network", "eval", "speed")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The facts about a problem that settings depend on; None if unknown."""

    continuous: bool | None = None  # whether actions are continuous
    bounded: bool | None = None  # whether any action has bounds
    numbers: bool | None = None  # whether observations have entries to normalize
    horizon: int | None = None
    single_environments: bool | None = None  # stepped one by one, so workers can share them
    classes: bool | None = None  # whether a task's classes are drawn from many
    images: bool | None = None  # whether examples are images
    sequences: bool | None = None  # whether examples are sequences
    files: bool | None = None  # whether examples are read from files


def require_effect(
    run: Config,
    origin: Config | None = None,
    facts: Facts | None = None,
    parts: tuple[str, ...] = PARTS,
) -> None:
    """Refuse settings that cannot act and that a user chose.

    Args:
        run: all settings of the run.
        origin: settings of the preset or checkpoint that ``run`` was derived from.
        facts: facts about the problem.
        parts: parts of the settings to check; ``""`` for settings of the run itself.

    Raises:
        InputError: naming the setting, and with what it acts.
    """
    for part in parts:
        owner = getattr(run, part) if part else run
        for name, acts, needs in owner.conditions(run, facts or Facts()):
            if not acts and not _is_default(run, name) and not _same(run, origin, name):
                raise InputError(
                    f"{name}: expected it to be left out, since it acts only {needs}; got "
                    f"{_value(run, name)!r}, which would have no effect."
                )


def distance(one: Config, other: Config) -> int:
    """Return how many settings differ; all settings of a part, if its classes differ."""
    differ = 0
    for part in PARTS:
        ours, theirs = (getattr(config, part) if part else config for config in (one, other))
        fields = [field.name for field in dataclasses.fields(ours) if field.name not in PARTS]
        other_class = type(ours) is not type(theirs)
        differ += sum(other_class or getattr(ours, n) != getattr(theirs, n) for n in fields)
    return differ


def _is_default(run: Config, name: str) -> bool:
    part, _, setting = name.rpartition(".")
    fields = {f.name: f for f in dataclasses.fields(getattr(run, part) if part else run)}
    return fields[setting].default == _value(run, name)


def _same(run: Config, origin: Config | None, name: str) -> bool:
    return origin is not None and _value(run, name) == _value(origin, name)


def _value(config: Config, name: str) -> Any:
    """Return the setting with a dotted name; None if there is none."""
    part, _, setting = name.rpartition(".")
    return getattr(getattr(config, part) if part else config, setting, None)
