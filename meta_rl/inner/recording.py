"""Record a function's tensor operations once, and replay them without its Python.

A step of a small network costs mostly Python: ``vmap``, ``functional_call`` and autograd between
operations of a few microseconds each. For the same shapes they run the same list of operations
every time.
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
"""Number of shapes recorded for one function; each program takes memory of its own."""

TURNS = frozenset({"t", "transpose"})
VIEWS = {"view": "view", "_unsafe_view": "view", "expand": "expand"}  # tensors' own methods
# fmt: off
DIRECT = TURNS | {
    "add", "addmm", "baddbmm", "bmm", "cat", "clamp", "div", "exp", "log", "mean", "mm", "mul",
    "neg", "ones_like", "permute", "pow", "relu", "select", "sqrt", "squeeze", "sub", "sum", "tanh",
    "unsqueeze", "where", "zeros_like",
}
# fmt: on
"""Operations whose public torch function takes the same arguments."""


class Recorded:
    """Records a pure function of tensors once for every shape, and replays its operations.

    The same operations in the same order give the same bits. Derivatives inside the function are
    recorded; none can be taken through it. Of many shapes (episodes of varying length) the first 16
    are recorded; for the others the function itself runs, and gives the same bits.

    The function's Python runs only while recording: it must depend on shapes and non-tensor
    arguments alone, and have no side effects. A value that Python reads from a tensor would be
    frozen. To detect that, every program is compared once with the function, on slightly other
    numbers (not on a GPU, where repeating a sum may change bits).

    Args:
        function: takes tensors in any nesting, and constants that can be hashed.
    """

    def __init__(self, function: Callable):
        self.function = function
        self._programs: dict[Any, Callable] = {}

    @torch.no_grad()
    def __call__(self, *arguments: Any) -> Any:
        """Return the function's result for these arguments.

        Raises:
            InputError: if the function's operations depend on a tensor's value.
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
    # Takes half a second or more to import, and most runs do not need it.
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
    """Return a ``torch.fx.GraphModule`` with fewer operations and the same bits.

    ``vmap`` leaves views of a whole tensor and products with 1, and second derivatives repeat
    operations. Operations of :data:`DIRECT` are called as torch's public functions, which cost half
    a microsecond less than those of ``torch.ops``.
    """
    graph, known = module.graph, {}
    calls = [node for node in graph.nodes if isinstance(node.target, OpOverload)]
    # In-place operations and as_strided depend on the tensors' memory: change nothing.
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
    """Return the nodes whose memory is returned, directly or in views: none may be merged."""
    shown: set[Any] = set()
    for node in reversed(graph.nodes):
        if any(u.op == "output" or (u in shown and _shares_memory(u)) for u in node.users):
            shown.add(node)
    return shown


def _shares_memory(node: Any) -> bool:
    """Return whether the node's result may share memory with its arguments."""
    if not isinstance(node.target, OpOverload):  # one of several results
        return True
    arguments = node.target._schema.arguments
    return _name(node) == "_unsafe_view" or any(each.alias_info for each in arguments)


def _told(node: Any) -> Any:
    """Return a key that is equal for operations with equal results."""
    drawn = torch.Tag.nondeterministic_seeded in node.target.tags
    return node if drawn else f"{node.target} {node.args} {node.kwargs}"


def _already(node: Any) -> Any:
    """Return the node that the operation's result equals, if there is one; else None."""
    name = _name(node)
    first: Any = node.args[0] if node.args else None
    if name in TURNS and first.target is node.target and first.args[1:] == node.args[1:]:
        return first.args[0]  # transposed twice
    if name in VIEWS or name == "detach" or (name == "mul" and node.args[1] == 1):
        kinds = "shape", "stride", "dtype"
        # Constants, such as a network's buffers, have no metadata.
        before, after = (each.meta.get("tensor_meta") for each in (first, node))
        alike = before and all(getattr(before, kind) == getattr(after, kind) for kind in kinds)
        if alike and not after.dtype.is_complex:  # a complex 1 may change a zero's sign
            return first
    return None


def _depends() -> InputError:
    return InputError(
        "speed.recorded: expected a network and a loss that depend on shapes alone, got Python "
        "that reads a tensor's value (if, float, tolist or numpy). Leave --speed.recorded out."
    )


def _kind(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return type(leaf), leaf  # with the type, as True == 1 == 1.0
    return leaf.shape, leaf.stride(), leaf.dtype, leaf.device


def _detached(leaf: Any) -> Any:
    return leaf.detach() if isinstance(leaf, Tensor) else leaf


def _perturbed(tensor: Tensor) -> Tensor:
    """Return slightly other numbers, with the tensor's memory layout."""
    if not tensor.is_floating_point() or not tensor.numel():
        return tensor
    shape, stride = tensor.shape, tensor.stride()
    extent = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    return (1.001 * tensor.as_strided((extent,), (1,)) + 0.001).as_strided(shape, stride)


def _same(left: Any, right: Any) -> bool:
    if not isinstance(left, Tensor):
        return left == right
    return bool(((left == right) | ((left != left) & (right != right))).all())
