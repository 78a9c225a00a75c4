"""Distributions of task parameters: where values come from, and which are possible."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

from meta_rl.errors import require


class ValueDistribution(Protocol):
    """Where one entry of a parameter comes from."""

    def at(self, quantile: float) -> float | int | str:
        """The value at a uniform draw from [0, 1)."""
        ...

    def find(self, value: object) -> float | int | str | None:
        """The value as this distribution writes it; None if it is impossible."""
        ...


@dataclass(frozen=True)
class Uniform:
    """Uniform on [low, high].

    Args:
        low: smallest value.
        high: largest value.
        power: of the value that is uniform; 2 for a radius, so that points are uniform on a disc.
    """

    low: float
    high: float
    power: float = 1.0

    def __post_init__(self) -> None:
        ordered = math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high
        require(ordered, "Uniform", "finite bounds, low <= high", (self.low, self.high))
        positive = self.power == 1.0 or (self.power > 0.0 and self.low >= 0.0)
        require(positive, "Uniform", "power > 0 and bounds that are not negative", self)

    def at(self, quantile: float) -> float:
        """The value at a quantile."""
        low, high = self.low**self.power, self.high**self.power
        return (low + quantile * (high - low)) ** (1.0 / self.power)

    def find(self, value: object) -> float | None:
        """The number, if it is between the bounds."""
        number = _number(value)
        return number if number is not None and self.low <= number <= self.high else None

    def __str__(self) -> str:
        return f"in [{self.low:g}, {self.high:g}]"


@dataclass(frozen=True)
class LogUniform(Uniform):
    """Uniform in the logarithm, on [low, high] with low > 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.low > 0.0, "LogUniform", "low > 0", self.low)

    def at(self, quantile: float) -> float:
        """The value at a quantile."""
        return self.low * math.exp(quantile * math.log(self.high / self.low))


@dataclass(frozen=True)
class Normal:
    """Gaussian with this mean and standard deviation; every finite number is possible."""

    mean: float
    std: float

    def __post_init__(self) -> None:
        require(math.isfinite(self.mean), "Normal", "a finite mean", self.mean)
        require(self.std > 0.0, "Normal", "std > 0", self.std)

    def at(self, quantile: float) -> float:
        """The value at a quantile."""
        return NormalDist(self.mean, self.std).inv_cdf(max(quantile, 2.0**-54))

    def find(self, value: object) -> float | None:
        """The number."""
        return _number(value)

    def __str__(self) -> str:
        return f"Normal({self.mean:g}, {self.std:g})"


@dataclass(frozen=True)
class Exponential:
    """Exponential with mean 1; n of them, divided by their sum, are Dirichlet(1, ..., 1)."""

    def at(self, quantile: float) -> float:
        """The value at a quantile."""
        return -math.log1p(-quantile)

    def find(self, value: object) -> float | None:
        """The number, unless negative."""
        number = _number(value)
        return number if number is not None and number >= 0.0 else None

    def __str__(self) -> str:
        return "Exponential(1)"


@dataclass(frozen=True, init=False)
class Choice:
    """One of these values, numbers or words, equally likely."""

    values: tuple[float | int | str, ...]

    def __init__(self, *values: float | int | str):
        object.__setattr__(self, "values", values)
        numbers = [value for value in values if not isinstance(value, str)]
        sound = len(set(values)) == len(values) > 0 and all(map(math.isfinite, numbers))
        require(sound, "Choice", "different words or finite numbers", values)

    def at(self, quantile: float) -> float | int | str:
        """The value at a quantile."""
        return self.values[int(quantile * len(self.values))]

    def find(self, value: object) -> float | int | str | None:
        """The one of the values that it equals, as a word or as a number."""
        for own in self.values:
            equal = str(value) == own if isinstance(own, str) else _number(value) == own
            if equal:
                return own
        return None

    def __str__(self) -> str:
        return "one of " + ", ".join(str(value) for value in self.values)


def _number(value: object) -> float | None:
    """A finite number, or one written as text."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
