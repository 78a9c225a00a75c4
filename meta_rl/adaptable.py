"""Which networks the core can adapt: any module whose output is a function of its parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parameter import is_lazy

from meta_rl.errors import InputError


def check_adaptable(network: nn.Module, inputs: Tensor | None = None) -> None:
    """Refuse a module that cannot be called with M sets of parameters side by side.

    Parameters that two layers share are fine: they adapt as one. Frozen ones
    (``requires_grad=False``) stay as they are, in the inner loop and in the outer.

    Args:
        network: called with parameters from outside, by ``torch.func.functional_call``.
        inputs: of one task, for a trial: the module is called and differentiated with them, for two
            tasks at once. Without them only what the module's type tells is checked.

    Raises:
        InputError: naming the layer, and what to do.
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
    if inputs is not None:
        _try(network, inputs)


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


def _try(network: nn.Module, inputs: Tensor) -> None:
    """Call and differentiate it for two tasks; its buffers are put back if it changed them."""
    learned = (item for item in network.named_parameters() if item[1].requires_grad)
    params = {name: value.detach() for name, value in learned}
    before = {name: value.clone() for name, value in network.named_buffers()}

    def total(params: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return functional_call(network, params, (inputs,)).sum()

    two = {name: torch.stack([value, value]) for name, value in params.items()}
    try:
        with torch.no_grad():
            functional_call(network, params, (inputs,))
        changed = [
            name for name, value in network.named_buffers() if not torch.equal(value, before[name])
        ]
        if not changed:
            torch.vmap(grad(total))(two, torch.stack([inputs, inputs]))
    except RuntimeError as error:
        raise _refused(
            "network",
            f"a module that runs and differentiates on inputs {tuple(inputs.shape)} under vmap",
            f"{type(error).__name__}: {str(error).splitlines()[0]}",
            "replace the layer, or see docs/gotchas.md",
        ) from error
    if changed:
        with torch.no_grad():
            for name, value in network.named_buffers():
                value.copy_(before[name])
        raise _refused(
            changed[0],
            "buffers that a call leaves as they are",
            "one that it changes",
            "leave that layer out, or call .eval() on it",
        )


def _refused(what: str, expected: str, got: str, do: str) -> InputError:
    return InputError(f"{what}: expected {expected}, got {got}. What to do: {do}.")
