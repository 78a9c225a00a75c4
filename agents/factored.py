"""Actions in several parts: distributions and policies for MultiDiscrete and MultiBinary spaces.

The parts are independent given the observation, so log-probabilities, entropies and divergences
are sums over parts, and the Fisher matrix has one block a part.
"""

from __future__ import annotations

from typing import NamedTuple

import gymnasium as gym
import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from meta_rl.config import NetworkConfig
from meta_rl.types import Policy

from .distributions import Categorical, uniform_like
from .networks import policy_network

NEVER = -1e9
"""The logit of a choice that a part does not have: its probability is exactly 0, and 0 x log 0
stays 0, as it would not with minus infinity."""


class MultiCategorical(NamedTuple):
    """D independent parts, each one of up to N choices."""

    logits: Tensor  # (*, D, N), not normalized; NEVER where a part has fewer choices

    def sample(self, generator: Generator) -> Tensor:
        """Draw actions ``(*, D)`` int64."""
        return Categorical(self.logits).sample(generator)

    def mode(self) -> Tensor:
        """Return each part's likeliest choice, ``(*, D)`` int64."""
        return self.logits.argmax(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log-probability ``(*,)`` of actions ``(*, D)``."""
        return Categorical(self.logits).log_prob(action).sum(-1)

    def entropy(self) -> Tensor:
        """Return the entropy ``(*,)`` in nats."""
        return Categorical(self.logits).entropy().sum(-1)

    def kl(self, other: MultiCategorical) -> Tensor:
        """Return KL(self || other) ``(*,)`` in nats."""
        return Categorical(self.logits).kl(Categorical(other.logits)).sum(-1)

    def fisher(self, tangent: MultiCategorical) -> MultiCategorical:
        """Return the Fisher information in the logits times a tangent, part by part."""
        product = Categorical(self.logits).fisher(Categorical(tangent.logits))
        return MultiCategorical(product.logits)


class Bernoulli(NamedTuple):
    """D independent parts, each 0 or 1."""

    logits: Tensor  # (*, D), the log-odds of 1

    def sample(self, generator: Generator) -> Tensor:
        """Draw actions ``(*, D)`` int64."""
        return (uniform_like(self.logits, generator) < self.logits.sigmoid()).long()

    def mode(self) -> Tensor:
        """Return each part's likelier value, ``(*, D)`` int64."""
        return (self.logits > 0).long()

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log-probability ``(*,)`` of actions ``(*, D)``."""
        return (action * self.logits - F.softplus(self.logits)).sum(-1)

    def entropy(self) -> Tensor:
        """Return the entropy ``(*,)`` in nats."""
        return (F.softplus(self.logits) - self.logits.sigmoid() * self.logits).sum(-1)

    def kl(self, other: Bernoulli) -> Tensor:
        """Return KL(self || other) ``(*,)`` in nats."""
        gap = self.logits.sigmoid() * (self.logits - other.logits)
        return (gap - F.softplus(self.logits) + F.softplus(other.logits)).sum(-1)

    def fisher(self, tangent: Bernoulli) -> Bernoulli:
        """Return the Fisher information in the logits, diag(p (1 - p)), times a tangent."""
        return Bernoulli(self.logits.sigmoid() * (-self.logits).sigmoid() * tangent.logits)


class MultiCategoricalPolicy(Policy):
    """Actions in several discrete parts: a network for the logits of all.

    Args:
        observation_space: the observations' space, or their size O if they are numbers.
        action_space: a MultiDiscrete space; parts along several axes are counted in their order.
        network: sizes, activation and context.
        generator: for the initial weights.
    """

    start: Tensor
    column: Tensor

    def __init__(
        self,
        observation_space: gym.Space | int,
        action_space: gym.spaces.MultiDiscrete,
        network: NetworkConfig,
        generator: Generator,
    ):
        super().__init__()
        self.choices = [int(n) for n in action_space.nvec.flatten()]
        self.shape = action_space.nvec.shape
        sizes = observation_space, sum(self.choices)
        self.logits = policy_network(*sizes, network, generator)
        # The logits of all parts come in one row, as in stable-baselines3. Here is which entry of
        # that row, or of the NEVER behind it, each choice of each part has.
        column = np.full((len(self.choices), max(self.choices)), sum(self.choices))
        for part, (end, n) in enumerate(zip(np.cumsum(self.choices), self.choices, strict=True)):
            column[part, :n] = range(end - n, end)
        self.register_buffer("column", torch.as_tensor(column.flatten()), False)
        first = np.asarray(action_space.start).flatten()
        self.register_buffer("start", torch.as_tensor(first), False)

    def forward(self, obs: Tensor) -> MultiCategorical:
        """Map observations ``(*, O)`` to a distribution with logits ``(*, D, N)``."""
        row = self.logits(obs.flatten(0, -2)).unflatten(0, obs.shape[:-1])
        padded = F.pad(row, (0, 1), value=NEVER).index_select(-1, self.column)
        return MultiCategorical(padded.unflatten(-1, (len(self.choices), -1)))

    def env_action(self, action: Tensor) -> Tensor:
        """Return action numbers ``(*, D)`` as the space counts and shapes them."""
        return (action + self.start).reshape(*action.shape[:-1], *self.shape)


class BernoulliPolicy(Policy):
    """Binary actions in several parts: a network for the log-odds of each.

    Args:
        observation_space: the observations' space, or their size O if they are numbers.
        action_space: a MultiBinary space.
        network: sizes, activation and context.
        generator: for the initial weights.
    """

    def __init__(
        self,
        observation_space: gym.Space | int,
        action_space: gym.spaces.MultiBinary,
        network: NetworkConfig,
        generator: Generator,
    ):
        super().__init__()
        self.shape = action_space.shape
        sizes = observation_space, int(np.prod(self.shape))
        self.logits = policy_network(*sizes, network, generator)

    def forward(self, obs: Tensor) -> Bernoulli:
        """Map observations ``(*, O)`` to a distribution with logits ``(*, D)``."""
        return Bernoulli(self.logits(obs.flatten(0, -2)).unflatten(0, obs.shape[:-1]))

    def env_action(self, action: Tensor) -> Tensor:
        """Return zeros and ones ``(*, D)``, shaped as the space is."""
        return action.reshape(*action.shape[:-1], *self.shape)
