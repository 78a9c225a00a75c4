"""Examples of supervised tasks: a batch, a family of tasks, and a user's own examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from meta_rl.errors import InputError
from meta_rl.types import Task


class Examples(NamedTuple):
    """Labelled examples of each of M tasks; without the leading M, of one task."""

    x: Tensor  # (M, S, *input_shape)
    y: Tensor  # (M, S, outputs), or int64 classes (M, S)


class Drawn(Sequence[Task]):
    """Tasks with their support sets and query sets, leaves ``(M, ...)``."""

    def __init__(self, tasks: Sequence[Task], support: Examples, query: Examples):
        self.tasks, self.support, self.query = tasks, support, query

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, slice):
            return self.tasks[index]
        if index == slice(0, len(self)):
            return self
        examples = (Examples(x[index], y[index]) for x, y in (self.support, self.query))
        return Drawn(self.tasks[index], *examples)


class ExampleFamily(Protocol):
    """A distribution over supervised tasks."""

    @property
    def id(self) -> str:
        """The family's name."""
        ...

    @property
    def output_size(self) -> int:
        """The number of values to predict, or N classes of a task."""
        ...

    @property
    def kind(self) -> Literal["regression", "classification"]:
        """The kind of label: numbers, or a class."""
        ...

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example's input."""
        ...

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits for training, for evaluation while training, and for the final test."""
        ...

    @property
    def fewest(self) -> int | None:
        """The least number of examples of any task (or class); None if unlimited."""
        ...

    def sample_tasks(self, n: int, seed: int, split: str) -> list[Task]:
        """Draw n tasks; the same seed gives the same tasks on every machine."""
        ...

    def check_task(self, task: Task) -> Task:
        """Return the task with its numbers normalized.

        Raises:
            InputError: if the task is unknown or out of range.
        """
        ...

    def draw(
        self, tasks: Sequence[Task], first: int, count: int, seed: int, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Return every task's examples ``first`` to ``first + count``, in the seed's order.

        Returns:
            Regression: ``(M, count, *input_shape)`` and ``(M, count, outputs)``. Classification:
            ``count`` examples of every class, ``(M, N * count, *input_shape)`` and int64
            ``(M, N * count)``.
        """
        ...


def check_drawn(family: ExampleFamily, drawn: Any, tasks: int, count: int) -> None:
    """Refuse what a user's own family draws unless it fits :meth:`ExampleFamily.draw`.

    Args:
        family: the family that drew.
        drawn: what its ``draw`` returned.
        tasks: M, the number of tasks.
        count: the number of examples, of every class for classification.

    Raises:
        InputError: names the shapes that were expected, and those drawn.
    """
    classifies, outputs = family.kind == "classification", family.output_size
    rows = (tasks, count * outputs if classifies else count)
    shapes = [(*rows, *family.input_shape), rows if classifies else (*rows, outputs)]
    parts = list(drawn) if isinstance(drawn, tuple | list) else [drawn]
    tensors = len(parts) == 2 and all(isinstance(part, Tensor) for part in parts)
    fits = tensors and [tuple(part.shape) for part in parts] == shapes
    if not fits or (classifies and parts[1].dtype != torch.int64):
        labels = "int64 classes" if classifies else "numbers"
        raise InputError(
            f"draw of {family.id}: expected tensors x {shapes[0]} and y {shapes[1]}, {labels}, for "
            f"{tasks} tasks and count {count}, got {' and '.join(map(told, parts))}. Return these."
        )
    x, y = parts
    check_finite(f"draw of {family.id}", x, y)
    if classifies and not 0 <= int(y.min()) <= int(y.max()) < outputs:
        raise InputError(
            f"draw of {family.id}: expected classes from 0 to {outputs - 1} as y, got {y.min()} to "
            f"{y.max()}. Number the classes of each task from 0."
        )


def check_finite(what: str, x: Tensor, y: Tensor) -> None:
    """Refuse examples with numbers that are not finite.

    Args:
        what: the examples' source, for the error.
        x: the inputs.
        y: the targets.

    Raises:
        InputError: names the first such number and its place.
    """
    for name, value in (("x", x), ("y", y)):
        finite = value.isfinite()
        if not finite.all():
            at = (~finite).nonzero()[0].tolist()
            raise InputError(
                f"{what}: expected finite numbers as {name}, got {value[tuple(at)].item()} at {at}."
                " Leave such examples out."
            )


def told(value: Any) -> str:
    """Return a tensor's type and shape, or another value's class, for an error message."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"


class OwnExamples:
    """A family of one task, ``{}``: a user's own labelled examples.

    Args:
        family: the family whose shapes and classes the examples must have; fewer classes are fine.
        examples: the examples of one task, without a leading M.

    Raises:
        InputError: if the examples do not fit the family.
    """

    def __init__(self, family: ExampleFamily, examples: Examples):
        self.id = family.id
        self.kind: Literal["regression", "classification"] = family.kind
        self.input_shape, self.output_size = family.input_shape, family.output_size
        self.splits, self.fewest = family.splits, None
        x, y = examples
        if not (isinstance(x, Tensor) and isinstance(y, Tensor)):
            raise InputError(
                f"examples: expected tensors x and y, got {told(x)} and {told(y)}. Give "
                "torch.from_numpy of arrays."
            )
        if x.shape[1:] != self.input_shape or x.shape[:1] != y.shape[:1] or not len(x):
            raise InputError(
                f"examples: expected x (n, {', '.join(map(str, self.input_shape))}) and n labels, "
                f"got {tuple(x.shape)} and {tuple(y.shape)}."
            )
        if self.kind == "regression":
            expected, fits = f"({len(x)}, {self.output_size})", y.shape[1:] == (self.output_size,)
            advice = "Give them that shape."
        else:
            expected = f"classes from 0 to {self.output_size - 1}, as int64"
            fits = y.dtype == torch.int64 and y.ndim == 1 and 0 <= int(y.min()) <= int(y.max())
            fits = fits and int(y.max()) < self.output_size
            advice = "For more classes, meta-train with more --data.ways."
        if not fits:
            raise InputError(
                f"examples: expected labels {expected}, got {y.dtype} {tuple(y.shape)} from "
                f"{y.min().item():g} to {y.max().item():g}. {advice}"
            )
        check_finite("examples", x, y)
        self.examples = examples

    def sample_tasks(self, n: int, seed: int, split: str) -> list[Task]:
        """Return the one task, n times."""
        return [{} for _ in range(n)]

    def check_task(self, task: Task) -> Task:
        """Return the task as it is; the one task, ``{}``, has nothing to check."""
        return task

    def draw(
        self, tasks: Sequence[Task], first: int, count: int, seed: int, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Return all examples, for each task."""
        x, y = (value.to(device).expand(len(tasks), *value.shape) for value in self.examples)
        return x, y
