"""Distributions of task parameters: draw values, and tell which values are possible."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

from meta_rl.errors import InputError, require
from meta_rl.families.choice import Choice
from meta_rl.families.finite import finite, shown


class ValueDistribution(Protocol):
    """The distribution of one entry of a parameter."""

    def at(self, quantile: float) -> float | int | str | None:
        """Return the value at a quantile in [0, 1)."""
        ...

    def find(self, value: object) -> float | int | str | None:
        """Return the value as this distribution writes it; None if it is impossible."""
        ...


@dataclass(frozen=True)
class Uniform:
    """Uniform on [low, high].

    Args:
        low: the smallest value.
        high: the largest value.
        power: the power of the value that is uniform; 2 for a radius makes points uniform on a
            disc.
    """

    low: float
    high: float
    power: float = 1.0

    def __post_init__(self) -> None:
        _keep_as_floats(self, "low", "high", "power")
        ordered = math.isfinite(self.high - self.low) and self.low <= self.high
        require(ordered, "Uniform", "finite bounds, low <= high", (self.low, self.high))
        positive = self.power == 1.0 or (self.power > 0.0 and self.low >= 0.0)
        require(positive, "Uniform", "power > 0 and bounds that are not negative", self)
        try:
            Uniform.at(self, 1.0)
        except OverflowError:
            raise InputError(
                f"Uniform: expected bounds whose power is finite, got {self.high!r} ** "
                f"{self.power!r}. Use another unit."
            ) from None

    def at(self, quantile: float) -> float:
        """Return the value at a quantile in [0, 1)."""
        low, high = self.low**self.power, self.high**self.power
        return self._inside((low + quantile * (high - low)) ** (1.0 / self.power))

    def find(self, value: object) -> float | None:
        """Return the number if it lies between the bounds, else None."""
        number = finite(value)
        return number if number is not None and self.low <= number <= self.high else None

    def _inside(self, value: float) -> float:
        """Clip a value that rounding may have put just outside the bounds."""
        return min(max(value, self.low), self.high)

    def __str__(self) -> str:
        return f"in [{self.low:g}, {self.high:g}]"


@dataclass(frozen=True)
class LogUniform(Uniform):
    """Uniform in the logarithm on [low, high], with low > 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.low > 0.0, "LogUniform", "low > 0", self.low)
        require(math.isfinite(self.high / self.low), "LogUniform", "a finite high / low", self.low)

    def at(self, quantile: float) -> float:
        """Return the value at a quantile in [0, 1)."""
        return self._inside(self.low * math.exp(quantile * math.log(self.high / self.low)))


@dataclass(frozen=True)
class Normal:
    """Gaussian with this mean and standard deviation; every finite number is possible."""

    mean: float
    std: float

    def __post_init__(self) -> None:
        _keep_as_floats(self, "mean", "std")
        require(self.std > 0.0, "Normal", "std > 0", self.std)
        ends = abs(self.mean) + 10 * self.std
        require(math.isfinite(ends), "Normal", "a finite mean, and values", self.mean)

    def at(self, quantile: float) -> float:
        """Return the value at a quantile in [0, 1)."""
        return NormalDist(self.mean, self.std).inv_cdf(max(quantile, 2.0**-54))

    def find(self, value: object) -> float | None:
        """Return the number if it is finite, else None."""
        return finite(value)

    def __str__(self) -> str:
        return f"Normal({self.mean:g}, {self.std:g})"


@dataclass(frozen=True)
class Exponential:
    """Exponential with mean 1; n draws divided by their sum are Dirichlet(1, ..., 1)."""

    def at(self, quantile: float) -> float:
        """Return the value at a quantile in [0, 1)."""
        return -math.log1p(-quantile)

    def find(self, value: object) -> float | None:
        """Return the number, or None if it is negative or not finite."""
        number = finite(value)
        return number if number is not None and number >= 0.0 else None

    def __str__(self) -> str:
        return "Exponential(1)"


def lookup(distribution: ValueDistribution, value: object) -> list[float | int | str | None]:
    """Return a value as the distribution writes it, in a list; empty if it is impossible."""
    if isinstance(distribution, Choice):
        return distribution.lookup(value)
    found = distribution.find(value)
    return [] if found is None else [found]


def values_to_try(distribution: ValueDistribution) -> list[float | int | str | None]:
    """Return the values to try an environment at: all of a choice, else five across the range.

    The five include the ends of the range; for an unbounded distribution, the quantiles 0.1 % and
    99.9 %. If all five are whole numbers, a sixth that is not reveals an environment that rounds.
    """
    if isinstance(distribution, Choice):
        return list(distribution.values)
    ends = isinstance(distribution, Uniform)
    first, last = (0.0, 1.0) if ends else (0.001, 0.999)
    values = dict.fromkeys(distribution.at(q) for q in (first, 0.25, 0.5, 0.75, last))
    if all(isinstance(value, float) and value.is_integer() for value in values):
        values[distribution.at(0.6180339887)] = None
    return list(values)


def check_distribution(what: str, distribution: ValueDistribution) -> None:
    """Refuse a distribution whose values do not survive the command line and JSON.

    Args:
        what: the distribution's owner, for the message.
        distribution: a distribution of this module or a user's own.

    Raises:
        InputError: if a value does not survive, naming the first one.
    """
    if not all(callable(getattr(distribution, name, None)) for name in ("at", "find")):
        raise InputError(
            f"{what}: expected a distribution, such as Uniform(0, 1) or Choice(1, 2), got "
            f"{distribution!r}."
        )
    for quantile in (0.0, 0.25, 0.5, 0.75, 1.0 - 2.0**-53):
        value = distribution.at(quantile)
        plain = type(value) in (bool, int, float, str, type(None))
        if not plain or any(lookup(distribution, told) != [value] for told in (value, str(value))):
            raise InputError(
                f"{what}: expected a distribution whose values are words or numbers that its find "
                f"returns, got {value!r} ({type(value).__name__}) at quantile {quantile:g} of "
                f"{distribution}."
            )


def _keep_as_floats(owner: object, *names: str) -> None:
    """Replace the named attributes (numpy's numbers, integers) by Python's floats.

    Raises:
        InputError: if an attribute is not a number.
    """
    for name in names:
        value = getattr(owner, name)
        if isinstance(value, str) or (number := finite(value)) is None:
            raise InputError(
                f"{type(owner).__name__}: expected finite bounds, got {name} = {shown(value)}. "
                "Give a number that a float can hold."
            )
        object.__setattr__(owner, name, number)
