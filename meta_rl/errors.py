"""The errors that end work in one line, and how they are worded.

Imports nothing heavy, so that commands can answer at once.
"""

from __future__ import annotations

import difflib
import errno
import math
import numbers
from collections.abc import Iterable, Sequence
from typing import Any


class InputError(ValueError):
    """What a person gave cannot be used; the message says what, expected, got, and what to do."""


FOREIGN = (Exception, SystemExit)
"""What a person's own code may raise, to be told as an :class:`InputError`. Ctrl-C is none of it:
it is meant for the whole run; ``sys.exit`` in an environment is not."""


NO_MEMORY = (
    *("can't allocate memory", "you tried to allocate", "out of memory", "bad_alloc"),
    *("calculation overflowed", "array is too big"),
)
"""What is said by errors that have no class of their own for it: torch's, C++'s and numpy's."""


class NotFiniteError(InputError):
    """An environment returns rewards or observations that are not finite in some tasks.

    Args:
        message: what, expected, got, and what to do.
        rows: the tasks, as positions along M.
    """

    def __init__(self, message: str, rows: Sequence[int]):
        super().__init__(message)
        self.rows = list(rows)


class DivergedError(ArithmeticError):
    """Training or adapting came to numbers that are not finite, though no input was wrong.

    Smaller steps or another seed may help. A command ends with the message, in one line, and with
    status 2, as it does with an :class:`InputError`.

    Args:
        message: what diverged, and what to do.
        rows: the tasks that adapting diverged for, as positions along M; none if training did.
    """

    def __init__(self, message: str, rows: Sequence[int] = ()):
        super().__init__(message)
        self.rows = list(rows)


NOT_FINITE = (DivergedError, NotFiniteError)
"""The errors that say in ``rows`` which tasks are lost."""


class ProcessLostError(RuntimeError):
    """Another process of this run ended, so that this one cannot go on."""


def require(condition: bool, what: str, expected: str, got: Any) -> None:
    """Refuse an input unless the condition holds and, for a number, it is finite.

    Raises:
        InputError: naming the setting, what it expects and what it got.
    """
    if not condition or (isinstance(got, float) and not math.isfinite(got)):
        raise InputError(f"{what}: expected {expected}, got {shown(got)}.")


def shown(value: Any, longest: int = 400) -> str:
    """Return a value as Python writes it, in one line of limited length, for an error message."""
    try:
        text = repr(value)
    except Exception:  # of a number of more digits than Python writes, or an object of others
        return f"a value of type {type(value).__name__} that cannot be shown"
    text = " ".join(text.split()) if "\n" in text else text
    return text if len(text) <= longest else f"{text[:longest]}..."


def lacks_memory(error: BaseException) -> bool:
    """Return whether an error says that there is not as much memory as was asked for."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's
        return True
    try:
        said = str(error).lower()
    except Exception:  # errors of others need not have a text
        return False
    return any(text in said for text in NO_MEMORY)


def is_whole(value: object) -> bool:
    """Whether it is a whole number, numpy's too; True and False are none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def require_whole(what: str, got: Any, least: int) -> None:
    """Refuse an input unless it is a whole number, and not below the least.

    Raises:
        InputError: naming the setting, what it expects and what it got.
    """
    require(is_whole(got), what, f"a whole number of {least} or more", got)
    require(got >= least, what, f"{least} or more", got)


def unknown(what: str, known: Iterable[str], got: str, otherwise: str = "") -> InputError:
    """The error of a name that is none of the known ones, to be raised.

    Args:
        what: the name is of.
        known: names; the nearest one is suggested.
        got: the name.
        otherwise: what to do where none is near.
    """
    names = list(known)
    expected = f"{what}: expected one of {', '.join(names)}, got {got!r}."
    return InputError(expected + hint(got, names, otherwise))


def hint(got: str, known: Iterable[str], otherwise: str = "") -> str:
    """Which of the known names may have been meant, else what to do instead; after a space."""
    near = difflib.get_close_matches(got, list(known), 1)
    told = f"Did you mean {near[0]!r}?" if near else otherwise
    return told and f" {told}"


def refuse_running_statistics(env: Any) -> None:
    """Refuse an environment that normalizes by statistics of what it has met so far.

    Args:
        env: of Gymnasium, or a vector environment of stable-baselines3; all its layers are looked
            at.

    Raises:
        InputError: naming the layer.
    """
    layer = env
    while layer is not None:
        held = getattr(layer, "__dict__", {})
        if any("RunningMeanStd" in type(value).__name__ for value in _with_items(held.values())):
            raise InputError(
                f"environment: expected observations and rewards as they are, got "
                f"{type(layer).__name__}: each row would keep running statistics of its own, which "
                "are thrown away and never saved, so that the saved policy would see other numbers."
                " Leave it out, or scale by fixed numbers: gymnasium.wrappers.TransformObservation."
            )
        inner = held.get("envs") or [held.get("env", held.get("venv"))]
        layer = inner[0]


def _with_items(values: Iterable[Any]) -> list[Any]:
    """The values, and those one level down in dictionaries, lists and tuples."""
    found = list(values)
    for value in list(found):
        if isinstance(value, dict):
            found += value.values()
        elif isinstance(value, list | tuple):
            found += value
    return found
