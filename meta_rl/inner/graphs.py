"""Rewrite recorded graphs of tensor operations: leave operations out, or split a graph in two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

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
PRODUCTS = frozenset({"mm", "bmm"})
LOOKS = TURNS | {"view", "expand", "permute", "select", "squeeze", "unsqueeze"}
"""Operations that show a tensor's memory in another shape, at no cost."""


def slimmed(module: Any) -> Any:
    """Return a ``torch.fx.GraphModule`` with fewer operations and the same bits.

    ``vmap`` leaves views of a whole tensor and products with 1, and second derivatives repeat
    operations. Operations of :data:`DIRECT` are called as torch's public functions, which cost half
    a microsecond less than those of ``torch.ops``.
    """
    graph, known = module.graph, {}
    calls = [node for node in graph.nodes if isinstance(node.target, OpOverload)]
    # In-place operations and as_strided depend on the tensors' memory: change nothing.
    if any(_mutable(call) or _name(call) == "as_strided" for call in calls):
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


def split(module: Any, count: int) -> tuple[Any, Any]:
    """Split a recorded graph into what depends on its first ``count`` inputs alone, and the rest.

    Returns:
        Two modules. The first takes those inputs, and returns tensors to keep. The second takes
        what the first returned, and then the further inputs.
    """
    nodes = [*module.graph.nodes]
    inputs = [node for node in nodes if node.op == "placeholder"]
    changes = any(_mutable(node) for node in nodes)
    later = {*inputs[count:]}
    for node in nodes:
        at_once = changes and node not in inputs
        if node.op == "output" or at_once or later.intersection(node.all_input_nodes):
            later.add(node)
    kept, shown = _kept(nodes, later)
    first, second = torch.fx.Graph(), torch.fx.Graph()
    copies: dict[Any, Any] = {}
    for node in nodes:
        if node not in later:
            copies[node] = first.node_copy(node, copies.__getitem__)
    first.output([copies[node] for node in kept])
    copies = {node: second.placeholder(f"kept_{n}") for n, node in enumerate(kept)}
    for node in nodes:
        if node in later or node in shown:
            copies[node] = second.node_copy(node, copies.__getitem__)
    modules = (torch.fx.GraphModule(module, graph) for graph in (first, second))
    return next(modules), next(modules)


def turned(module: Any, tensors: Sequence[Tensor]) -> Any:
    """Return a module with ``(B A)^T`` in place of every product ``A^T B^T``.

    On CPUs, libraries multiply small transposed matrices at a fraction of their speed.

    Args:
        module: the recorded operations.
        tensors: example inputs; A^T is transposed if its memory is.
    """
    graph, laid_out = module.graph, _Turned(module)
    laid_out.run(*tensors)
    for node in [*graph.nodes]:
        if _called(node) not in PRODUCTS or not laid_out.transposed.issuperset(node.args[:2]):
            continue
        with graph.inserting_before(node):
            right, left = (graph.call_function(torch.transpose, (x, -2, -1)) for x in node.args[:2])
            product = graph.call_function(node.target, (left, right))
            back = graph.call_function(torch.transpose, (product, -2, -1))
            back = graph.call_method("contiguous", (back,))  # a later view may need it
        node.replace_all_uses_with(back)
        graph.erase_node(node)
    module.recompile()
    return module


class _Turned(torch.fx.Interpreter):
    """Runs a module, and notes which of its values are transposed matrices, or batches of them."""

    def __init__(self, module: Any):
        super().__init__(module)
        self.transposed: set[Any] = set()

    def run_node(self, n: Any) -> Any:
        value = super().run_node(n)
        matrices = isinstance(value, Tensor) and value.ndim in (2, 3) and min(value.shape[-2:]) > 1
        if matrices and value.stride(-2) == 1 < value.stride(-1):
            self.transposed.add(n)
        return value


def _kept(nodes: list[Any], later: set[Any]) -> tuple[list[Any], set[Any]]:
    """Return the nodes to keep for the nodes that come later, and the views of them to repeat."""
    wanted = {each for node in later for each in node.all_input_nodes if each not in later}
    shown: set[Any] = set()
    for node in reversed(nodes):
        if node in wanted and _called(node) in LOOKS:
            shown.add(node)
            wanted.remove(node)
            wanted.update(node.all_input_nodes)
    return [node for node in nodes if node in wanted], shown


def _mutable(node: Any) -> bool:
    return isinstance(node.target, OpOverload) and node.target._schema.is_mutable


def _called(node: Any) -> str:
    """Return the name of the operation, also after :func:`slimmed`; empty for no operation."""
    if isinstance(node.target, OpOverload):
        return _name(node)
    if node.op == "call_method":
        return node.target
    return node.target.__name__ if node.op == "call_function" else ""
