"""Networks of the JAX programs, and their first weights, taken from ours.

JAX is the extra ``jax``. Only the modules ``jax_*`` of this folder import it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax  # pyright: ignore[reportMissingImports]
import jax.numpy as jnp  # pyright: ignore[reportMissingImports]
from torch import Tensor

from meta_rl.types import Params

jax.config.update("jax_platforms", "cpu")

Layers = list[tuple[Any, Any]]
"""Each layer's weight ``(in, out)`` and bias ``(out,)``, JAX's arrays."""


def perceptron(layers: Layers, x: Any, activation: Callable[[Any], Any]) -> Any:
    """Map inputs ``(*, in)`` to outputs ``(*, out)``."""
    *hidden, (weight, bias) = layers
    for own_weight, own_bias in hidden:
        x = activation(x @ own_weight + own_bias)
    return x @ weight + bias


def layers_of(theta: Params) -> Layers:
    """Return the layers of a perceptron of ours, in order."""
    names = [name.removesuffix("weight") for name in theta if name.endswith("weight")]
    return [(array(theta[f"{n}weight"].T), array(theta[f"{n}bias"])) for n in names]


def array(tensor: Tensor) -> Any:
    """Return a copy as JAX's array: it must not change when the tensor does."""
    return jnp.array(tensor.detach().numpy())
