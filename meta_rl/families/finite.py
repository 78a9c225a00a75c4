"""Read and show the numbers that users give, of any type or as text."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def item(value: np.generic) -> Any:
    """Return Python's own value of a numpy number; a 32-bit 0.1 becomes 0.1, as it prints."""
    return float(str(value)) if isinstance(value, np.floating) else value.item()


def shown(value: object) -> str:
    """Show a value for people; Python refuses to write out integers of thousands of digits."""
    if isinstance(value, int) and value.bit_length() > 1000:
        return f"a whole number of {value.bit_length()} bits"
    return repr(value)


def finite(value: object) -> float | None:
    """Return a number, perhaps given as text, as a float; None if not finite or an int rounded."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    if isinstance(value, int) and number != value:
        return None
    return number if math.isfinite(number) else None
