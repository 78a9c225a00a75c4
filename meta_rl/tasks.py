"""Check tasks, and map functions over the leading dimension M of data and parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from meta_rl.errors import InputError, require
from meta_rl.types import MetaParameters, Params, Task, TaskSpace


class TaskChecker(Protocol):
    """A family of environments or examples, which checks its tasks."""

    @property
    def id(self) -> str:
        """The family's name."""
        ...

    def check_task(self, task: Task) -> Task:
        """Return the task with its values normalized.

        Raises:
            InputError: if the task does not fit the family.
        """
        ...


def check_tasks(family: TaskChecker, tasks: Iterable[Any]) -> list[Task]:
    """Return tasks with their values normalized by the family.

    Raises:
        InputError: if there are no tasks, or one is not a task of the family.
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


def only_value(task: Mapping[str, Any], name: str) -> Any:
    """Return the value of a task's only parameter.

    Raises:
        InputError: if it has others, or not this one.
    """
    if set(task) != {name}:
        unknown = [other for other in task if other != name]
        problem = f"got {unknown[0]!r}" if unknown else f"{name} is missing"
        raise InputError(f"task: expected one parameter, {name}; {problem}.")
    return task[name]


def check_sampled(family: TaskChecker, tasks: Sequence[Any], n: int) -> list[Task]:
    """Return n tasks that the family has drawn, with their values normalized.

    Raises:
        InputError: unless there are n tasks, and each is a task of the family.
    """
    try:
        sampled = check_tasks(family, tasks)
    except InputError as error:
        raise InputError(f"{error} Fix sample_tasks of {family.id}, which drew it.") from error
    require(len(sampled) == n, f"sample_tasks of {family.id}", f"{n} tasks", len(sampled))
    return sampled


def few_members(tasks: Sequence[Task]) -> str:
    """Return a sentence on tasks that were drawn several times; nothing if all differ."""
    different = len({repr(dict(task)) for task in tasks})
    if different == len(tasks):
        return ""
    return (
        f"only {different} of these {len(tasks)} tasks differ: intervals are for new data of them, "
        "not for other tasks"
    )


def space_of(family: Any, *split: str) -> TaskSpace | None:
    """Return the parameters that a family draws its tasks from; None if it draws them otherwise.

    Args:
        family: the family.
        split: the split to train on, of a family of examples.
    """
    space: TaskSpace | None = getattr(family, "space", None)
    if not getattr(space, "entries", 0):  # none, or something else of that name
        return None
    if space is None or family.sample_tasks(2, 0, *split) != space.sample(2, 0):
        return None
    return space


def over_tasks(function: Callable, in_dims: tuple, tasks_at_once: int | None) -> Callable:
    """Map a function of one task over all tasks.

    Args:
        function: a function of one task's arguments.
        in_dims: 0 for an argument with a leading M, None for an argument shared by all tasks.
        tasks_at_once: tasks per ``vmap``; None for all in one, 1 for a plain loop without vmap. The
            fastest depends on model and device: vmap is several times faster on small dense
            networks, the loop on CPU convolutions.
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
    """Return theta as the parameters of M tasks: every tensor viewed as ``(M, ...)``."""
    return {name: value.expand(num_tasks, *value.shape) for name, value in theta.items()}


def num_tasks(batch: Any) -> int:
    """Return M, the length of the batch's leading dimension."""
    return tree_leaves(batch)[0].shape[0]


def select(batch: Any, tasks: int | slice) -> Any:
    """Return one task's part of a batch, or the part of a slice of tasks."""
    return tree_map(lambda value: value[tasks], batch)


def in_parts(batches: Sequence[Any], tasks_at_once: int | None) -> Iterator[list[Any]]:
    """Yield the batches of ``tasks_at_once`` tasks at a time; of all tasks when None."""
    total = num_tasks(batches[-1])
    size = tasks_at_once or total
    for start in range(0, total, size):
        yield [select(batch, slice(start, start + size)) for batch in batches]


def summed(parts: Iterable[list[Tensor]]) -> list[Tensor]:
    """Return the sum of lists of tensors, position by position, in their order."""
    return reduce(lambda *both: [a + b for a, b in zip(*both, strict=True)], parts)


def copy_each(into: list[Tensor], values: list[Tensor]) -> None:
    """Copy tensors into tensors, in one call: no signal comes between two of them."""
    torch._foreach_copy_(into, values)  # pyright: ignore[reportPrivateImportUsage]


def unflatten_like(meta: MetaParameters, leaves: Sequence[Tensor]) -> MetaParameters:
    """Return tensors in the order of ``tree_leaves(meta)`` as a MetaParameters."""
    remaining = iter(leaves)
    return tree_map(lambda _: next(remaining), meta)
