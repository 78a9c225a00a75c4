"""Check the types and sizes of settings; every settings class does so when it is made."""

from __future__ import annotations

import math
import types
import typing
from functools import cache
from typing import Any, Literal

from meta_rl.errors import require

UNIONS = (types.UnionType, typing.Union)  # X | Y, and the form that Literal[...] | None has


@cache
def types_of(owner: type) -> dict[str, Any]:
    """Return the types of a class's settings by name; kept, since all settings are checked."""
    return typing.get_type_hints(owner)


def require_types(config: Any, prefix: str) -> None:
    """Refuse settings that have the wrong type, or that are too large for a tensor.

    Raises:
        InputError: naming the setting, what is expected and what it is.
    """
    for name, hint in types_of(type(config)).items():
        value = getattr(config, name)
        if not _fits(value, hint):
            words = [w for option in options_of(hint) for w in typing.get_args(option)]
            one_of = "one of " + ", ".join(map(repr, words))
            literal = any(typing.get_origin(option) is Literal for option in options_of(hint))
            expected = one_of if literal else getattr(hint, "__name__", str(hint))
            require(False, f"{prefix}.{name}".lstrip("."), expected, value)
        counts = name != "seed" and float not in (hint, *typing.get_args(hint))
        expected = "a number below 2**31" if counts else "a number that tensors hold"
        held = _holds(value, 2**31 if counts else 2**63)
        require(held, f"{prefix}.{name}".lstrip("."), expected, value)


def require_if_given(what: str, expected: str, got: float | None) -> None:
    """Refuse a number of 0 or below; accept None.

    Raises:
        InputError: naming the setting, what is expected and what it is.
    """
    require(got is None or got > 0, what, expected, got)


def options_of(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union; any other hint as the only member."""
    return typing.get_args(hint) if typing.get_origin(hint) in UNIONS else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in options
    if origin in UNIONS:
        return any(_fits(value, option) for option in options)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(entry, options[0]) for entry in value)
    if hint in (int, float):
        allowed = int if hint is int else (int, float)
        return isinstance(value, allowed) and not isinstance(value, bool)
    return isinstance(value, hint)


def _holds(value: Any, limit: int) -> bool:
    """Return whether integers are below a limit and floats fit float32.

    Infinity passes: other checks refuse it.
    """
    if isinstance(value, tuple):
        return all(_holds(entry, limit) for entry in value)
    if isinstance(value, int):
        return abs(value) < limit
    return not isinstance(value, float) or not math.isfinite(value) or abs(value) < 2.0**128
