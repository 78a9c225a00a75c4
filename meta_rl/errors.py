"""The error a person's input causes. Imports nothing, so that commands can answer at once."""

from __future__ import annotations

import math
from typing import Any


class InputError(ValueError):
    """What a person gave cannot be used; the message says what, expected, got, and what to do."""


def require(condition: bool, what: str, expected: str, got: Any) -> None:
    """Refuse an input unless the condition holds and, for a number, it is finite.

    Raises:
        InputError: naming the setting, what it expects and what it got.
    """
    if not condition or (isinstance(got, float) and not math.isfinite(got)):
        raise InputError(f"{what}: expected {expected}, got {got!r}.")
