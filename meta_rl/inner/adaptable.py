"""Checks that a network can be adapted: its output must be a function of its parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parameter import is_lazy

from meta_rl.errors import InputError, lacks_memory
from meta_rl.inner.core import InnerLoop
from meta_rl.inner.memory import Loop
from meta_rl.problem import Problem
from meta_rl.tasks import over_tasks
from meta_rl.types import MetaParameters

LOOP = "tasks_at_once=1 (--speed.tasks-at-once 1)"
REPLACE = "replace the layer by one of plain tensor operations, or see docs/gotchas.md"


def check_adaptable(
    network: nn.Module, inputs: Tensor | None = None, *, tasks_at_once: int | None = None
) -> None:
    """Refuse a module that cannot be called with M sets of parameters at once.

    Parameters that two layers share adapt as one. Frozen parameters (``requires_grad=False``) stay
    as they are, in the inner loop and in the outer loop.

    Args:
        network: the module; it is called by ``torch.func.functional_call``.
        inputs: one task's inputs. The module is called and differentiated on them, for two tasks at
            once. When None, only the layers' types and settings are checked.
        tasks_at_once: as in :func:`meta_rl.tasks.over_tasks`.

    Raises:
        InputError: names the layer, and what to do.
    """
    if isinstance(network, torch.jit.ScriptModule):
        raise _refused(
            "network", "a module that is not compiled", "a ScriptModule", "pass its source"
        )
    for name, value in (*network.named_parameters(), *network.named_buffers()):
        if is_lazy(value):
            raise _refused(
                name, "a tensor of known shape", "a lazy one", "call the network once on a batch"
            )
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise _refused("network", "parameters to adapt", "none", "give it a layer that learns")
    for name, module in network.named_modules():
        _check_layer(name or "network", module)
    _check_places(network)
    if inputs is not None:
        _try(network, inputs, tasks_at_once)


def check_runs(
    problem: Problem,
    inner: Loop,
    meta: MetaParameters,
    differentiates: bool,
) -> None:
    """Refuse a network that fails in an iteration on a made-up batch.

    The policies of two tasks act (or the networks are scored), adapt by one inner step, and give
    the meta-gradient.

    Args:
        problem: the network's problem.
        inner: the inner loop, with its ``tasks_at_once`` and ``first_order``.
        meta: the meta-parameters to adapt from.
        differentiates: whether the outer step differentiates through the inner loop.

    Raises:
        InputError: names the first error, and settings that the network runs with, if any.
    """

    def run(inner: Loop) -> None:
        with torch.no_grad():  # as when data are collected; some layers then compute differently
            batch = problem.made_up_batch(inner.adapt(meta, [], 2))
            if isinstance(inner, InnerLoop):
                problem.made_up_batch(inner.adapt(meta, [batch], 2))
        if isinstance(inner, InnerLoop) and differentiates:
            with torch.enable_grad():
                inner.gradient_part(meta, [batch, batch], 2)

    try:
        run(inner)
    except InputError:
        raise
    except Exception as error:  # a user's module may raise anything
        if lacks_memory(error):  # not the network's fault
            raise
        raise _refused(
            "network",
            "a module that runs and differentiates for two tasks with these settings",
            _first_line(error),
            _remedy(inner, run),
        ) from error


def _remedy(inner: Loop, run: Callable[[Any], None]) -> str:
    """Return the first other settings that the network runs with, else general advice."""
    if not isinstance(inner, InnerLoop):
        return REPLACE
    for told, other in (
        (LOOP, replace(inner, tasks_at_once=1)),
        ("first_order=True (--inner.first-order)", replace(inner, first_order=True)),
        (f"first_order=True and {LOOP}", replace(inner, first_order=True, tasks_at_once=1)),
    ):
        if _works(lambda other=other: run(other)):
            return f"set {told}, with which it runs"
    return REPLACE


def _works(trial: Callable[[], None]) -> bool:
    try:
        trial()
    except Exception:  # a user's module may raise anything; the first error is reported already
        return False
    return True


def _check_layer(name: str, layer: nn.Module) -> None:
    if not layer.training:
        return
    kind = type(layer).__name__
    if isinstance(layer, _NormBase) and layer.track_running_stats:
        raise _refused(
            name,
            "normalization by the current batch alone",
            f"{kind} with running statistics, which all tasks would overwrite",
            f"{kind}(..., track_running_stats=False), or .eval() to keep the statistics it has",
        )
    rate = getattr(layer, "p" if isinstance(layer, _DropoutNd) else "dropout", 0.0)
    random = isinstance(rate, float) and rate > 0.0
    if random or isinstance(layer, nn.RReLU | nn.FractionalMaxPool2d | nn.FractionalMaxPool3d):
        raise _refused(
            name,
            "an output that its parameters and inputs determine",
            f"{kind} in training mode, which draws from a global generator",
            "leave the layer out, or call .eval() on it",
        )


def _check_places(network: nn.Module) -> None:
    """Refuse a layer at two places: torch's functional_call leaves its parameters replaced."""
    first: dict[nn.Module, str] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        if module in first and any(True for _ in module.parameters()):
            raise _refused(
                name,
                "a layer of its own",
                f"the {type(module).__name__} at {first[module]} again",
                "make a second layer, and give it the first one's parameters: "
                "second.weight = first.weight",
            )
        first.setdefault(module, name)


def _try(network: nn.Module, inputs: Tensor, tasks_at_once: int | None) -> None:
    """Call and differentiate the network for two tasks; restore the buffers that a call changes."""
    learned = (item for item in network.named_parameters() if item[1].requires_grad)
    params = {name: value.detach() for name, value in learned}
    before = {name: value.clone() for name, value in network.named_buffers()}
    pair = torch.stack([inputs, inputs])
    two = {name: torch.stack([value, value]) for name, value in params.items()}

    def output(params: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return functional_call(network, params, (inputs,)).sum()

    def run(tasks_at_once: int | None) -> None:
        with torch.no_grad():  # as in adaptation; some layers then compute differently
            over_tasks(output, (0, 0), tasks_at_once)(two, pair)
            over_tasks(grad(output), (0, 0), tasks_at_once)(two, pair)

    try:
        with torch.no_grad():
            functional_call(network, params, (inputs,))
        changed = [
            name for name, value in network.named_buffers() if not torch.equal(value, before[name])
        ]
        if not changed:
            run(tasks_at_once)
    except InputError:
        raise
    except Exception as error:  # a user's module may raise anything
        if lacks_memory(error):  # not the network's fault
            raise
        vmap = "" if tasks_at_once == 1 else " under vmap"
        looped = tasks_at_once != 1 and _works(lambda: run(1))
        raise _refused(
            "network",
            f"a module that runs and differentiates on inputs {tuple(inputs.shape)}{vmap}",
            _first_line(error),
            (f"set {LOOP}, with which it runs" if looped else REPLACE) + _instead(network),
        ) from error
    if changed:
        with torch.no_grad():
            for name, value in network.named_buffers():
                value.copy_(before[name])
        raise _refused(
            changed[0],
            "buffers that a call does not change",
            "one that it changes",
            "leave that layer out, or call .eval() on it",
        )


def _instead(network: nn.Module) -> str:
    """Return what to take in place of torch's recurrent modules, if the network has one."""
    if not any(isinstance(layer, nn.RNNBase) for layer in network.modules()):
        return ""
    return ", or take meta_rl.agents.GRU or LSTM, to which a state_dict of torch's fits"


def _first_line(error: Exception) -> str:
    """Return an error's type and the first line of its message."""
    try:
        said = str(error).splitlines()[:1]
    except Exception:  # another library's error may fail to print
        said = []
    return ": ".join([type(error).__name__, *said])


def _refused(what: str, expected: str, got: str, do: str) -> InputError:
    return InputError(f"{what}: expected {expected}, got {got}. What to do: {do}.")
