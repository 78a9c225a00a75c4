"""Schedules of the inner step size: fixed, or learned from the loss and the gradient."""

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
    """Return the fixed factor of the step size in inner step k (from 0).

    It is ``1 / sqrt(k + 1)``, ``decay ** k``, or 1 (constant and learned schedules).
    """
    match config.schedule:
        case "inverse-sqrt":
            return 1 / math.sqrt(k + 1)
        case "exponential":
            return config.decay**k
        case _:
            return 1.0


def init_network(like: Tensor, seed: int) -> Params:
    """Return the learned schedule's weights: two layers, the last zero, so it starts constant."""
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
    """Return a multiplier of the step size and a decay of the value for each tensor that adapts.

        phi <- (1 - decay) phi - multiplier * alpha * direction

    as in ALFA (Baik et al. 2020, "Meta-Learning with Adaptive Hyperparameters"). One small network
    serves all tensors. Its features for a tensor are the step k / K, arcsinh of the loss (a signed
    logarithm, smooth at zero), and the logarithms of the mean squares of the gradient and of the
    value, plus an eps so that zero tensors are finite. ALFA uses the means of gradients and
    weights; unlike means, squares do not cancel. In reinforcement learning the loss is near zero on
    fresh episodes of any policy (advantages are normalized), so the other three features matter.
    The multiplier is the exponential of the network's first output, the decay its second output.

    Args:
        weights: the network's weights, from :func:`init_network`.
        k: index of the inner step, from 0.
        steps: K inner steps.
        loss: the inner loss; a scalar.
        values: the parameters, including those in ``gradient``.
        gradient: gradient in the tensors that adapt.
    """
    # The network was trained on K steps: it sees later ones as the last.
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
    """Return a tenth of the log of the mean square: between -1.8 (zero) and about 1."""
    return 0.1 * torch.log(value.square().mean() + EPSILON)
