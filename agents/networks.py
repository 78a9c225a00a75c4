"""Networks whose parameters the core adapts: plain modules, initialized from a given generator."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Generator, nn

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}


def mlp(
    inputs: int, hidden: Sequence[int], outputs: int, activation: str, generator: Generator
) -> nn.Sequential:
    """A multi-layer perceptron ``(N, inputs) -> (N, outputs)``.

    Weights are Xavier-uniform (Glorot and Bengio 2010), biases zero. No global generator is
    touched.
    """
    layers: list[nn.Module] = []
    sizes = [inputs, *hidden, outputs]
    for size_in, size_out in pairwise(sizes):
        layer: Any = nn.utils.skip_init(nn.Linear, size_in, size_out)
        nn.init.xavier_uniform_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
        layers += [layer, ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])
