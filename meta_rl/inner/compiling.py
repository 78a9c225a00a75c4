"""Compile recorded tensor operations by torch's own compiler, Inductor.

Inductor fuses operations into C++ loops, and keeps what it built in a cache on disk. Only recorded
graphs are compiled, whose derivatives are operations like others: ``torch.compile`` of a loss drops
``create_graph`` (https://github.com/pytorch/pytorch/issues/181581).
"""

from __future__ import annotations

import copy
import os
import shutil
import signal
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from meta_rl.errors import InputError
from meta_rl.inner.graphs import turned

OPTIONS = {
    "cpp_wrapper": True,  # calls the loops from C++
    "fallback_random": True,  # torch's own random numbers
    "cpp.use_decompose_tanh": True,  # 2 sigmoid(2x) - 1, four times as fast
    "size_asserts": False,  # programs are chosen by shapes and strides
}
TOLERANCES = {torch.float32: (1e-3, 1e-5), torch.float64: (1e-9, 1e-12)}
"""Relative errors of a result that count as rounding: of its own size, and of the largest's."""


def compiles(device: torch.device) -> bool:
    """Return whether this machine has what compiling for a device takes; only the CPU is tried."""
    compiler = shutil.which(os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++"))
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return device.type == "cpu" and compiler is not None and headers.exists()


def compiled(module: Any, tensors: Sequence[Tensor]) -> Callable[..., list[Tensor]]:
    """Return a compiled ``torch.fx.GraphModule`` with flat inputs and outputs.

    Args:
        module: the recorded operations. Tensors that it holds are read at every call.
        tensors: example inputs, with the shapes and strides of all later inputs.

    Raises:
        InputError: if it cannot be compiled, such as without a C++ compiler.
    """
    from torch._inductor import standalone_compile

    module = torch.fx.GraphModule(module, copy.deepcopy(module.graph))
    held = _lifted(turned(module, tensors))
    inputs: list[Any] = [each.detach() for each in (*tensors, *held)]  # no object twice
    for node in module.graph.nodes:
        node.meta.clear()  # inputs may have none; then all get theirs from the examples
    try:
        with warnings.catch_warnings(), _uninterrupted():
            warnings.simplefilter("ignore")
            artifact = standalone_compile(
                module,
                inputs,
                dynamic_shapes="from_example_inputs",
                options={"config_patches": OPTIONS},
            )
    except (MemoryError, OSError):
        raise
    except Exception as error:
        raise _refusal(error) from error
    return artifact if not held else lambda *given: artifact(*given, *held)


def layout(leaf: Any) -> Any:
    """Return what a program depends on in an argument: a tensor's layout, or a constant itself."""
    if not isinstance(leaf, Tensor):
        return type(leaf), leaf  # with the type, as True == 1 == 1.0
    return leaf.shape, leaf.stride(), leaf.dtype, leaf.device


def same(left: Any, right: Any) -> bool:
    """Return whether two results have the same bits, but for NaNs and the signs of zeros."""
    return bool(_same_numbers(left, right).all()) if isinstance(left, Tensor) else left == right


def _same_numbers(left: Tensor, right: Tensor) -> Tensor:
    return (left == right) | ((left != left) & (right != right))


def agree(found: Sequence[Any], wanted: Sequence[Any]) -> bool:
    """Return whether results differ by rounding at most."""
    pairs = [(a, b) for a, b in zip(found, wanted, strict=True) if isinstance(b, Tensor)]
    numbers = [b for _, b in pairs if b.is_floating_point()]
    several = [b for b in numbers if b.ndim] or numbers  # a single one may be a count of steps
    largest = max((float(b.nan_to_num(0, 0, 0).norm()) for b in several), default=0.0)
    return all(_near(a, b, largest) for a, b in pairs)


def _near(found: Tensor, wanted: Tensor, largest: float) -> bool:
    if not wanted.is_floating_point():
        return bool((found != wanted).sum() <= 0.001 * wanted.numel())
    relative, absolute = TOLERANCES.get(wanted.dtype, (1e-2, 1e-3))
    both = torch.isfinite(found) & torch.isfinite(wanted)
    error = float(torch.where(both, found - wanted, 0).norm())
    size = float(torch.where(both, wanted, 0).norm())
    return (
        bool((both | _same_numbers(found, wanted)).all())
        and error <= relative * size + absolute * largest
    )


def _lifted(module: Any) -> list[Tensor]:
    """Turn the tensors that a module holds into further inputs, and return them."""
    graph = module.graph
    last = [node for node in graph.nodes if node.op == "placeholder"][-1]
    held = []
    for node in [node for node in graph.nodes if node.op == "get_attr"]:
        value = getattr(module, node.target)
        with graph.inserting_after(last):
            last = graph.placeholder(f"held_{len(held)}")
        node.replace_all_uses_with(last)
        graph.erase_node(node)
        held.append(value)
    module.recompile()
    return held


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait: it would end the compilers that torch starts, too."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _refusal(error: Exception) -> InputError:
    lines = [line for line in str(error).splitlines() if line.strip()] or [""]
    told = " ... ".join(dict.fromkeys(line.strip().rstrip(".") for line in (lines[0], lines[-1])))
    return InputError(
        f"speed.program: expected operations that torch can compile on this machine, got "
        f"{type(error).__name__}: {told}. What to do: install a C++ compiler (g++ or clang), or "
        "set --speed.program recorded."
    )
