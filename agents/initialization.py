"""Initial weights of linear and convolution layers, drawn from a given generator."""

from __future__ import annotations

import math
from typing import Any

from torch import Generator, Tensor, nn

POLICY_GAIN = 0.01
"""stable-baselines3's gain of a policy's last layer: first actions hardly depend on the state."""


def draw_weight(
    weight: Tensor, scheme: str, generator: Generator, head_gain: float | None = None
) -> None:
    """Draw a weight ``(out, in, ...)`` in place.

    - ``xavier``: uniform, variance 2 / (in + out) (Glorot and Bengio 2010).
    - ``orthogonal``: orthonormal rows or columns times a gain (Saxe et al. 2014), the square root
      of 2 in hidden layers, as in stable-baselines3.
    - ``he``: uniform, variance 2 / in (He et al. 2015); 1 / in in a last layer.

    Args:
        weight: the weight to overwrite.
        scheme: ``xavier``, ``orthogonal`` or ``he``.
        generator: the generator to draw from.
        head_gain: gain of an orthogonal last layer; None in hidden layers.
    """
    if scheme == "xavier":
        nn.init.xavier_uniform_(weight, generator=generator)
    elif scheme == "orthogonal":
        gain = math.sqrt(2) if head_gain is None else head_gain
        nn.init.orthogonal_(weight, gain, generator=generator)
    else:
        follows = "relu" if head_gain is None else "linear"
        nn.init.kaiming_uniform_(weight, nonlinearity=follows, generator=generator)


def linear(
    inputs: int, outputs: int, scheme: str, generator: Generator, head_gain: float | None = None
) -> Any:
    """Return a linear layer with a drawn weight and a bias of zeros; see :func:`draw_weight`."""
    layer: Any = nn.utils.skip_init(nn.Linear, inputs, outputs)
    draw_weight(layer.weight, scheme, generator, head_gain)
    nn.init.zeros_(layer.bias)
    return layer
