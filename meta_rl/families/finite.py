"""Numbers that people give: of any type, or written as text, and whether a float holds them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def item(value: np.generic) -> Any:
    """Python's own value; of a fraction the shortest that its type prints, as 0.1 of 32 bits."""
    return float(str(value)) if isinstance(value, np.floating) else value.item()


def shown(value: object) -> str:
    """A value for people; Python refuses to write out whole numbers of thousands of digits."""
    if isinstance(value, int) and value.bit_length() > 1000:
        return f"a whole number of {value.bit_length()} bits"
    return repr(value)


def finite(value: object) -> float | None:
    """A finite number, or one written as text; None too for a whole one that would be rounded."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    if isinstance(value, int) and number != value:
        return None
    return number if math.isfinite(number) else None
