"""Networks whose parameters the core adapts: plain modules, initialized from a given generator."""

from __future__ import annotations

import math
from collections.abc import Sequence

import gymnasium as gym
import torch
from torch import Generator, Tensor, nn

from meta_rl.config import NetworkConfig
from meta_rl.errors import InputError, require
from meta_rl.problems.observations import has_images, observation_size

from .convolution import convolutional
from .hypernetwork import Hypernetwork
from .initialization import POLICY_GAIN, linear
from .own_modules import module_network
from .pixels import JoinedFeatures
from .recurrent import RECURRENT, LastStep

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky-relu": nn.LeakyReLU,
}
"""Activations by their names in ``--network.activation``."""


def make_network(
    input_shape: tuple[int, ...], outputs: int, config: NetworkConfig, generator: Generator
) -> nn.Module:
    """Make the network of these settings, ``(S, *input_shape) -> (S, outputs)``.

    Raises:
        InputError: if a convolutional network gets inputs that are not images, or images too small
            to be halved four times, or a recurrent one inputs that are not sequences, or a module
            of one's own does not work.
    """
    if config.module is not None:
        return module_network(
            input_shape,
            config.module,
            lambda features: perceptron(features, outputs, config, generator),
            generator,
        )
    if config.kind == "convolutional":
        if len(input_shape) != 3:
            raise InputError(
                "network.kind: convolutional needs images (C, H, W), got inputs "
                f"{input_shape}. Use --network.kind mlp."
            )
        channels, height, width = input_shape
        return convolutional(
            (channels, height, width),
            outputs,
            generator,
            channels=config.channels,
            initialization=config.initialization,
        )
    if config.kind in RECURRENT:
        return recurrent(input_shape, outputs, config, generator)
    network = perceptron(math.prod(input_shape), outputs, config, generator)
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
    layers = RECURRENT[str(config.kind)](input_shape[1] + config.context, config.hidden, generator)
    head = linear(config.hidden[-1], outputs, config.initialization, generator, head_gain=1.0)
    parts = [layers, LastStep(), head]
    return ContextNetwork(parts, config.context) if config.context else nn.Sequential(*parts)


def mlp(
    inputs: int,
    hidden: Sequence[int],
    outputs: int,
    activation: str | None,
    generator: Generator,
    context: int = 0,
    *,
    initialization: str = "xavier",
    head_gain: float = 1.0,
) -> nn.Sequential:
    """Make a multi-layer perceptron ``(N, inputs) -> (N, outputs)``.

    Biases start at zero, weights as :func:`~agents.initialization.draw_weight` draws them. No
    global generator is touched. With a context size above 0, the network is a
    :class:`ContextNetwork`.

    Args:
        inputs: size of one input.
        hidden: units of each hidden layer.
        outputs: size of one output.
        activation: a name in :data:`ACTIVATIONS`; tanh when None.
        generator: the generator that draws the initial weights.
        context: size of the context vector; 0 for none.
        initialization: ``xavier``, ``orthogonal`` or ``he``.
        head_gain: gain of the last layer if it is orthogonal.
    """
    layers: list[nn.Module] = []
    size = inputs + context
    for units in hidden:
        layers += [linear(size, units, initialization, generator)]
        layers += [ACTIVATIONS[activation or "tanh"]()]
        size = units
    layers.append(linear(size, outputs, initialization, generator, head_gain))
    return ContextNetwork(layers, context) if context else nn.Sequential(*layers)


def policy_network(
    observation_space: gym.Space | int,
    outputs: int,
    config: NetworkConfig,
    generator: Generator,
    *,
    gain: float = POLICY_GAIN,
) -> nn.Module:
    """Make the network of a policy, chosen by the space: flat observations ``(N, O)`` to outputs.

    Numbers enter a perceptron. Images enter convolutions, joined with the observation's other
    parts if there are any, and a perceptron on top (:class:`~agents.pixels.JoinedFeatures`). With
    ``config.kind`` ``mlp``, images enter a perceptron too, divided by 255. A module of one's own
    takes the place of what is below the perceptron. With ``config.head`` ``hypernetwork``, the
    space is a Tuple: the first part generates the perceptron of the second
    (:class:`~agents.hypernetwork.Hypernetwork`).

    Args:
        observation_space: the space; or the size O of observations of numbers.
        outputs: size of one output.
        config: sizes, activation and initialization.
        generator: the generator that draws the initial weights.
        gain: gain of the last layer if it is orthogonal.

    Raises:
        InputError: if ``config.kind`` is convolutional and there are no images, or a module of
            one's own does not work.
    """

    def layers(inputs: int) -> nn.Sequential:
        return perceptron(inputs, outputs, config, generator, gain)

    if isinstance(observation_space, int):
        return layers(observation_space)
    if config.head == "hypernetwork" and isinstance(observation_space, gym.spaces.Tuple):
        units, rest = (observation_size(part) for part in observation_space)
        return Hypernetwork(units, layers(rest))
    if config.module is not None:
        return module_network(observation_space, config.module, layers, generator)
    size, images = observation_size(observation_space), has_images(observation_space)
    convolves = images if config.kind is None else config.kind == "convolutional"
    if convolves and not images:
        raise InputError(
            "network.kind: convolutional needs images (boxes of bytes from 0 to 255 with three or "
            f"four axes), got {observation_space}. Leave --network.kind out."
        )
    if not images:
        return layers(size)
    features = JoinedFeatures(observation_space, convolves, config.initialization, generator)
    return nn.Sequential(features, layers(features.size))


def perceptron(
    inputs: int,
    outputs: int,
    config: NetworkConfig,
    generator: Generator,
    head_gain: float = 1.0,
) -> nn.Sequential:
    """Make the perceptron of these settings; see :func:`mlp`."""
    return mlp(
        inputs,
        config.hidden,
        outputs,
        config.activation,
        generator,
        config.context,
        initialization=config.initialization,
        head_gain=head_gain,
    )


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
