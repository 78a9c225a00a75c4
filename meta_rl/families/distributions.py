"""Distributions of task parameters: where values come from, and which are possible."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from statistics import NormalDist
from typing import Any, Protocol

import numpy as np

from meta_rl.errors import InputError, require


class ValueDistribution(Protocol):
    """Where one entry of a parameter comes from."""

    def at(self, quantile: float) -> float | int | str | None:
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
        """The value at a quantile."""
        low, high = self.low**self.power, self.high**self.power
        return self._inside((low + quantile * (high - low)) ** (1.0 / self.power))

    def find(self, value: object) -> float | None:
        """The number, if it is between the bounds."""
        number = _number(value)
        return number if number is not None and self.low <= number <= self.high else None

    def _inside(self, value: float) -> float:
        """The value, which rounding may have put just outside the bounds."""
        return min(max(value, self.low), self.high)

    def __str__(self) -> str:
        return f"in [{self.low:g}, {self.high:g}]"


@dataclass(frozen=True)
class LogUniform(Uniform):
    """Uniform in the logarithm, on [low, high] with low > 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.low > 0.0, "LogUniform", "low > 0", self.low)
        require(math.isfinite(self.high / self.low), "LogUniform", "a finite high / low", self.low)

    def at(self, quantile: float) -> float:
        """The value at a quantile."""
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
    """One of these values, equally likely: words, numbers, True and False, or None.

    Every value can be written on the command line, as ``enable_wind=True`` or ``lanes=3``, and in
    JSON. True and False are also read from ``true``, ``false``, 1 and 0, None from ``null``. Whole
    numbers of any size that a float can hold are kept exactly.

    Raises:
        InputError: if a value cannot be written, or two of them are written alike.
    """

    values: tuple[float | int | str | None, ...]

    def __init__(self, *values: float | int | str | None):
        plain = tuple(_plain(value) for value in values)
        object.__setattr__(self, "values", plain)
        require(len(plain) > 0, "Choice", "different words or finite numbers", values)
        if (alike := _alike(plain)) is not None:
            raise InputError(
                f"Choice: expected different words or finite numbers, got {alike!r} among "
                f"{values!r}: another is equal, or written alike in a task. Leave one out."
            )

    def at(self, quantile: float) -> float | int | str | None:
        """The value at a quantile."""
        return self.values[int(quantile * len(self.values))]

    def find(self, value: object) -> float | int | str | None:
        """Return the one of the values that it equals; None if there is none, or if it is None."""
        return next(iter(self.lookup(value)), None)

    def lookup(self, value: object) -> list[float | int | str | None]:
        """Return the one of the values that it equals, in a list; empty if there is none."""
        return [own for own in self.values if _means(value, own)][:1]

    def __str__(self) -> str:
        return "one of " + ", ".join(str(value) for value in self.values)


def lookup(distribution: ValueDistribution, value: object) -> list[float | int | str | None]:
    """Return a value as the distribution writes it, in a list; empty if it is impossible."""
    if isinstance(distribution, Choice):
        return distribution.lookup(value)
    found = distribution.find(value)
    return [] if found is None else [found]


def values_to_try(distribution: ValueDistribution) -> list[float | int | str | None]:
    """Values that an environment is tried at: all of a choice, else five across the range.

    The ends are those of the range; where it has none, the values at 0.1 % and 99.9 %. Five whole
    numbers get a sixth beside them that is none, which shows an environment that rounds.
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
        what: it is of, for the message.
        distribution: one of these, or a person's own.

    Raises:
        InputError: naming the first value that does not.
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
                f"knows again, got {value!r} ({type(value).__name__}) at quantile {quantile:g} of "
                f"{distribution}."
            )


def _plain(value: object) -> float | int | str | None:
    """A value of a choice as Python's own word, number or truth value, or None.

    Raises:
        InputError: if it is none, or could not be written in a task.
    """
    if isinstance(value, np.generic):
        value = _item(value)
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
                f"Choice: expected words that --task can say, got {value!r}. Leave out commas, "
                "equals signs, control characters and spaces at the ends; a function as the "
                "environment can turn a short word into what is meant."
            )
        return str(value)
    if isinstance(value, bool | int | float):
        if _number(value) is None and not _beyond_2_53(value):
            shown = _shown(value)
            raise InputError(f"Choice: expected different words or finite numbers, got {shown}.")
        return value
    raise InputError(
        f"Choice: expected {what}, one by one, got {value!r}. Give each a word, as Choice('near', "
        "'far'), and a function as the environment that turns the word into what is meant."
    )


def _item(value: np.generic) -> Any:
    """Python's own value; of a fraction the shortest that its type prints, as 0.1 of 32 bits."""
    return float(str(value)) if isinstance(value, np.floating) else value.item()


def _shown(value: object) -> str:
    """A value for people; Python refuses to write out whole numbers of thousands of digits."""
    if isinstance(value, int) and value.bit_length() > 1000:
        return f"a whole number of {value.bit_length()} bits"
    return repr(value)


def _beyond_2_53(value: float) -> bool:
    """Whether it is a whole number that a float can only round."""
    try:
        return isinstance(value, int) and math.isfinite(float(value))
    except OverflowError:
        return False


def _alike(values: tuple[float | int | str | None, ...]) -> object:
    """The first value that a task could not tell from one of the others; None if all differ."""
    if None in values:
        rest = tuple(value for value in values if value is not None)
        nothing = [value for value in rest if _means(value, None)]
        if nothing or len(rest) + 1 < len(values):
            return nothing[0] if nothing else "None"
        values = rest
    numbers = {value for value in values if not isinstance(value, str)}  # where True is 1
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
    """Whether a value of a task, perhaps written as text, is this one of a choice."""
    if own is None:
        return value is None or (isinstance(value, str) and value.lower() in ("none", "null"))
    if value is None:
        return False
    if isinstance(value, np.generic):
        value = _item(value)
    if isinstance(own, str):
        return str(value) == own
    if isinstance(own, bool) and isinstance(value, str):
        return value.strip().lower() in (str(own).lower(), str(int(own)))
    return _exact(value) == own


def _exact(value: object) -> float | int | None:
    """A number, or one written as text; a whole one of any size is not rounded."""
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            return _number(value)
    return value if isinstance(value, int | float) else _number(value)


def _keep_as_floats(owner: object, *names: str) -> None:
    """Replace numbers of whatever kind (numpy's, whole ones) by Python's floats.

    Raises:
        InputError: if one is no number.
    """
    for name in names:
        value = getattr(owner, name)
        if isinstance(value, str) or (number := _number(value)) is None:
            raise InputError(
                f"{type(owner).__name__}: expected finite bounds, got {name} = {_shown(value)}. "
                "Give a number that a float can hold."
            )
        object.__setattr__(owner, name, number)


def _number(value: object) -> float | None:
    """A finite number, or one written as text; None too for a whole one that would be rounded."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    if isinstance(value, int) and number != value:
        return None
    return number if math.isfinite(number) else None
