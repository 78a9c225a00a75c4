"""Examples of supervised tasks: the batch, the family of tasks, and a user's own as a family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from meta_rl.errors import InputError
from meta_rl.types import Task


class Examples(NamedTuple):
    """Labelled examples of each of M tasks; without the leading M, of one task."""

    x: Tensor  # (M, S, *input_shape)
    y: Tensor  # (M, S, outputs), or int64 classes (M, S)


class ExampleFamily(Protocol):
    """A distribution over supervised tasks."""

    @property
    def id(self) -> str:
        """Its name."""
        ...

    @property
    def output_size(self) -> int:
        """Numbers to predict, or N classes of a task."""
        ...

    @property
    def kind(self) -> Literal["regression", "classification"]:
        """What a label is: numbers, or a class."""
        ...

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one example."""
        ...

    @property
    def splits(self) -> tuple[str, ...]:
        """What is trained on, evaluated on while training, and tested on at the end."""
        ...

    @property
    def fewest(self) -> int | None:
        """Examples that every task (or class) has at least; None where they never end."""
        ...

    def sample_tasks(self, n: int, seed: int, split: str) -> list[Task]:
        """Draw n tasks; the same seed gives the same tasks on every machine."""
        ...

    def check_task(self, task: Task) -> Task:
        """The task with its numbers normalized; InputError on an unknown or out-of-range one."""
        ...

    def draw(
        self, tasks: Sequence[Task], first: int, count: int, seed: int, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Examples number first .. first + count of every task, in the order that seed gives.

        Returns:
            Regression: ``(M, count, *input_shape)`` and ``(M, count, outputs)``. Classification:
            so many of every class, ``(M, N * count, *input_shape)`` and int64 ``(M, N * count)``.
        """
        ...


class OwnExamples:
    """A family of one task, ``{}``: a user's own labelled examples.

    Args:
        family: whose shapes and classes they must have; they may be of fewer classes.
        examples: of one task, without a leading M.

    Raises:
        InputError: if they do not fit.
    """

    def __init__(self, family: ExampleFamily, examples: Examples):
        self.id = family.id
        self.kind: Literal["regression", "classification"] = family.kind
        self.input_shape, self.output_size = family.input_shape, family.output_size
        self.splits, self.fewest = family.splits, None
        x, y = examples
        if tuple(x.shape[1:]) != self.input_shape or len(x) != len(y) or not len(x):
            raise InputError(
                f"examples: expected x (n, {', '.join(map(str, self.input_shape))}) and n labels, "
                f"got {tuple(x.shape)} and {tuple(y.shape)}."
            )
        if self.kind == "regression":
            expected, fits = f"({len(x)}, {self.output_size})", y.shape[1:] == (self.output_size,)
        else:
            expected = f"classes from 0 to {self.output_size - 1}, as int64"
            fits = y.dtype == torch.int64 and y.ndim == 1 and 0 <= int(y.min()) <= int(y.max())
            fits = fits and int(y.max()) < self.output_size
        if not fits:
            raise InputError(
                f"examples: expected labels {expected}, got {y.dtype} {tuple(y.shape)} from "
                f"{y.min().item():g} to {y.max().item():g}. For more classes, meta-train with "
                "more --data.ways."
            )
        self.examples = examples

    def sample_tasks(self, n: int, seed: int, split: str) -> list[Task]:
        """The one task, n times."""
        return [{} for _ in range(n)]

    def check_task(self, task: Task) -> Task:
        """The one task."""
        return task

    def draw(
        self, tasks: Sequence[Task], first: int, count: int, seed: int, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """All examples, for each task."""
        x, y = (value.to(device).expand(len(tasks), *value.shape) for value in self.examples)
        return x, y
