"""Policies: modules from observations to action distributions."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Generator, Tensor, nn

from meta_rl.config import NetworkConfig
from meta_rl.errors import InputError
from meta_rl.problems.observations import check_observation_space
from meta_rl.types import Policy

from .distributions import Categorical, DiagonalGaussian
from .factored import BernoulliPolicy, MultiCategoricalPolicy
from .networks import policy_network

MIN_LOG_STD = math.log(1e-6)


class GaussianPolicy(Policy):
    """A policy of continuous actions: a network for the mean, one log-std per dimension.

    The log-std does not depend on the observation. The policy acts in its own units; ``env_action``
    maps [-action_scale, action_scale] linearly onto the environment's box and clips. With a scale
    of 10 and a standard deviation of 1, the initial noise is a tenth of the box's half-width.
    ProMP, garage and pytorch-maml-rl normalize so; their inner step size of 0.1 relies on it.

    Args:
        observation_space: the observations' space, or their size O if they are numbers.
        action_space: a Box; several axes are flattened.
        network: sizes, activation and context of the network.
        generator: the generator that draws the initial weights.
        init_std: initial standard deviation, in policy units.
        action_scale: policy units that make half of the box's width.
    """

    low: Tensor
    high: Tensor
    centre: Tensor
    half_width: Tensor

    def __init__(
        self,
        observation_space: gym.Space | int,
        action_space: gym.spaces.Box,
        network: NetworkConfig,
        generator: Generator,
        *,
        init_std: float = 1.0,
        action_scale: float = 1.0,
    ):
        super().__init__()
        self.shape, size = action_space.shape, math.prod(action_space.shape)
        sizes = (observation_space, size)
        self.mean = policy_network(*sizes, network, generator)
        self.log_std = nn.Parameter(torch.full((size,), math.log(init_std)))
        self.action_scale = action_scale
        # An unbounded dimension has no half-width to scale to: its actions pass unscaled.
        bounded = np.isfinite(action_space.low) & np.isfinite(action_space.high)
        low = np.where(bounded, action_space.low, -action_scale)
        high = np.where(bounded, action_space.high, action_scale)
        for name, value in {
            "low": action_space.low,
            "high": action_space.high,
            "centre": (high + low) / 2,
            "half_width": (high - low) / 2,
        }.items():
            flat = torch.as_tensor(value, dtype=torch.float32).flatten()
            self.register_buffer(name, flat, False)

    def forward(self, obs: Tensor) -> DiagonalGaussian:
        """Map observations ``(*, O)`` to a distribution with leaves ``(*, A)``."""
        mean = self.mean(obs.flatten(0, -2)).unflatten(0, obs.shape[:-1])
        return DiagonalGaussian(mean, self.log_std.clamp(min=MIN_LOG_STD).expand_as(mean))

    def env_action(self, action: Tensor) -> Tensor:
        """Convert policy actions ``(*, A)`` to the environment's units and shape, in its box."""
        scaled = self.centre + self.half_width * (action / self.action_scale)
        return torch.clamp(scaled, self.low, self.high).reshape(*action.shape[:-1], *self.shape)


class CategoricalPolicy(Policy):
    """A policy of discrete actions: a network for the logits.

    Args:
        observation_space: the observations' space, or their size O if they are numbers.
        action_space: a Discrete space.
        network: sizes, activation and context of the network.
        generator: the generator that draws the initial weights.
    """

    def __init__(
        self,
        observation_space: gym.Space | int,
        action_space: gym.spaces.Discrete,
        network: NetworkConfig,
        generator: Generator,
    ):
        super().__init__()
        self.start = int(action_space.start)
        sizes = (observation_space, int(action_space.n))
        self.logits = policy_network(*sizes, network, generator)

    def forward(self, obs: Tensor) -> Categorical:
        """Map observations ``(*, O)`` to a distribution with logits ``(*, A)``."""
        return Categorical(self.logits(obs.flatten(0, -2)).unflatten(0, obs.shape[:-1]))

    def env_action(self, action: Tensor) -> Tensor:
        """Convert action numbers ``(*,)`` to the space's, which count from its start."""
        return action + self.start


def make_policy(
    observation_space: gym.Space,
    action_space: gym.Space,
    network: NetworkConfig,
    generator: Generator,
    *,
    init_std: float = 1.0,
    action_scale: float = 1.0,
) -> Policy:
    """Make the policy that fits the spaces.

    Observations enter it as :func:`meta_rl.problems.observations.flat` makes them.

    Raises:
        InputError: if no policy here handles the spaces.
    """
    check_observation_space(observation_space)
    for space, policy in BY_SPACE.items():
        if isinstance(action_space, space):
            return policy(observation_space, action_space, network, generator)
    if isinstance(action_space, gym.spaces.Box) and action_space.dtype.kind == "f":
        given = observation_space, action_space, network, generator
        return GaussianPolicy(*given, init_std=init_std, action_scale=action_scale)
    raise InputError(
        "action space: expected Discrete, MultiDiscrete, MultiBinary or a Box of floats, got "
        f"{action_space}. Wrap the environment: gymnasium.wrappers.TransformAction."
    )


BY_SPACE: dict[type[gym.Space], Any] = {
    gym.spaces.Discrete: CategoricalPolicy,
    gym.spaces.MultiDiscrete: MultiCategoricalPolicy,
    gym.spaces.MultiBinary: BernoulliPolicy,
}
"""The policy for each space of countable actions."""
