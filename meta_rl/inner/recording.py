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
from torch._ops import OpOverload
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from meta_rl.errors import InputError

PROGRAMS = 16
"""How many shapes of one function are recorded; each program takes memory of its own."""

TURNS = frozenset({"t", "transpose"})
VIEWS = {"view": "view", "_unsafe_view": "view", "expand": "expand"}  # tensors' own methods
# fmt: off
DIRECT = TURNS | {
    "add", "addmm", "baddbmm", "bmm", "cat", "clamp", "div", "exp", "log", "mean", "mm", "mul",
    "neg", "ones_like", "permute", "pow", "relu", "select", "sqrt", "squeeze", "sub", "sum", "tanh",
    "unsqueeze", "where", "zeros_like",
}
# fmt: on
"""Operations whose function of torch's takes the same arguments."""


class Recorded:
    """A pure function of tensors, which is recorded once for every shape; then its operations run.

    The same operations in the same order give the same bits. Derivatives taken within the function
    are recorded; none can be taken through it. Of many shapes, as episodes of varying length have,
    the first 16 are recorded; with the others the function itself runs, to the same bits.

    What Python decides in the function is decided once and for all: it must depend on nothing but
    shapes and arguments that are no tensors, and change nothing. A value that Python reads from a
    tensor would stay as it was, so every program is run beside the function once, on slightly other
    numbers (not on a GPU, where a sum repeated may have other bits).

    Args:
        function: of tensors in any nesting, and of constants that can be hashed.
    """

    def __init__(self, function: Callable):
        self.function = function
        self._programs: dict[Any, Callable] = {}

    @torch.no_grad()
    def __call__(self, *arguments: Any) -> Any:
        """What the function returns for these arguments.

        Raises:
            InputError: if what it does depends on a tensor's value.
        """
        leaves, structure = tree_flatten(arguments)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        key = (structure, *(_kind(leaf) for leaf in leaves))
        if key in self._programs:
            return self._programs[key](*tensors)

        def function(*given: Tensor) -> Any:
            remaining = iter(given)
            filled = [next(remaining) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
            with torch.enable_grad():
                return self.function(*tree_unflatten(filled, structure))

        if len(self._programs) == PROGRAMS:
            return tree_map(_detached, function(*tensors))
        self._programs[key] = _program(function, tensors)
        return self._programs[key](*tensors)


def _program(function: Callable, tensors: list[Tensor]) -> Callable:
    # Half of a second or more to import, which most runs have no use for.
    from torch.fx.experimental.proxy_tensor import make_fx

    try:
        program = slimmed(make_fx(function)(*tensors)).forward
        if all(tensor.device.type == "cpu" for tensor in tensors):
            others = [_perturbed(tensor) for tensor in tensors]
            outcomes = (tree_leaves(run(*others)) for run in (function, program))
            if not all(_same(*both) for both in zip(*outcomes, strict=True)):
                raise _depends()
    except RuntimeError as error:
        if "value out of a tracing tensor" in str(error):
            raise _depends() from error
        if "memory" in str(error):
            raise
        raise InputError(
            "speed.recorded: expected a network whose operations can be recorded, got "
            f"{type(error).__name__}: {str(error).splitlines()[0]}. What to do: set recorded=False "
            "(--speed.no-recorded), or replace the layer."
        ) from error
    return program


def slimmed(module: Any) -> Any:
    """A ``torch.fx.GraphModule`` that does the same in fewer operations, to the same bits.

    ``vmap`` leaves views that show all there is and products with 1; derivatives of derivatives
    take again what was taken. Operations of :data:`DIRECT` are called through torch's own
    functions, which cost half a microsecond less than those of ``torch.ops``.
    """
    graph, known = module.graph, {}
    calls = [node for node in graph.nodes if isinstance(node.target, OpOverload)]
    # What reads or writes memory as such needs all tensors where they were.
    if any(call.target._schema.is_mutable or _name(call) == "as_strided" for call in calls):
        return module
    shown = _shown(graph)
    for node in calls:
        same = _already(node) or known.setdefault(_told(node), node)
        if same is not node and node not in shown:
            node.replace_all_uses_with(same)
    graph.eliminate_dead_code()
    for node in graph.nodes:
        if isinstance(node.target, OpOverload):
            name = _name(node)
            if name in VIEWS:
                node.op, node.target = "call_method", VIEWS[name]
            elif name in DIRECT:
                node.target = getattr(torch, name)
    module.recompile()
    return module


def _name(call: Any) -> str:
    return call.target.overloadpacket.__name__


def _shown(graph: Any) -> set[Any]:
    """Nodes whose memory is returned, by themselves or in views: it stays theirs alone."""
    shown: set[Any] = set()
    for node in reversed(graph.nodes):
        if any(u.op == "output" or (u in shown and _shares_memory(u)) for u in node.users):
            shown.add(node)
    return shown


def _shares_memory(node: Any) -> bool:
    """Whether what the node gives may lie in the memory of what it takes."""
    if not isinstance(node.target, OpOverload):  # one of several results
        return True
    arguments = node.target._schema.arguments
    return _name(node) == "_unsafe_view" or any(each.alias_info for each in arguments)


def _told(node: Any) -> Any:
    """Equal for operations that give equal results."""
    drawn = torch.Tag.nondeterministic_seeded in node.target.tags
    return node if drawn else f"{node.target} {node.args} {node.kwargs}"


def _already(node: Any) -> Any:
    """What the operation's result is equal to, if it needs no operation; else None."""
    name = _name(node)
    first: Any = node.args[0] if node.args else None
    if name in TURNS and first.target is node.target and first.args[1:] == node.args[1:]:
        return first.args[0]  # turned there and back
    if name in VIEWS or name == "detach" or (name == "mul" and node.args[1] == 1):
        kinds = "shape", "stride", "dtype"
        # Constants, a network's buffers for instance, tell nothing of themselves.
        before, after = (each.meta.get("tensor_meta") for each in (first, node))
        alike = before and all(getattr(before, kind) == getattr(after, kind) for kind in kinds)
        if alike and not after.dtype.is_complex:  # whose product with 1 may have other zeros
            return first
    return None


def _depends() -> InputError:
    return InputError(
        "speed.recorded: expected a network and a loss that decide by shapes alone, got Python "
        "that reads a tensor's value (if, float, tolist or numpy). Leave --speed.recorded out."
    )


def _kind(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return type(leaf), leaf  # True and 1.0 are equal to 1
    return leaf.shape, leaf.stride(), leaf.dtype, leaf.device


def _detached(leaf: Any) -> Any:
    return leaf.detach() if isinstance(leaf, Tensor) else leaf


def _perturbed(tensor: Tensor) -> Tensor:
    """Slightly other numbers, which lie in memory as the tensor's do."""
    if not tensor.is_floating_point() or not tensor.numel():
        return tensor
    shape, stride = tensor.shape, tensor.stride()
    extent = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    return (1.001 * tensor.as_strided((extent,), (1,)) + 0.001).as_strided(shape, stride)


def _same(left: Any, right: Any) -> bool:
    if not isinstance(left, Tensor):
        return left == right
    return bool(((left == right) | ((left != left) & (right != right))).all())
