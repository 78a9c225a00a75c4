"""How an inner step's size depends on the step, and in the learned schedule on what it meets."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from meta_rl import seeds
from meta_rl.config import InnerConfig
from meta_rl.types import Params

HIDDEN = 16
FEATURES = 4
EPSILON = 1e-8


def factor(config: InnerConfig, k: int) -> float:
    """What step k (from 0) multiplies the step size by, where that is known beforehand.

    1 (constant, and learned before its network is asked), ``1 / sqrt(k + 1)`` or ``decay ** k``.
    """
    match config.schedule:
        case "inverse-sqrt":
            return 1 / math.sqrt(k + 1)
        case "exponential":
            return config.decay**k
        case _:
            return 1.0


def init_network(like: Tensor, seed: int) -> Params:
    """The learned schedule's weights: two layers, the last one zero, so that it starts constant."""
    generator = seeds.generator(seed)
    weight = torch.randn(HIDDEN, FEATURES, generator=generator) / math.sqrt(FEATURES)
    return {
        "schedule.0.weight": weight.to(like),
        "schedule.0.bias": like.new_zeros(HIDDEN),
        "schedule.1.weight": like.new_zeros(2, HIDDEN),
        "schedule.1.bias": like.new_zeros(2),
    }


def learned(
    weights: Params, k: int, steps: int, loss: Tensor, values: Params, gradient: Params
) -> dict[str, tuple[Tensor, Tensor]]:
    """A multiplier of the step size and a decay of the value, for each tensor that adapts.

        phi <- (1 - decay) phi - multiplier * alpha * direction

    as in ALFA (Baik et al. 2020, "Meta-Learning with Adaptive Hyperparameters"). One small network
    serves all tensors. It sees, for each, the step k / K, arcsinh of the loss (a signed logarithm,
    smooth at zero), and the logarithms of the mean squares of its gradient and of its value, plus
    an eps so that zero tensors are finite. ALFA's features are the means of gradients and weights;
    squares do not cancel. A policy-gradient loss with normalized advantages is near zero on fresh
    episodes whatever the policy, so in reinforcement learning the other three do the work. The
    multiplier is the exponential of the network's first output, the decay its second.

    Args:
        weights: those :func:`init_network` gave.
        k: counted from 0.
        steps: K, in units of which k is seen.
        loss: whose gradient it is.
        values: parameters, those in ``gradient`` among them.
        gradient: of the tensors that adapt.
    """
    # Steps beyond the trained ones are taken as the last: the network has seen no later one.
    when = torch.full_like(loss, min(k, steps - 1) / steps)
    features = torch.stack(
        [
            torch.stack([when, torch.asinh(loss), _log_size(g), _log_size(values[name])])
            for name, g in gradient.items()
        ]
    )  # (tensors, 4)
    hidden = torch.tanh(features @ weights["schedule.0.weight"].mT + weights["schedule.0.bias"])
    outputs = hidden @ weights["schedule.1.weight"].mT + weights["schedule.1.bias"]
    multiplier, decay = torch.exp(outputs[:, 0]), outputs[:, 1]
    return {name: (multiplier[i], decay[i]) for i, name in enumerate(gradient)}


def _log_size(value: Tensor) -> Tensor:
    """A tenth of the log of the mean square: between -1.8 (zero) and about 1."""
    return 0.1 * torch.log(value.square().mean() + EPSILON)
