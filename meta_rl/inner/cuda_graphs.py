"""Replay a program of tensor operations as a CUDA graph: one launch instead of hundreds.

``--speed.program captured`` replays recorded programs in this way. Nobody has run it on a GPU yet:
its tests replay on the CPU, with a stand-in for the graphs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

from meta_rl.errors import require
from meta_rl.inner.compiling import agree, layout, same

GRAPHS = 16
"""Number of graphs of one program; each has input buffers and outputs of its own."""

CHECKS = 2
"""Calls that are compared with the program: the second has other numbers than the capture."""

WARM_UPS = 2
"""Runs before a capture, in which libraries allocate what they may not allocate during one."""


class Graphs(Protocol):
    """Captures and replays tensor operations."""

    def takes(self, tensors: Sequence[Tensor]) -> bool:
        """Return whether operations on these tensors can be captured."""
        ...

    def capture(
        self, run: Callable[[], Any], device: torch.device
    ) -> tuple[Callable[[], None], Any]:
        """Return a function that repeats the operations of ``run``, and the results it writes to.

        Raises:
            RuntimeError: if the operations cannot be captured.
        """
        ...


def check_captures(device: torch.device) -> None:
    """Refuse a device that has no CUDA graphs.

    Raises:
        InputError: names the device.
    """
    require(
        device.type == "cuda",
        "speed.program",
        "a CUDA GPU for captured; without one give plain, recorded or compiled",
        device.type,
    )


class CudaGraphs:
    """Captures CUDA graphs, all of which share one pool of memory.

    A replay writes all that it reads from the pool, and :class:`Captured` copies its results before
    another replay. So the graphs may share the pool whatever their order.
    """

    def takes(self, tensors: Sequence[Tensor]) -> bool:
        """Return whether all tensors are on one GPU: the value of one on the CPU would freeze."""
        devices = {tensor.device for tensor in tensors}
        return len(devices) == 1 and devices.pop().type == "cuda"

    def capture(
        self, run: Callable[[], Any], device: torch.device
    ) -> tuple[Callable[[], None], Any]:
        """Warm up on a side stream, then capture on one."""
        with torch.cuda.device(device):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UPS):
                    run()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=_pool()):
                results = run()
        return graph.replay, results


@cache
def _pool() -> Any:
    return torch.cuda.graph_pool_handle()


class Buffer:
    """Memory of its own with another tensor's layout.

    Args:
        like: the tensor; an expanded dimension stays one, and takes no memory.
    """

    def __init__(self, like: Tensor):
        layout = zip(like.shape, like.stride(), strict=True)
        self._own = tuple(
            slice(1) if step == 0 and size > 1 else slice(None) for size, step in layout
        )
        once = like[self._own]
        place: Any = {"dtype": like.dtype, "device": like.device}
        self._memory = torch.empty_strided(once.shape, once.stride(), **place)
        self.tensor = self._memory.expand(like.shape)

    def fill(self, values: Tensor) -> Tensor:
        """Copy values of the same layout into the memory, and return the tensor."""
        self._memory.copy_(values[self._own])
        return self.tensor


@dataclass(frozen=True)
class Alias:
    """A result that is an argument, or a view of one."""

    argument: int
    shape: torch.Size
    stride: tuple[int, ...]
    offset: int

    def of(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return the same view of another call's argument."""
        base = tensors[self.argument]
        return base.as_strided(self.shape, self.stride, base.storage_offset() + self.offset)


@dataclass
class _Graph:
    buffers: list[Buffer]
    replay: Callable[[], None]
    results: list[Any]
    structure: TreeSpec
    aliases: list[Alias | None]
    checks: int = CHECKS

    def __call__(self, tensors: Sequence[Tensor]) -> Any:
        for buffer, tensor in zip(self.buffers, tensors, strict=True):
            buffer.fill(tensor)
        self.replay()
        pairs = zip(self.results, self.aliases, strict=True)
        own = [alias.of(tensors) if alias else _copy(result) for result, alias in pairs]
        return tree_unflatten(own, self.structure)

    def wrote_to(self, tensors: Sequence[Tensor]) -> bool:
        """Return whether the replay changed its arguments."""
        pairs = zip(self.buffers, tensors, strict=True)
        return not all(same(buffer.tensor, tensor) for buffer, tensor in pairs)


class Captured:
    """Runs a program as CUDA graphs, one for each layout of its arguments.

    A call copies the arguments into the graph's buffers, replays it, and copies the results: they
    are the caller's to keep. A result that is an argument, or a view of one, stays that.

    The first two calls of a graph are compared with the program itself. Where they differ by more
    than rounding, or the operations cannot be captured, the program runs without a graph, after one
    warning. So do arguments that are not all on one GPU, and layouts beyond the first 16.

    Args:
        program: a function of tensors and constants, in any nesting, to tensors. It must not change
            its arguments, nor draw random numbers: give it the noise.
        graphs: what captures and replays; CUDA graphs when None.
    """

    def __init__(self, program: Callable, graphs: Graphs | None = None):
        self.program = program
        self._graphs: Graphs = graphs or CudaGraphs()
        self._captured: dict[Hashable, _Graph | None] = {}
        self._warned = False

    @torch.no_grad()
    def __call__(self, *arguments: Any) -> Any:
        """Return the program's results for these arguments."""
        leaves, structure = tree_flatten(arguments)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        key = (structure, *map(layout, leaves))
        if key not in self._captured:
            if len(self._captured) == GRAPHS or not self._graphs.takes(tensors):
                return self.program(*arguments)
            self._captured[key] = self._capture(leaves, tensors, structure)
        graph = self._captured[key]
        if graph is None:
            return self.program(*arguments)
        found = graph(tensors)
        return self._checked(key, graph, found, tensors, arguments) if graph.checks else found

    def _capture(
        self, leaves: list[Any], tensors: list[Tensor], structure: TreeSpec
    ) -> _Graph | None:
        buffers = [Buffer(tensor) for tensor in tensors]
        filled = iter([buffer.fill(t) for buffer, t in zip(buffers, tensors, strict=True)])
        own = [next(filled) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        given = tree_unflatten(own, structure)
        try:
            replay, found = self._graphs.capture(lambda: self.program(*given), tensors[0].device)
        except RuntimeError as error:
            return self._warn(f"it cannot be captured: {str(error).splitlines()[0]}")
        results, shape = tree_flatten(found)
        aliases = [_alias(result, buffers) for result in results]
        return _Graph(buffers, replay, results, shape, aliases)

    def _checked(
        self, key: Hashable, graph: _Graph, found: Any, tensors: list[Tensor], arguments: Any
    ) -> Any:
        """Return the program's own results, and give the graph up if its results differ."""
        graph.checks -= 1
        wrote = graph.wrote_to(tensors)
        exact = self.program(*arguments)
        ours, wanted = tree_leaves(found), tree_leaves(exact)
        alike = [*map(layout, ours)] == [*map(layout, wanted)]
        if wrote:
            self._captured[key] = self._warn("it changes its arguments")
        elif not (alike and agree(ours, wanted)):
            self._captured[key] = self._warn("a replay differs from it by more than rounding")
        return exact

    def _warn(self, why: str) -> None:
        """Say once why the program runs without a graph."""
        if not self._warned:
            warnings.warn(f"CUDA graph: {why}. The program runs without.", stacklevel=2)
        self._warned = True


def _copy(result: Any) -> Any:
    return Buffer(result).fill(result) if isinstance(result, Tensor) else result


def _alias(result: Any, buffers: Sequence[Buffer]) -> Alias | None:
    if not isinstance(result, Tensor):
        return None
    for number, buffer in enumerate(buffers):
        shares = _address(result) == _address(buffer.tensor)
        if shares and result.dtype == buffer.tensor.dtype:
            return Alias(number, result.shape, result.stride(), int(result.storage_offset()))
    return None


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
