"""Networks whose parameters the core adapts: plain modules, initialized from a given generator."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor, nn

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}


def mlp(
    inputs: int,
    hidden: Sequence[int],
    outputs: int,
    activation: str,
    generator: Generator,
    context: int = 0,
) -> nn.Sequential:
    """A multi-layer perceptron ``(N, inputs) -> (N, outputs)``.

    Weights are Xavier-uniform (Glorot and Bengio 2010), biases zero. No global generator is
    touched. With a context of a size above 0 it is a :class:`ContextNetwork`.
    """
    layers: list[nn.Module] = []
    sizes = [inputs + context, *hidden, outputs]
    for size_in, size_out in pairwise(sizes):
        layer: Any = nn.utils.skip_init(nn.Linear, size_in, size_out)
        nn.init.xavier_uniform_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
        layers += [layer, ACTIVATIONS[activation]()]
    return ContextNetwork(layers[:-1], context) if context else nn.Sequential(*layers[:-1])


class ContextNetwork(nn.Sequential):
    """Layers whose input is ``(x, context)``: the same context vector beside every row of x.

    The parameter ``context`` is zero; in CAVIA (Zintgraf et al. 2019) it is all that a
    task adapts, so that the weights stay shared by all tasks.

    Args:
        layers: the first of them takes the inputs and the context.
        context: size of the vector.
    """

    def __init__(self, layers: Sequence[nn.Module], context: int):
        super().__init__(*layers)
        self.context = nn.Parameter(torch.zeros(context))

    def forward(self, input: Tensor) -> Tensor:
        """``(N, inputs)`` to ``(N, outputs)``."""
        beside = self.context.expand(*input.shape[:-1], self.context.shape[0])
        return super().forward(torch.cat([input, beside], -1))
