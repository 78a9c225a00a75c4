"""Tasks: checking them, and walking the leading dimension M that data and parameters have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from meta_rl.errors import InputError, require
from meta_rl.types import MetaParameters, Params, Task


class TaskChecker(Protocol):
    """A family, of environments or of examples."""

    @property
    def id(self) -> str:
        """Its name."""
        ...

    def check_task(self, task: Task) -> Task:
        """The task with its values normalized; InputError on one that does not fit."""
        ...


def check_tasks(family: TaskChecker, tasks: Iterable[Any]) -> list[Task]:
    """The tasks as the family takes them: the one check, wherever tasks come in.

    Raises:
        InputError: if there are none, or one is no task of the family.
    """
    if isinstance(tasks, str | Mapping) or not isinstance(tasks, Iterable):
        raise InputError(
            f"tasks: expected a list of tasks of {family.id}, as sample_tasks returns, got "
            f"{tasks!r}."
        )
    given = list(tasks)
    require(len(given) > 0, "tasks", f"one or more of {family.id}", given)
    for task in given:
        if not isinstance(task, Mapping):
            raise InputError(
                f"task: expected a dictionary of parameters of {family.id}, as sample_tasks "
                f"returns, got {task!r}."
            )
    return [family.check_task(task) for task in given]


def check_sampled(family: TaskChecker, tasks: Sequence[Any], n: int) -> list[Task]:
    """The tasks that a family has drawn, as it takes them.

    Raises:
        InputError: unless there are n of them, and each is a task of the family.
    """
    try:
        sampled = check_tasks(family, tasks)
    except InputError as error:
        raise InputError(f"{error} Mend sample_tasks of {family.id}, which drew it.") from error
    require(len(sampled) == n, f"sample_tasks of {family.id}", f"{n} tasks", len(sampled))
    return sampled


def over_tasks(function: Callable, in_dims: tuple, tasks_at_once: int | None) -> Callable:
    """Map a function of one task over all tasks.

    Args:
        function: of one task's arguments.
        in_dims: 0 for an argument with a leading M, None for one shared by all tasks.
        tasks_at_once: all in one ``vmap`` (None), so many per ``vmap``, or 1 for a plain loop
            without vmap. Which is fastest depends on model and device: vmap wins several times
            over on small dense networks and loses to the loop on CPU convolutions.
    """
    if tasks_at_once != 1:
        return torch.vmap(function, in_dims=in_dims, chunk_size=tasks_at_once)

    def loop(*arguments: Any) -> Any:
        pairs = list(zip(arguments, in_dims, strict=True))
        count = next(num_tasks(value) for value, dim in pairs if dim == 0)
        results = [
            function(*(value if dim is None else select(value, m) for value, dim in pairs))
            for m in range(count)
        ]
        return tree_map(lambda *each: torch.stack(each), *results)

    return loop


def expand(theta: Params, num_tasks: int) -> Params:
    """Theta as the parameters of M tasks: every tensor viewed as ``(M, ...)``."""
    return {name: value.expand(num_tasks, *value.shape) for name, value in theta.items()}


def num_tasks(batch: Any) -> int:
    """M, the length of the batch's leading dimension."""
    return tree_leaves(batch)[0].shape[0]


def select(batch: Any, tasks: int | slice) -> Any:
    """One task's part of a batch, or a slice of its tasks."""
    return tree_map(lambda value: value[tasks], batch)


def in_parts(batches: Sequence[Any], tasks_at_once: int | None) -> Iterator[list[Any]]:
    """The batches of ``tasks_at_once`` tasks after another, or of all of them (None)."""
    total = num_tasks(batches[-1])
    size = tasks_at_once or total
    for start in range(0, total, size):
        yield [select(batch, slice(start, start + size)) for batch in batches]


def unflatten_like(meta: MetaParameters, leaves: Sequence[Tensor]) -> MetaParameters:
    """Tensors in the order of ``tree_leaves(meta)`` as a MetaParameters of the same names."""
    remaining = iter(leaves)
    return tree_map(lambda _: next(remaining), meta)
