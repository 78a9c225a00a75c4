"""The error a person's input causes. Imports nothing, so that commands can answer at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


class InputError(ValueError):
    """What a person gave cannot be used; the message says what, expected, got, and what to do."""


class NotFiniteError(InputError):
    """Parameters or data of some tasks are not finite.

    Args:
        message: what, expected, got, and what to do.
        rows: which of the tasks, as positions along M.
    """

    def __init__(self, message: str, rows: Sequence[int]):
        super().__init__(message)
        self.rows = list(rows)


class ProcessLostError(RuntimeError):
    """Another process of this run ended, so that this one cannot go on; nothing is saved then."""


def require(condition: bool, what: str, expected: str, got: Any) -> None:
    """Refuse an input unless the condition holds and, for a number, it is finite.

    Raises:
        InputError: naming the setting, what it expects and what it got.
    """
    if not condition or (isinstance(got, float) and not math.isfinite(got)):
        raise InputError(f"{what}: expected {expected}, got {got!r}.")
