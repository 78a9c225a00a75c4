"""Tensor operations recorded once and run again without the Python that led to them.

A step of a small network costs mostly Python: ``vmap``, ``functional_call`` and autograd between
operations of a few microseconds each. What they come down to is the same list of operations every
time, as long as shapes stay the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten


class Recorded:
    """A pure function of tensors, which runs once for every shape; then its operations are run.

    The same operations in the same order give the same bits. Derivatives taken within the function
    are recorded; none can be taken through it.

    What Python decides in the function is decided once and for all: it must depend on nothing but
    shapes and arguments that are no tensors, and change nothing.

    Args:
        function: of tensors in any nesting, and of constants that can be hashed.
    """

    def __init__(self, function: Callable):
        self.function = function
        self._programs: dict[Any, Callable] = {}

    @torch.no_grad()
    def __call__(self, *arguments: Any) -> Any:
        """What the function returns for these arguments."""
        leaves, structure = tree_flatten(arguments)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        key = (structure, *(_kind(leaf) for leaf in leaves))
        if key not in self._programs:
            self._programs[key] = self._record(leaves, structure, tensors)
        return self._programs[key](*tensors)

    def _record(self, leaves: list[Any], structure: Any, tensors: list[Tensor]) -> Callable:
        # Half of a second or more to import, which most runs have no use for.
        from torch.fx.experimental.proxy_tensor import make_fx

        def function(*given: Tensor) -> Any:
            remaining = iter(given)
            filled = [next(remaining) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
            with torch.enable_grad():
                return self.function(*tree_unflatten(filled, structure))

        return make_fx(function)(*tensors).forward


def _kind(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    return leaf.shape, leaf.stride(), leaf.dtype, leaf.device
