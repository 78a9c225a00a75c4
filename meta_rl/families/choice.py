"""A choice between values of a task parameter that can be written in a task."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np

from meta_rl.errors import InputError, require
from meta_rl.families.finite import finite, item, shown


@dataclass(frozen=True, init=False)
class Choice:
    """One of these values, equally likely: words, numbers, True and False, or None.

    Every value can be written in JSON and on the command line (``enable_wind=True``, ``lanes=3``).
    True and False are also read from ``true``, ``false``, 1 and 0; None from ``null``. Whole
    numbers are kept exactly, up to the range of a float.

    Raises:
        InputError: if a value cannot be written, or two values are written alike.
    """

    values: tuple[float | int | str | None, ...]

    def __init__(self, *values: float | int | str | None):
        plain = tuple(_plain(value) for value in values)
        object.__setattr__(self, "values", plain)
        require(len(plain) > 0, "Choice", "different words or finite numbers", values)
        if (alike := _alike(plain)) is not None:
            raise InputError(
                f"Choice: expected different words or finite numbers, got {alike!r} among "
                f"{values!r}: another value equals it, or is written like it. Leave one out."
            )

    def at(self, quantile: float) -> float | int | str | None:
        """Return the value at a quantile in [0, 1)."""
        return self.values[int(quantile * len(self.values))]

    def find(self, value: object) -> float | int | str | None:
        """Return the equal value of the choice; None if there is none, or if it is None."""
        return next(iter(self.lookup(value)), None)

    def lookup(self, value: object) -> list[float | int | str | None]:
        """Return the equal value of the choice in a list; empty if there is none."""
        return [own for own in self.values if _means(value, own)][:1]

    def __str__(self) -> str:
        return "one of " + ", ".join(str(value) for value in self.values)


def _plain(value: object) -> float | int | str | None:
    """Return a value of a choice as Python's own str, number, bool or None.

    Raises:
        InputError: if the value is none of these, or cannot be written in a task.
    """
    if isinstance(value, np.generic):
        value = item(value)
    if value is None:
        return None
    what = "words, finite numbers, True and False, or None"
    if isinstance(value, Enum):
        do = f"Give its value, {value.value!r}, or its name, {value.name!r}."
        raise InputError(f"Choice: expected {what}, got {value!r}. {do}")
    if isinstance(value, str):
        writable = value.isprintable() and value == value.strip() and not set(value) & set(",=")
        if not value or not writable:
            raise InputError(
                f"Choice: expected words that --task can take, got {value!r}. Leave out commas, "
                "equals signs, control characters and spaces at the ends. For other values, give "
                "a function as the environment that turns a short word into the value."
            )
        return str(value)
    if isinstance(value, bool | int | float):
        if finite(value) is None and not _beyond_2_53(value):
            raise InputError(
                f"Choice: expected different words or finite numbers, got {shown(value)}."
            )
        return value
    raise InputError(
        f"Choice: expected {what}, one by one, got {value!r}. Give each a word, as Choice('near', "
        "'far'), and a function as the environment that turns the word into the value."
    )


def _beyond_2_53(value: float) -> bool:
    """Return whether a value is an integer that a float can only round."""
    try:
        return isinstance(value, int) and math.isfinite(float(value))
    except OverflowError:
        return False


def _alike(values: tuple[float | int | str | None, ...]) -> object:
    """Return the first value that a task could confuse with another; None if all differ."""
    if None in values:
        rest = tuple(value for value in values if value is not None)
        nothing = [value for value in rest if _means(value, None)]
        if nothing or len(rest) + 1 < len(values):
            return nothing[0] if nothing else "None"
        values = rest
    numbers = {value for value in values if not isinstance(value, str)}  # here True equals 1
    seen: set[tuple[bool, object]] = set()
    for value in values:
        key = (isinstance(value, str), value)
        truth = {"true": True, "false": False}.get(str(value).lower())
        read = _exact(value) if truth is None else truth
        if key in seen or (isinstance(value, str) and read in numbers):
            return value
        seen.add(key)
    return None


def _means(value: object, own: float | int | str | None) -> bool:
    """Return whether a task's value, perhaps written as text, means this value of a choice."""
    if own is None:
        return value is None or (isinstance(value, str) and value.lower() in ("none", "null"))
    if value is None:
        return False
    if isinstance(value, np.generic):
        value = item(value)
    if isinstance(own, str):
        return str(value) == own
    if isinstance(own, bool) and isinstance(value, str):
        return value.strip().lower() in (str(own).lower(), str(int(own)))
    return _exact(value) == own


def _exact(value: object) -> float | int | None:
    """Return a number, perhaps read from text; integers are never rounded."""
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            return finite(value)
    return value if isinstance(value, int | float) else finite(value)
