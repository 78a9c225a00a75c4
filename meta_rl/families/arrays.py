"""Few-shot tasks in arrays of one's own: regression or classification, tasks held out."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from meta_rl.errors import InputError, require, unknown
from meta_rl.families.examples import SPLITS, first_of_shuffled
from meta_rl.storage.reading import shortened
from meta_rl.tasks import only_value
from meta_rl.types import Task

FEWEST_TASKS = 3
"""One task to train on, one to validate on, and one to test on."""
LOST, ROUNDED = 1e-6, 1e-12
"""Ranges, relative to the largest number: float32 loses less than LOST, float64 rounds ROUNDED."""


class Arrays:
    """Regression of ``y``, or classification by ``label``, in the tasks of one's own arrays.

    A task is ``{"task": "name"}``. Its examples are its own, in all tasks of one shape: vectors,
    sequences ``(T, features)``, or images ``(channels, H, W)``. The numbers are taken as they are,
    as float32. The seed shuffles the tasks and splits them 60 : 20 : 20 into train, validation and
    test, with at least one task in each.

    Args:
        x: the inputs, ``(n, *input_shape)``, or ``(n,)`` for one number each.
        y: numbers to predict, ``(n, outputs)`` or ``(n,)``.
        label: classes to predict, ``(n,)``, texts or whole numbers, in place of ``y``. Every task
            has examples of every class.
        task: the task of each example, ``(n,)``, texts or whole numbers. When None, the first axis
            of the other arrays are the tasks: x ``(M, n, *input_shape)``, y ``(M, n, outputs)``.
        columns: the names of the features, the last axis of x, if they have names.
        seed: the seed of the split.
        id: the family's id.
        source: the data's source, for people.

    Raises:
        InputError: if the arrays do not fit together, hold other values, or there are too few tasks
            or examples.
    """

    splits = SPLITS

    def __init__(
        self,
        x: Any,
        y: Any = None,
        *,
        label: Any = None,
        task: Any = None,
        columns: Sequence[str] = (),
        seed: int = 0,
        id: str = "arrays",
        source: str = "",
    ):
        self.id, self.source = id, source
        if (y is None) == (label is None):
            got = "none" if y is None else "both"
            raise InputError(f"arrays: expected y (numbers) or label (classes), got {got}.")
        self.kind: Literal["regression", "classification"]
        self.kind = "regression" if label is None else "classification"
        named = {"x": x, **({"y": y} if label is None else {"label": label})}
        values = _with_tasks({name: as_array(name, value) for name, value in named.items()}, task)
        _check_lengths(values)
        self.names, number = _names_of(values["task"])
        self._numbers = {name: number for number, name in enumerate(self.names)}
        inputs, targets, self.labels = _numbers_of(values)
        self._sort(inputs, targets, number)
        self.input_shape: tuple[int, ...] = inputs.shape[1:]
        self.columns = tuple(columns)
        fits = len(self.columns) in (0, self.input_shape[-1])
        require(fits, "arrays: columns", f"{self.input_shape[-1]} names, or none", columns)
        self.output_size = len(self.labels) or targets.shape[1]
        self.fewest: int | None = int(self._sizes.min())
        self._split = _split(len(self.names), seed)
        self._on: dict[torch.device, tuple[Tensor, Tensor]] = {}
        self.summary = f"{len(inputs):,} examples of {len(self.names)} tasks."

    def _sort(self, inputs: np.ndarray, targets: np.ndarray, task: np.ndarray) -> None:
        """Keep the examples by task, and in a task by class.

        Raises:
            InputError: if a task, or a class in a task, has fewer than two examples.
        """
        classes = len(self.labels) or 1
        group = task * classes + (targets if self.labels else 0)
        order = np.argsort(group, kind="stable")
        self._x, self._y = torch.from_numpy(inputs[order]), torch.from_numpy(targets[order])
        sizes = np.bincount(group, minlength=len(self.names) * classes)
        self._sizes = sizes.reshape(len(self.names), classes)
        self._starts = (np.cumsum(sizes) - sizes).reshape(self._sizes.shape)
        least = np.unravel_index(self._sizes.argmin(), self._sizes.shape)
        of_task = f"task {shortened(self.names[least[0]], 60)!r}"
        of = f"class {shortened(self.labels[least[1]], 60)!r} of " if self.labels else ""
        self.smallest = of + of_task
        if (got := int(self._sizes[least])) < 2:
            raise InputError(
                f"arrays: {self.smallest}: expected 2 examples or more, one to adapt to and one to "
                f"score, got {got}. Add some, or leave the task out."
            )

    @property
    def split_names(self) -> dict[str, list[str]]:
        """The names of the tasks in each split."""
        return {name: [self.names[k] for k in split] for name, split in self._split.items()}

    def sample_tasks(self, n: int, seed: int, split: str = "train") -> list[Task]:
        """Draw n tasks of the split, with replacement.

        Raises:
            InputError: if the split is not train, validation or test.
        """
        require(split in self._split, "split", f"one of {', '.join(SPLITS)}", split)
        drawn = np.random.default_rng(seed).choice(self._split[split], n)
        return [{"task": self.names[number]} for number in drawn]

    def check_task(self, task: Mapping[str, Any]) -> Task:
        """Return the task with its name as a text.

        Raises:
            InputError: unless the task is one of the arrays'.
        """
        name = str(only_value(task, "task"))
        if name not in self._numbers:
            near = difflib.get_close_matches(name, self.names, 3, 0)
            raise InputError(
                f"task parameter task: expected one of {len(self.names)} tasks, such as "
                f"{', '.join(near)}, got {shortened(name, 60)!r}."
            )
        return {"task": name}

    def draw(
        self,
        tasks: Sequence[Task],
        first: int,
        count: int,
        seed: int,
        device: torch.device | str,
    ) -> tuple[Tensor, Tensor]:
        """Return examples ``first`` to ``first + count`` of every task, ordered by the seed.

        Returns:
            Inputs ``(M, count, *input_shape)`` and numbers ``(M, count, outputs)``, float32; of
            classes, ``count`` of each, inputs ``(M, N * count, *input_shape)`` and int64 labels
            ``(M, N * count)``.

        Raises:
            InputError: if a task has too few examples.
        """
        who = np.array([self._numbers[str(task["task"])] for task in tasks], dtype=np.int64)
        sizes = self._sizes[who]  # (M, N)
        if sizes.size and sizes.min() < first + count:
            raise InputError(
                f"shots: expected at most {sizes.min()} examples of task "
                f"{self.names[who[sizes.min(1).argmin()]]!r}, support and query together, got "
                f"{first + count}. Ask for fewer shots or queries."
            )
        order = first_of_shuffled(sizes, first + count, seed)[..., first:]
        rows = torch.from_numpy((self._starts[who][..., None] + order).reshape(len(tasks), -1))
        x, y = self._values_on(torch.device(device))
        rows = rows.to(x.device)
        return x[rows], y[rows]

    def _values_on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if device not in self._on:
            self._on[device] = self._x.to(device), self._y.to(device)
        return self._on[device]


def as_array(name: str, value: Any) -> np.ndarray:
    """Return a value as an array of numbers or texts.

    Raises:
        InputError: if the value is something else.
    """
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except Exception as error:  # numpy raises what it likes at ragged lists
        raise InputError(f"{name}: expected an array, got {shortened(value, 60)}.") from error
    if array.dtype.kind == "O" and all(isinstance(text, str) for text in array.flat):
        array = array.astype(str)  # as of pandas
    require(array.dtype.kind in "fiubUS", name, "an array of numbers or texts", array.dtype)
    return array


def numbers(name: str, array: np.ndarray) -> np.ndarray:
    """Return an array's numbers as float32.

    Raises:
        InputError: if they are not numbers, or not all finite.
    """
    require(array.dtype.kind in "fiub", name, "numbers", array.dtype)
    with np.errstate(over="ignore"):
        found = array.astype(np.float32)
    if not np.isfinite(found).all():
        where = np.argwhere(~np.isfinite(found))[0]
        raise InputError(
            f"{name}: expected finite numbers, got {array[tuple(where)]} at {where.tolist()}."
        )
    return found


def classes(name: str, array: np.ndarray, known: Sequence[str]) -> np.ndarray:
    """Return the position of each label in the known ones, as int64.

    Raises:
        InputError: if a label is not one of them.
    """
    texts = _texts(name, array)
    for text in np.unique(texts):
        if text not in known:
            raise unknown(name, known, str(text))
    return np.searchsorted(np.array(known), texts).astype(np.int64)


def _texts(name: str, array: np.ndarray) -> np.ndarray:
    """Return texts or whole numbers as texts."""
    if array.dtype.kind == "f":
        wide = array.astype(np.longdouble)  # float16 ends before 2**53
        if (np.abs(wide) < 2**53).all() and (wide % 1 == 0).all():
            array = wide.astype(np.int64)
    require(array.dtype.kind in "iubUS", name, "texts or whole numbers", array.dtype)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "backslashreplace")
    texts = array.astype(str)
    require(bool((np.char.str_len(texts) > 0).all()), name, "a name for every example", "")
    return texts


def _names_of(task: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the names of the tasks in their order, and the number of each example's task."""
    names, number = np.unique(_texts("task", task), return_inverse=True)
    require(
        len(names) >= FEWEST_TASKS,
        "arrays: task",
        f"{FEWEST_TASKS} tasks or more, to train, validate and test on different ones",
        [shortened(name, 30) for name in names],
    )
    return tuple(names.tolist()), number


def _with_tasks(values: dict[str, np.ndarray], task: Any) -> dict[str, np.ndarray]:
    """Return the arrays with one example a row, and each example's task."""
    if task is not None:
        return {**values, "task": as_array("task", task)}
    shapes = {name: array.shape for name, array in values.items()}
    if min(map(len, shapes.values())) < 2 or len({shape[:2] for shape in shapes.values()}) > 1:
        raise InputError(
            "arrays: expected task, the task of each example; or tasks along the first axis and "
            f"their examples along the second, got no task and shapes {shapes}."
        )
    tasks, each = values["x"].shape[:2]
    rows = {n: array.reshape(tasks * each, *array.shape[2:]) for n, array in values.items()}
    return {**rows, "task": np.repeat(np.arange(tasks), each)}


def _check_lengths(values: dict[str, np.ndarray]) -> None:
    shapes = {name: array.shape for name, array in values.items()}
    fits = len({shape[:1] for shape in shapes.values()}) == 1 and values["x"].size > 0
    fits = fits and values["x"].ndim > 0 and values["task"].ndim == 1
    fits = fits and ("label" not in values or values["label"].ndim == 1)
    fits = fits and ("y" not in values or (values["y"].ndim < 3 and values["y"].size > 0))
    require(
        fits,
        "arrays",
        "x (n, ...), task (n,), and y (n,) or (n, outputs), or label (n,)",
        shapes,
    )


def _numbers_of(values: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return inputs, targets, and the names of the classes if the targets are their positions."""
    count = len(values["x"])
    inputs = numbers("x", values["x"])
    inputs = inputs.reshape(count, 1) if inputs.ndim == 1 else inputs
    _warn_of_lost("x", values["x"].reshape(-1, inputs.shape[-1]))
    if "y" in values:
        targets = numbers("y", values["y"]).reshape(count, -1)
        _warn_of_lost("y", values["y"].reshape(targets.shape))
        return inputs, targets, ()
    known = tuple(str(text) for text in np.unique(_texts("label", values["label"])))
    require(len(known) > 1, "label", "two classes or more", list(known))
    return inputs, classes("label", values["label"], known), known


def _warn_of_lost(name: str, columns: np.ndarray) -> None:
    """Warn of columns ``(n, features)`` whose differences float32 loses."""
    if columns.dtype.itemsize <= 4:
        return
    low, high = columns.min(0), columns.max(0)
    size = np.maximum(abs(low.astype(np.float64)), abs(high.astype(np.float64)))
    varies = (high - low).astype(np.float64) / np.maximum(size, 1e-30)
    least = ROUNDED if columns.dtype.kind == "f" else 0.0
    lost = np.flatnonzero((varies > least) & (varies < LOST))
    if len(lost):
        k = lost[0]
        warnings.warn(
            f"arrays: column {k + 1} of {name} varies from {low[k]} to {high[k]}, and "
            "float32 hardly tells these apart. Subtract a constant, or leave the column out.",
            stacklevel=2,
        )


def _split(count: int, seed: int) -> dict[str, np.ndarray]:
    held_out = max(1, round(0.2 * count))
    ends = (count - 2 * held_out, count - held_out)
    return dict(
        zip(SPLITS, np.split(np.random.default_rng(seed).permutation(count), ends), strict=True)
    )
