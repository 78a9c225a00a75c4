"""Update directions of the inner rules: gradient, momentum, RMSprop, Adam.

They are pure functions, smooth everywhere. ``torch.optim`` adds eps outside the square root, where
the derivative of ``g / (sqrt(v) + eps)`` is NaN at ``v = 0``. Here eps is inside,
``g / sqrt(v + eps)``, with a slope of ``1 / sqrt(eps)`` = 1e4 at zero. For entries well above 1e-4
both forms agree to a relative ``eps / (2 v)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-8
"""Eps inside the square root of RMSprop and Adam."""

Moments = tuple[Tensor, ...]
"""One parameter tensor's moments, carried between inner steps; zeros before the first step."""


class Coefficient(NamedTuple):
    """A number b between 0 and 1 given by its logit, and 1 - b without cancellation."""

    logit: Tensor

    @property
    def value(self) -> Tensor:
        """The number b."""
        return torch.sigmoid(self.logit)

    @property
    def rest(self) -> Tensor:
        """The number 1 - b, above zero also if b rounds to 1."""
        return torch.sigmoid(-self.logit)

    def rest_of_power(self, exponent: int) -> Tensor:
        """Return 1 - b^exponent, Adam's bias correction."""
        return -torch.expm1(exponent * F.logsigmoid(self.logit))


Coefficients = dict[str, Coefficient]


class Optimizer(NamedTuple):
    """An update direction: ``phi <- phi - alpha * direction``."""

    direction: Callable[[Tensor, Moments, Coefficients, int], tuple[Tensor, Moments]]
    moments: int  # number of moments for each parameter tensor
    coefficients: dict[str, float]  # name to initial value
    first_step: float  # size of the first direction's entries for gradients of ones


def _sgd(gradient: Tensor, moments: Moments, c: Coefficients, k: int) -> tuple[Tensor, Moments]:
    return gradient, moments


def _momentum(
    gradient: Tensor, moments: Moments, c: Coefficients, k: int
) -> tuple[Tensor, Moments]:
    """Return m of ``m <- b m + g`` (heavy ball; Polyak 1964, in torch.optim's form)."""
    m = c["momentum"].value * moments[0] + gradient
    return m, (m,)


def _rmsprop(gradient: Tensor, moments: Moments, c: Coefficients, k: int) -> tuple[Tensor, Moments]:
    """Return ``g / sqrt(v + eps)`` with ``v <- b v + (1 - b) g^2`` (Hinton 2012)."""
    v = c["square_decay"].value * moments[0] + c["square_decay"].rest * gradient.square()
    return gradient * torch.rsqrt(v + EPSILON), (v,)


def _adam(gradient: Tensor, moments: Moments, c: Coefficients, k: int) -> tuple[Tensor, Moments]:
    """Return Adam's direction (Kingma & Ba 2015, algorithm 1), with eps inside the square root."""
    m = c["beta1"].value * moments[0] + c["beta1"].rest * gradient
    v = c["beta2"].value * moments[1] + c["beta2"].rest * gradient.square()
    m_hat = m / c["beta1"].rest_of_power(k + 1)
    v_hat = v / c["beta2"].rest_of_power(k + 1)
    return m_hat * torch.rsqrt(v_hat + EPSILON), (m, v)


OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer(_sgd, 0, {}, 1.0),
    "momentum": Optimizer(_momentum, 1, {"momentum": 0.9}, 1.0),
    # RMSprop has no bias correction: its first direction is sign(g) / sqrt(1 - b).
    "rmsprop": Optimizer(_rmsprop, 1, {"square_decay": 0.9}, 1 / math.sqrt(1 - 0.9)),
    "adam": Optimizer(_adam, 2, {"beta1": 0.9, "beta2": 0.999}, 1.0),
}
"""The optimizers, by their name in ``--inner.optimizer``."""

ADAPTIVE = ("rmsprop", "adam")
"""The optimizers whose direction does not scale with the gradient."""


def logit(value: float) -> float:
    """Return the inverse of the sigmoid."""
    return math.log(value) - math.log1p(-value)
