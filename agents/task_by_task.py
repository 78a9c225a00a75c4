"""Functions of M tasks' tensors that ``vmap`` runs as they are, on more tasks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.utils._pytree import tree_map


class TaskByTask(Function):
    """A function of tensors ``(M, ...)``; ``vmap`` only makes M larger."""

    # torch's vmap is a static method. A class method is called alike, and knows its subclass.
    @classmethod
    def vmap(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, info: Any, in_dims: tuple, *arguments: Any
    ) -> tuple[Any, Any]:
        """Apply the function with the B values of the new dimension among the M tasks."""

        def joined(value: Any, dim: int | None) -> Any:
            if not isinstance(value, Tensor):
                return value
            value = value.expand(info.batch_size, *value.shape) if dim is None else value
            return value.movedim(dim or 0, 0).flatten(0, 1)

        results = cls.apply(*(joined(*pair) for pair in zip(arguments, in_dims, strict=True)))
        results = tree_map(lambda value: value.unflatten(0, (info.batch_size, -1)), results)
        return results, tree_map(lambda _: 0, results)


def one_weight(
    function: Any, info: Any, in_dims: tuple, arguments: tuple, at: int
) -> tuple[Any, Any]:
    """Apply a function with the B values of the new dimension among the S images.

    Args:
        function: the function to apply.
        info: the information that ``vmap`` gives.
        in_dims: the mapped dimension of each argument.
        arguments: the function's arguments.
        at: the position of the weight, which all tasks share.
    """

    def joined(value: Any, dim: int | None) -> Any:
        if not isinstance(value, Tensor):
            return value
        if dim is None:
            value, dim = value.expand(info.batch_size, *value.shape), 0
        return value.movedim(dim, 1).flatten(1, 2)

    results = function.apply(
        *(
            value if number == at else joined(value, dim)
            for number, (value, dim) in enumerate(zip(arguments, in_dims, strict=True))
        )
    )
    results = tree_map(lambda value: value.unflatten(1, (info.batch_size, -1)), results)
    return results, tree_map(lambda _: 1, results)


def stack(each: Iterable[Tensor]) -> Tensor:
    """Stack the tasks' tensors to ``(M, ...)``; a single tensor is viewed, not copied."""
    tensors = list(each)
    return torch.stack(tensors) if len(tensors) > 1 else tensors[0][None]
