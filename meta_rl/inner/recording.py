"""Record a function's tensor operations once, and replay or compile them.

A step of a small network costs mostly Python: ``vmap``, ``functional_call`` and autograd between
operations of a few microseconds each. For the same shapes they run the same list of operations
every time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from meta_rl.errors import InputError
from meta_rl.inner.compiling import agree, compiled, layout, same
from meta_rl.inner.cuda_graphs import Captured
from meta_rl.inner.graphs import slimmed, split

PROGRAMS = 16
"""Number of shapes recorded for one function; each program takes memory of its own."""

Usual = Callable[[tuple[Any, ...]], bool]
"""Returns whether arguments have the shapes that most calls have. Only these are compiled or
captured."""


def programmed(function: Callable, program: str, usual: Usual | None = None) -> Callable:
    """Return a pure function of tensors that runs as the setting ``speed.program`` says.

    Args:
        function: see :class:`Recorded`.
        program: ``plain``, ``recorded``, ``compiled`` or ``captured``.
        usual: the shapes to compile or capture; all when None.
    """
    return function if program == "plain" else Recorded(function, program, usual)


def prepared(
    function: Callable[..., Callable], program: str, usual: Usual | None = None
) -> Callable[..., Callable]:
    """Return a function that returns a function, both run as ``speed.program`` says.

    Args:
        function: see :meth:`Recorded.given`.
        program: ``plain``, ``recorded``, ``compiled`` or ``captured``.
        usual: the shapes to compile or capture; all when None.
    """
    made = programmed(function, program, usual)
    return made.given if isinstance(made, Recorded) else made


class Recorded:
    """Records a pure function of tensors once for every shape, and replays its operations.

    The same operations in the same order give the same bits; compiled, they differ by rounding.
    Derivatives inside the function are recorded; none can be taken through it. Of many shapes
    (episodes of varying length) the first 16 are recorded. For other shapes, and for unusual ones
    where operations are compiled, the function itself runs: bits never depend on earlier calls.

    The function's Python runs only while recording: it must depend on shapes and non-tensor
    arguments alone, and have no side effects. A value that Python reads from a tensor would be
    frozen. To detect that, every program is compared once with the function, on slightly other
    numbers (not on a GPU, where repeating a sum may change bits).

    Args:
        function: takes tensors in any nesting, and constants that can be hashed.
        program: ``recorded``; ``compiled``, see :mod:`meta_rl.inner.compiling`; or ``captured`` as
            CUDA graphs, see :mod:`meta_rl.inner.cuda_graphs`.
        usual: the shapes to compile or capture; all when None.
    """

    def __init__(self, function: Callable, program: str = "recorded", usual: Usual | None = None):
        self.function, self.kind, self.usual = function, program, usual
        self._programs: dict[Any, Program] = {}

    @torch.no_grad()
    def __call__(self, *arguments: Any) -> Any:
        """Return the function's result for these arguments.

        Raises:
            InputError: if the function's operations depend on a tensor's value, or do not compile.
        """
        program, tensors = self._program((), arguments)
        if program is not None:
            return program([], tensors)
        with torch.enable_grad():
            return tree_map(_detached, self.function(*arguments))

    def program(self, *arguments: Any) -> Program | None:
        """Return the program for arguments of these shapes; None if the function itself runs.

        Its ``rest`` takes the tensors among such arguments, one after another, and returns the
        tensors of the result. No call checks their shapes.
        """
        with torch.no_grad():
            program, _ = self._program((), arguments)
        return program

    def given(self, *fixed: Any) -> Callable:
        """Return ``function(*fixed)``, for a function that returns a function.

        What depends on ``fixed`` alone is computed once, when the returned function is first
        called. Its arguments must then keep their shapes.
        """
        kept: list[Any] = []

        @torch.no_grad()
        def further(*changing: Any) -> Any:
            program, tensors = self._program(fixed, changing)
            if program is not None:
                return program(kept, tensors)
            with torch.enable_grad():
                if not kept:
                    kept.append(self.function(*fixed))
                return tree_map(_detached, kept[0](*changing))

        return further

    def _program(self, fixed: tuple, changing: tuple) -> tuple[Program | None, list[Tensor]]:
        """Return the program for the arguments, if there is one, and the tensors in them."""
        leaves, structure = tree_flatten((fixed, changing))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        # A tensor given twice is one input to what records.
        places = {id(tensor): place for place, tensor in enumerate(tensors)}
        order = tuple([places[id(tensor)] for tensor in tensors])
        key = (structure, order, *map(layout, leaves))
        if key not in self._programs:
            further = self.kind != "recorded"
            skipped = further and self.usual and not self.usual((*fixed, *changing))
            if skipped or len(self._programs) == PROGRAMS:
                return None, tensors
            flat = _Flat(self.function, bool(fixed), leaves, structure)
            once = sum(isinstance(leaf, Tensor) for leaf in tree_flatten(fixed)[0])
            self._programs[key] = Program(flat, tensors, once, self.kind)
        return self._programs[key], tensors


class _Flat:
    """A function of the tensors in the arguments, which returns the leaves of its result."""

    def __init__(self, function: Callable, curried: bool, leaves: list[Any], structure: Any):
        self.function, self.curried = function, curried
        self.leaves, self.structure = leaves, structure
        self.result: Any = None  # the structure of what the function returns

    def __call__(self, *given: Tensor) -> list[Any]:
        remaining = iter(given)
        filled = [next(remaining) if isinstance(leaf, Tensor) else leaf for leaf in self.leaves]
        fixed, changing = tree_unflatten(filled, self.structure)
        with torch.enable_grad():
            function = self.function(*fixed) if self.curried else self.function
            found, self.result = tree_flatten(function(*changing))
        return found


class Program:
    """The operations of a function on tensors of certain shapes.

    Args:
        flat: the function.
        tensors: its arguments.
        once: the number of first tensors whose own operations run once.
        kind: ``recorded``, ``compiled`` or ``captured``.
    """

    def __init__(self, flat: _Flat, tensors: list[Tensor], once: int, kind: str):
        # Takes half a second or more to import, and most runs do not need it.
        from torch.fx.experimental.proxy_tensor import make_fx

        self._once = once
        others = [_perturbed(tensor) for tensor in tensors]
        with _refusing():
            module = slimmed(make_fx(flat)(*tensors))
            self._result = flat.result
            self._parts = split(module, once) if once else (None, module)
            on_cpu = all(tensor.device.type == "cpu" for tensor in tensors)
            if on_cpu and not all(map(same, self._found([], others), flat(*others))):
                raise _depends()
        if kind == "compiled":
            self._compile(others)
        elif kind == "captured":
            first, rest = self._parts
            self._parts = first and Captured(first), Captured(rest)

    def __call__(self, kept: list[Any], tensors: list[Tensor]) -> Any:
        """Return the function's result; ``kept`` holds what was computed once, or nothing yet."""
        return self.shaped(self._found(kept, tensors))

    def shaped(self, found: Sequence[Tensor]) -> Any:
        """Return the function's result from the tensors that the operations returned."""
        return tree_unflatten(found, self._result)

    @property
    def rest(self) -> Callable[..., Sequence[Tensor]]:
        """The operations, or what is left of them after those that run once."""
        return self._parts[1]

    def _found(self, kept: list[Any], tensors: list[Tensor]) -> Sequence[Any]:
        first, rest = self._parts
        if first is None:
            return rest(*tensors)
        if not kept:
            kept.extend(first(*tensors[: self._once]))
        return rest(*kept, *tensors[self._once :])

    def _compile(self, tensors: list[Tensor]) -> None:
        """Compile the operations, and keep them recorded if that changes more than rounding."""
        recorded, kept, once = self._parts, [], self._once
        wanted = self._found(kept, tensors)
        first = recorded[0] and compiled(recorded[0], tensors[:once])
        self._parts = first, compiled(recorded[1], [*kept, *tensors[once:]])
        if not agree(self._found([], tensors), wanted):
            self._parts = recorded
            warnings.warn(
                "speed.program: compiled operations differ from plain ones by more than rounding, "
                "and stay recorded.",
                stacklevel=2,
            )


@contextmanager
def _refusing() -> Iterator[None]:
    """Raise an InputError for operations that cannot be recorded."""
    try:
        yield
    except RuntimeError as error:
        if "value out of a tracing tensor" in str(error):
            raise _depends() from error
        if "memory" in str(error):
            raise
        raise InputError(
            "speed.program: expected a network whose operations can be recorded, got "
            f"{type(error).__name__}: {str(error).splitlines()[0]}. What to do: give "
            "--speed.program plain, or replace the layer."
        ) from error


def _depends() -> InputError:
    return InputError(
        "speed.program: expected a network and a loss that depend on shapes alone, got Python that "
        "reads a tensor's value (if, float, tolist or numpy). Give --speed.program plain."
    )


def _detached(leaf: Any) -> Any:
    return leaf.detach() if isinstance(leaf, Tensor) else leaf


def _perturbed(tensor: Tensor) -> Tensor:
    """Return slightly other numbers, with the tensor's memory layout."""
    if not tensor.is_floating_point() or not tensor.numel():
        return tensor
    shape, stride = tensor.shape, tensor.stride()
    extent = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    return (1.001 * tensor.as_strided((extent,), (1,)) + 0.001).as_strided(shape, stride)
