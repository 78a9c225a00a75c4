"""Declare task parameters (name, distribution, unit); sample, check and parse tasks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from meta_rl.errors import InputError, hint, require, require_whole, shown
from meta_rl.families.distributions import ValueDistribution, check_distribution, lookup
from meta_rl.families.table import TaskTable, values
from meta_rl.types import Task, Value

SPLITS = ("in-distribution", "extrapolation")


@dataclass(frozen=True)
class Parameter:
    """One value, or a vector of values, that tasks differ in.

    Args:
        name: the parameter's name in tasks and on the command line.
        distribution: the distribution of each entry in meta-training; entries are independent.
        unit: the value's unit, for people.
        size: the number of entries of a vector; None for a single value.
        extrapolation: a wider distribution for tasks outside the training range.
        target: what the parameter sets in a ``GymFamily`` (see there); the name when empty.
        scale: multiply the environment's value instead of replacing it.
    """

    name: str
    distribution: ValueDistribution
    unit: str = ""
    size: int | None = None
    extrapolation: ValueDistribution | None = None
    target: str = ""
    scale: bool = False

    def __post_init__(self) -> None:
        what = f"parameter {self.name}"
        identifier = isinstance(self.name, str) and self.name.isidentifier()
        require(identifier, what, "an identifier as its name", self.name)
        if self.size is not None:
            require_whole(f"{what}, its size", self.size, 1)
        require(isinstance(self.target, str), what, "text as its target", self.target)
        check_distribution(what, self.distribution)
        if self.extrapolation is not None:
            check_distribution(what, self.extrapolation)
            reached = (self.extrapolation.at(n / 100) for n in range(100))
            beyond = any(not lookup(self.distribution, value) for value in reached)
            require(beyond, what, "an extrapolation beyond its distribution", self.extrapolation)

    def check(self, value: object) -> Value:
        """Return the value as the distribution writes it; a tuple for a vector.

        Raises:
            InputError: unless the value has the right size and every entry is possible.
        """
        entries = list(np.ravel(np.asarray(value, dtype=object)))
        found = [value for entry in entries for value in self._lookup(entry)]
        if not len(entries) == len(found) == (self.size or 1):
            unit = f" {self.unit}" if self.unit else ""
            raise InputError(
                f"task parameter {self.name}: expected {self.expected()}{unit}, got {shown(value)}."
            )
        return found[0] if self.size is None else tuple(found)  # type: ignore[return-value]

    def expected(self) -> str:
        """Describe the possible values, for people."""
        wider = f", or to extrapolate {self.extrapolation}" if self.extrapolation else ""
        count = "" if self.size is None else f"{self.size} numbers, each "
        return f"{count}{self.distribution}{wider}"

    def in_distribution(self, value: Value) -> bool:
        """Return whether training can draw this value."""
        entries = value if isinstance(value, tuple) else (value,)
        return all(lookup(self.distribution, entry) for entry in entries)

    def _lookup(self, entry: object) -> list[float | int | str | None]:
        found = lookup(self.distribution, entry)
        if not found and self.extrapolation is not None:
            found = lookup(self.extrapolation, entry)
        return found


class ParameterSpace:
    """The parameters of a family, in the order they are sampled and shown."""

    def __init__(self, *parameters: Parameter):
        for given in parameters:
            require(isinstance(given, Parameter), "parameters", "meta_rl.families.Parameter", given)
        self.parameters = parameters
        names = [parameter.name for parameter in parameters]
        require(len(set(names)) == len(names), "parameters", "different names", names)

    @property
    def entries(self) -> int:
        """Return the number of entries of all parameters."""
        return sum(parameter.size or 1 for parameter in self.parameters)

    def at(self, quantiles: Sequence[Sequence[float]]) -> list[Task]:
        """Return the tasks at quantiles in [0, 1), one row of all entries for each task.

        Rows of independent uniform numbers give the tasks that :meth:`sample` draws.
        """
        return [self._named(iter(row), wide=False) for row in quantiles]

    def sample(self, n: int, seed: int, split: str = "in-distribution") -> list[Task]:
        """Draw n tasks with independent entries; equal seeds give equal tasks on every machine.

        Args:
            n: the number of tasks.
            seed: the seed of the draw.
            split: ``in-distribution``, or ``extrapolation`` to draw from the wider distributions;
                then every task has at least one parameter outside its training range.

        Raises:
            InputError: if the split is unknown, or no parameter declares an extrapolation.
        """
        require(split in SPLITS, "split", f"one of {', '.join(SPLITS)}", split)
        wide = split == "extrapolation"
        if wide and not any(parameter.extrapolation for parameter in self.parameters):
            raise InputError(f"split: none of {self._names()} declares an extrapolation.")
        generator = np.random.default_rng(seed)
        tasks: list[Task] = []
        while len(tasks) < n:
            rows = generator.random((n, self.entries)).tolist()
            drawn = [self._named(iter(row), wide) for row in rows]
            tasks += [task for task in drawn if not (wide and self.in_distribution(task))]
        return tasks[:n]

    def table(self, n: int, seed: int) -> Sequence[Task]:
        """Draw the n tasks of :meth:`sample`, as a table if every parameter is a single number."""
        single = all(parameter.size is None for parameter in self.parameters)
        quantiles = np.random.default_rng(seed).random((n, self.entries))
        columns = {
            parameter.name: values(parameter.distribution, quantiles[:, number])
            for number, parameter in enumerate(self.parameters if single else ())
        }
        numeric = bool(columns) and all(column.dtype.kind == "f" for column in columns.values())
        return TaskTable(columns) if numeric else self.sample(n, seed)

    def in_distribution(self, task: Task) -> bool:
        """Return whether training can draw this task."""
        return all(p.in_distribution(task[p.name]) for p in self.parameters)

    def check(self, task: Mapping[str, object]) -> Task:
        """Return the task with every value as its distribution writes it.

        Raises:
            InputError: if a parameter is unknown, missing or impossible.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        if not isinstance(task, Mapping):
            raise InputError(
                f"task: expected a dictionary of the parameters {self._names()}, got {task!r}."
            )
        for name in task:
            if name not in known:
                expected = f"task: expected parameters {self._names()}, got {name!r}."
                raise InputError(expected + hint(str(name), known))
        missing = [name for name in known if name not in task]
        if missing:
            raise InputError(f"task: missing {', '.join(missing)}; expected {self._names()}.")
        return {name: parameter.check(task[name]) for name, parameter in known.items()}

    def parse(self, text: str) -> Task:
        """Read a task from the command line: ``goal=0.3,-0.2`` or ``gravity=9.8,length=0.7``.

        Raises:
            InputError: if the text or the task does not fit.
        """
        return self.check(parse_task(text))

    def to_json(self, tasks: Sequence[Task]) -> str:
        """Write tasks as a JSON list, one line each."""
        return "[" + ",\n ".join(json.dumps(self.check(task)) for task in tasks) + "]\n"

    def from_json(self, text: str) -> list[Task]:
        """Read the tasks that :meth:`to_json` wrote, equal to the last bit.

        Raises:
            InputError: if the text is not such a list or a task does not fit.
        """
        try:
            tasks = json.loads(text, object_pairs_hook=_different_names)
        except InputError:
            raise
        except (ValueError, RecursionError) as error:
            raise InputError(f"tasks: expected a JSON list, got {error}.") from None
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise InputError(f"tasks: expected a JSON list of objects, got {text[:60]!r}.")
        return [self.check(task) for task in tasks]

    def _named(self, quantiles: Iterator[float], wide: bool) -> Task:
        task: dict[str, Value] = {}
        for p in self.parameters:
            distribution = p.extrapolation if wide and p.extrapolation else p.distribution
            entries = tuple(distribution.at(next(quantiles)) for _ in range(p.size or 1))
            task[p.name] = entries[0] if p.size is None else entries  # type: ignore[assignment]
        return task

    def _names(self) -> str:
        return ", ".join(parameter.name for parameter in self.parameters) or "none"


def _different_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object; refuse a name given twice, of which Python would keep the last value."""
    for name, count in Counter(name for name, _ in pairs).items():
        require(
            count == 1, f"task parameter {name}", "one value", [v for n, v in pairs if n == name]
        )
    return dict(pairs)


def parse_task(text: str) -> dict[str, Any]:
    """Read a task's values, unchecked, from the command line: ``goal=0.3,-0.2`` or ``user=12``.

    Entries without a name continue the vector before them.

    Raises:
        InputError: if the text does not have this form.
    """
    values: dict[str, list[str]] = {}
    name = ""
    for part in text.split(","):
        head, equals, tail = (piece.strip() for piece in part.rpartition("="))
        if equals:
            name = head
            require(name not in values, f"task parameter {name}", "one value", text)
        if not name or not tail:
            raise InputError(f"task: expected NAME=VALUE[,VALUE...], got {text!r}.")
        values.setdefault(name, []).append(tail)
    return {n: v[0] if len(v) == 1 else tuple(v) for n, v in values.items()}


class ParameterTasks:
    """Few-shot tasks that differ in the values of parameters, all drawn alike in every split."""

    splits = ("in-distribution",) * 3
    fewest = None
    space: ParameterSpace

    def sample_tasks(self, n: int, seed: int, split: str = "in-distribution") -> list[Task]:
        """Draw n tasks from the parameters' distributions."""
        return self.space.sample(n, seed, split)

    def check_task(self, task: Task) -> Task:
        """Return the task with normalized numbers; InputError if one is unknown or impossible."""
        return self.space.check(task)
