"""Task parameters: names, ranges and units declared once, then sampled, checked and parsed."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from meta_rl.errors import InputError
from meta_rl.types import Task

Value = float | tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One number (or a vector of them) that tasks differ in, uniform on [low, high].

    Args:
        name: as tasks and the command line call it.
        low: smallest value of each entry.
        high: largest value of each entry.
        unit: of the value, for people.
        size: entries of a vector; None for a plain number.
    """

    name: str
    low: float
    high: float
    unit: str = ""
    size: int | None = None

    def check(self, value: object) -> Value:
        """The value as a float or a tuple of floats.

        Raises:
            InputError: unless it has the right size, is finite and within range.
        """
        expected = "a number" if self.size is None else f"{self.size} numbers"
        expected += f" in [{self.low:g}, {self.high:g}]{self.unit and ' ' + self.unit}"
        try:
            entries = tuple(float(entry) for entry in np.ravel(np.asarray(value, dtype=float)))
        except (TypeError, ValueError):
            entries = ()
        fits = len(entries) == (self.size or 1) and all(
            math.isfinite(entry) and self.low <= entry <= self.high for entry in entries
        )
        if not fits:
            raise InputError(f"task parameter {self.name}: expected {expected}, got {value!r}.")
        return entries[0] if self.size is None else entries


@dataclass(frozen=True)
class ParameterSpace:
    """The parameters of a family.

    Args:
        parameters: in the order they are sampled and shown.
    """

    parameters: tuple[Parameter, ...]

    def sample(self, n: int, seed: int) -> list[Task]:
        """Draw n tasks, every entry uniform and independent; equal seeds give equal tasks."""
        generator = np.random.default_rng(seed)
        sizes = [parameter.size or 1 for parameter in self.parameters]
        low, high = (
            np.repeat([getattr(p, end) for p in self.parameters], sizes) for end in ("low", "high")
        )
        rows = generator.uniform(low, high, (n, sum(sizes))).tolist()
        return [self._named(row, sizes) for row in rows]

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
            name = head.strip() if equals else name
            try:
                values.setdefault(name, []).append(float(tail))
            except ValueError:
                raise InputError(
                    f"task: expected NAME=NUMBER[,NUMBER...] with {self._names()}, got {text!r}."
                ) from None
        return self.check({n: v[0] if len(v) == 1 else tuple(v) for n, v in values.items()})

    def _named(self, row: list[float], sizes: list[int]) -> Task:
        task: dict[str, Value] = {}
        start = 0
        for parameter, size in zip(self.parameters, sizes, strict=True):
            entries = tuple(row[start : start + size])
            task[parameter.name] = entries[0] if parameter.size is None else entries
            start += size
        return task

    def _names(self) -> str:
        return ", ".join(parameter.name for parameter in self.parameters) or "none"
