"""Task parameters: names, ranges and units declared once, then sampled, checked and parsed."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from meta_rl.errors import InputError, require
from meta_rl.types import Task

Value = float | tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One number (or a vector of them) that tasks differ in.

    Args:
        name: as tasks and the command line call it.
        low: smallest value of each entry, which are uniform on [low, high].
        high: largest value of each entry.
        choices: the values possible instead of a range, equally likely.
        unit: of the value, for people.
        size: entries of a vector; None for a plain number.
    """

    name: str
    low: float = 0.0
    high: float = 0.0
    choices: tuple[float, ...] = ()
    unit: str = ""
    size: int | None = None

    def __post_init__(self) -> None:
        name = f"parameter {self.name}"
        require(self.name.isidentifier(), name, "an identifier as its name", self.name)
        bounds = (self.low, self.high)
        finite = all(map(math.isfinite, (*bounds, *self.choices)))
        require(finite and self.low <= self.high, name, "finite bounds, low <= high", bounds)
        require(self.size is None or self.size >= 1, name, "a size of 1 or more", self.size)

    def check(self, value: object) -> Value:
        """The value as a float or a tuple of floats.

        Raises:
            InputError: unless it has the right size, is finite and within range.
        """
        expected = "a number" if self.size is None else f"{self.size} numbers"
        options = ", ".join(f"{choice:g}" for choice in self.choices)
        expected += f" out of {options}" if options else f" in [{self.low:g}, {self.high:g}]"
        try:
            entries = [float(entry) for entry in np.ravel(np.asarray(value, dtype=float))]
        except (TypeError, ValueError):
            entries = []
        if len(entries) != (self.size or 1) or not all(map(self._allows, entries)):
            unit = f" {self.unit}" if self.unit else ""
            raise InputError(
                f"task parameter {self.name}: expected {expected}{unit}, got {value!r}."
            )
        return entries[0] if self.size is None else tuple(entries)

    def at(self, quantile: float) -> float:
        """The value of one entry at a uniform draw from [0, 1)."""
        if self.choices:
            return self.choices[int(quantile * len(self.choices))]
        return self.low + quantile * (self.high - self.low)

    def _allows(self, entry: float) -> bool:
        return entry in self.choices if self.choices else self.low <= entry <= self.high


@dataclass(frozen=True)
class ParameterSpace:
    """The parameters of a family.

    Args:
        parameters: in the order they are sampled and shown.
    """

    parameters: tuple[Parameter, ...]

    def sample(self, n: int, seed: int) -> list[Task]:
        """Draw n tasks, every entry independent; equal seeds give equal tasks."""
        entries = sum(parameter.size or 1 for parameter in self.parameters)
        rows = np.random.default_rng(seed).random((n, entries)).tolist()
        return [self._named(iter(row)) for row in rows]

    def check(self, task: Mapping[str, object]) -> Task:
        """The task with every parameter as a float or a tuple of floats.

        Raises:
            InputError: on an unknown, missing or out-of-range parameter.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in task:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise InputError(f"task: expected parameters {self._names()}, got {name!r}.{hint}")
        missing = [name for name in known if name not in task]
        if missing:
            raise InputError(f"task: missing {', '.join(missing)}; expected {self._names()}.")
        return {name: parameter.check(task[name]) for name, parameter in known.items()}

    def parse(self, text: str) -> Task:
        """A task from the command line: ``goal=0.3,-0.2`` or ``gravity=9.8,length=0.7``.

        Entries without a name continue the vector before them.

        Raises:
            InputError: where the text or the task does not fit.
        """
        values: dict[str, list[float]] = {}
        name = ""
        for part in text.split(","):
            head, equals, tail = part.rpartition("=")
            if equals:
                name = head.strip()
                require(name not in values, f"task parameter {name}", "one value", text)
            try:
                values.setdefault(name, []).append(float(tail))
            except ValueError:
                raise InputError(
                    f"task: expected NAME=NUMBER[,NUMBER...] with {self._names()}, got {text!r}."
                ) from None
        return self.check({n: v[0] if len(v) == 1 else tuple(v) for n, v in values.items()})

    def _named(self, quantiles: Iterator[float]) -> Task:
        return {
            p.name: p.at(next(quantiles))
            if p.size is None
            else tuple(p.at(next(quantiles)) for _ in range(p.size))
            for p in self.parameters
        }

    def _names(self) -> str:
        return ", ".join(parameter.name for parameter in self.parameters) or "none"
