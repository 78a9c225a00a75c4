"""Many tasks at once, as columns of values; a task is a dictionary only when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from meta_rl.families.distributions import Uniform, ValueDistribution
from meta_rl.types import Task


class TaskTable(Sequence[Task]):
    """Tasks of parameters with single numbers.

    Args:
        columns: each parameter's values, ``(n,)``.
    """

    def __init__(self, columns: dict[str, np.ndarray]):
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @overload
    def __getitem__(self, index: int) -> Task: ...

    @overload
    def __getitem__(self, index: slice) -> TaskTable: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return TaskTable({name: values[index] for name, values in self.columns.items()})
        return {name: values[index].item() for name, values in self.columns.items()}


def numbers(tasks: Sequence[Task], names: Sequence[str]) -> np.ndarray:
    """Return parameters of tasks that are single numbers, float64 ``(M, parameters)``."""
    if isinstance(tasks, TaskTable):
        return np.stack([tasks.columns[name] for name in names], 1)
    return np.array([[task[name] for name in names] for task in tasks], dtype=np.float64)


def values(distribution: ValueDistribution, quantiles: np.ndarray) -> np.ndarray:
    """Return a distribution's values at quantiles, equal to those of its ``at``, ``(n,)``."""
    if type(distribution) is Uniform and distribution.power == 1.0:
        low, high = distribution.low, distribution.high
        return np.clip(low + quantiles * (high - low), low, high)
    return np.array([distribution.at(quantile) for quantile in quantiles.tolist()])
