"""Networks whose parameters the core adapts: plain modules, initialized from a given generator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor, nn

from meta_rl.config import NetworkConfig
from meta_rl.errors import InputError, require

from .convolution import convolutional
from .recurrent import RECURRENT, LastStep

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}


def make_network(
    input_shape: tuple[int, ...], outputs: int, config: NetworkConfig, generator: Generator
) -> nn.Sequential:
    """Make the network of these settings, ``(S, *input_shape) -> (S, outputs)``.

    Raises:
        InputError: if a convolutional network gets inputs that are not images, or images too small
            to be halved four times, or a recurrent one inputs that are not sequences.
    """
    if config.kind == "convolutional":
        if len(input_shape) != 3:
            raise InputError(
                "network.kind: convolutional needs images (C, H, W), got inputs "
                f"{input_shape}. Use --network.kind mlp."
            )
        channels, height, width = input_shape
        return convolutional(
            (channels, height, width), outputs, generator, channels=config.channels
        )
    if config.kind in RECURRENT:
        return recurrent(input_shape, outputs, config, generator)
    inputs = math.prod(input_shape)
    network = mlp(inputs, config.hidden, outputs, config.activation, generator, config.context)
    return network if len(input_shape) == 1 else nn.Sequential(nn.Flatten(), network)


def recurrent(
    input_shape: tuple[int, ...], outputs: int, config: NetworkConfig, generator: Generator
) -> nn.Sequential:
    """Make recurrent layers and a linear layer at the last step: ``(N, T, F)`` to ``(N, outputs)``.

    With a context size above 0, every step has the context beside it.

    Raises:
        InputError: if the inputs are not sequences, or there is no recurrent layer.
    """
    require(bool(config.hidden), "network.hidden", "one layer or more", config.hidden)
    if len(input_shape) != 2:
        raise InputError(
            f"network.kind: {config.kind} needs sequences (T, features), got inputs {input_shape}. "
            "Use --network.kind mlp."
        )
    layers = RECURRENT[config.kind](input_shape[1] + config.context, config.hidden, generator)
    head: Any = nn.utils.skip_init(nn.Linear, config.hidden[-1], outputs)
    nn.init.xavier_uniform_(head.weight, generator=generator)
    nn.init.zeros_(head.bias)
    parts = [layers, LastStep(), head]
    return ContextNetwork(parts, config.context) if config.context else nn.Sequential(*parts)


def mlp(
    inputs: int,
    hidden: Sequence[int],
    outputs: int,
    activation: str | None,
    generator: Generator,
    context: int = 0,
) -> nn.Sequential:
    """Make a multi-layer perceptron ``(N, inputs) -> (N, outputs)``.

    Weights start Xavier-uniform (Glorot and Bengio 2010), biases zero. No global generator is
    touched. With a context size above 0, the network is a :class:`ContextNetwork`.
    """
    layers: list[nn.Module] = []
    sizes = [inputs + context, *hidden, outputs]
    for size_in, size_out in pairwise(sizes):
        layer: Any = nn.utils.skip_init(nn.Linear, size_in, size_out)
        nn.init.xavier_uniform_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
        layers += [layer, ACTIVATIONS[activation or "tanh"]()]
    return ContextNetwork(layers[:-1], context) if context else nn.Sequential(*layers[:-1])


class ContextNetwork(nn.Sequential):
    """Layers whose input is ``(x, context)``: the same context vector beside every row of x.

    The parameter ``context`` starts at zero. In CAVIA (Zintgraf et al. 2019) a task adapts only
    the context, and all tasks share the weights.

    Args:
        layers: the layers; the first takes the inputs and the context.
        context: size of the context vector.
    """

    def __init__(self, layers: Sequence[nn.Module], context: int):
        super().__init__(*layers)
        self.context = nn.Parameter(torch.zeros(context))

    def forward(self, input: Tensor) -> Tensor:
        """Map ``(N, inputs)`` to ``(N, outputs)``; sequences ``(N, T, inputs)`` likewise."""
        beside = self.context.expand(*input.shape[:-1], self.context.shape[0])
        return super().forward(torch.cat([input, beside], -1))
