"""Errors that commands report in one line, and helpers for their messages.

Imports nothing heavy, so that commands start fast.
"""

from __future__ import annotations

import difflib
import errno
import math
import numbers
from collections.abc import Iterable, Sequence
from typing import Any


class InputError(ValueError):
    """A user's input cannot be used; the message says what, expected, got, and what to do."""


FOREIGN = (Exception, SystemExit)
"""Errors of a user's code to report as an :class:`InputError`. They include ``sys.exit`` in an
environment, but not Ctrl-C, which ends the whole run."""


NO_MEMORY = (
    *("can't allocate memory", "you tried to allocate", "out of memory", "bad_alloc"),
    *("calculation overflowed", "array is too big"),
)
"""Messages of memory errors without a class of their own, from torch, C++ and numpy."""


class NotFiniteError(InputError):
    """An environment returned rewards or observations that are not finite in some tasks.

    Args:
        message: what, expected, got, and what to do.
        rows: positions of these tasks along M.
    """

    def __init__(self, message: str, rows: Sequence[int]):
        super().__init__(message)
        self.rows = list(rows)


class DivergedError(ArithmeticError):
    """Training or adaptation led to numbers that are not finite, though no input was wrong.

    Smaller steps or another seed may help. As with an :class:`InputError`, a command prints the
    message in one line and exits with status 2.

    Args:
        message: what diverged, and what to do.
        rows: positions along M of the tasks whose adaptation diverged; empty if training diverged.
    """

    def __init__(self, message: str, rows: Sequence[int] = ()):
        super().__init__(message)
        self.rows = list(rows)


NOT_FINITE = (DivergedError, NotFiniteError)
"""Errors whose ``rows`` name the tasks that failed."""


class ProcessLostError(RuntimeError):
    """Another process of this run ended, so this process cannot go on."""


def require(condition: bool, what: str, expected: str, got: Any) -> None:
    """Refuse an input unless the condition holds and the input, if a number, is finite.

    Raises:
        InputError: names the setting, what it expects and what it got.
    """
    if not condition or (isinstance(got, float) and not math.isfinite(got)):
        raise InputError(f"{what}: expected {expected}, got {shown(got)}.")


def shown(value: Any, longest: int = 400) -> str:
    """Return a value as Python writes it, in one line of limited length, for an error message."""
    try:
        text = repr(value)
    except Exception:  # a number with too many digits, or another library's object
        return f"a value of type {type(value).__name__} that cannot be shown"
    text = " ".join(text.split()) if "\n" in text else text
    return text if len(text) <= longest else f"{text[:longest]}..."


def lacks_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's
        return True
    try:
        said = str(error).lower()
    except Exception:  # another library's error may fail to print
        return False
    return any(text in said for text in NO_MEMORY)


def is_whole(value: object) -> bool:
    """Return whether a value is a whole number, also of numpy; True and False are not."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def require_whole(what: str, got: Any, least: int) -> None:
    """Refuse an input unless it is a whole number of ``least`` or more.

    Raises:
        InputError: names the setting, what it expects and what it got.
    """
    require(is_whole(got), what, f"a whole number of {least} or more", got)
    require(got >= least, what, f"{least} or more", got)


def unknown(what: str, known: Iterable[str], got: str, otherwise: str = "") -> InputError:
    """Return the error for an unknown name, to raise.

    Args:
        what: the kind of name, such as a setting.
        known: the known names; the error suggests the nearest.
        got: the unknown name.
        otherwise: advice if no known name is near.
    """
    names = list(known)
    expected = f"{what}: expected one of {', '.join(names)}, got {got!r}."
    return InputError(expected + hint(got, names, otherwise))


def hint(got: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return a suggestion of the nearest known name, else other advice; starts with a space."""
    near = difflib.get_close_matches(got, list(known), 1)
    told = f"Did you mean {near[0]!r}?" if near else otherwise
    return told and f" {told}"


def refuse_running_statistics(env: Any) -> None:
    """Refuse an environment that normalizes by running statistics, in any of its wrappers.

    Args:
        env: a Gymnasium environment, or a vector environment of stable-baselines3.

    Raises:
        InputError: names the wrapper.
    """
    layer = env
    while layer is not None:
        held = getattr(layer, "__dict__", {})
        if any("RunningMeanStd" in type(value).__name__ for value in _with_items(held.values())):
            raise InputError(
                f"environment: expected observations and rewards as they are, got "
                f"{type(layer).__name__}: each row would keep running statistics of its own, which "
                "are thrown away and never saved, so that the saved policy would see other numbers."
                " Leave it out, and normalize in the policy: --data.normalize-observations; or "
                "scale by fixed numbers: gymnasium.wrappers.TransformObservation."
            )
        inner = held.get("envs") or [held.get("env", held.get("venv"))]
        layer = inner[0]


def _with_items(values: Iterable[Any]) -> list[Any]:
    """Return the values, and those one level down in dictionaries, lists and tuples."""
    found = list(values)
    for value in list(found):
        if isinstance(value, dict):
            found += value.values()
        elif isinstance(value, list | tuple):
            found += value
    return found


def check_callbacks(callbacks: Any) -> None:
    """Refuse what a learner cannot call after its iterations.

    Raises:
        InputError: names the class that is no function.
    """
    if not isinstance(callbacks, Sequence):
        raise InputError(f"callbacks: expected a list of functions, got {shown(callbacks)}.")
    for callback in callbacks:
        if not callable(callback):
            kind = type(callback)
            theirs = kind.__module__.startswith("stable_baselines3.")
            raise InputError(
                f"callbacks: expected functions of (learner, metrics), got {kind.__name__}."
                + " Use the one of the same name in meta_rl." * theirs
            )
