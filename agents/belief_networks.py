"""The networks of VariBAD's policy: encoder, actor and critic, and decoders."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Generator, Tensor, nn

from meta_rl.config import NetworkConfig
from meta_rl.problems.belief import Belief, Inferred

from .features import Features
from .initialization import linear
from .networks import mlp
from .policies import make_policy
from .recurrent import RECURRENT

DECODER_HIDDEN = (64, 32)
LOG_VARIANCES = -10.0, 10.0
"""Bounds of a belief's log-variances, which keep the divergence of two beliefs finite."""


class Encoder(nn.Module):
    """Recurrent layers over a trial, and a linear layer for the belief's mean and log-variance."""

    def __init__(
        self,
        space: gym.Space,
        previous: int,
        latents: int,
        network: NetworkConfig,
        generator: Generator,
    ):
        super().__init__()
        scheme = network.initialization
        self.features = Features(space, scheme, generator)
        layers = RECURRENT[str(network.kind)]
        self.recurrent = layers(self.features.size + previous, network.hidden, generator)
        self.belief = linear(network.hidden[-1], 2 * latents, scheme, generator, head_gain=1.0)

    def forward(self, obs: Tensor, previous: Tensor, state: Tensor) -> Inferred:
        """Return the features of the observations, the beliefs, and the state."""
        seen = self.features(obs)
        hidden, state = self.recurrent.run(torch.cat([seen, previous], -1), state)
        mean, log_variance = self.belief(hidden).chunk(2, -1)
        return Inferred(seen, Belief(mean, log_variance.clamp(*LOG_VARIANCES)), state)


class ActorCritic(nn.Module):
    """Perceptrons of two layers for actions and for values, on an observation beside a belief."""

    def __init__(
        self,
        space: gym.Space,
        action_space: gym.Space,
        latents: int,
        network: NetworkConfig,
        generator: Generator,
        **given: float,
    ):
        super().__init__()
        scheme, units = network.initialization, network.hidden[-1]
        self.features = Features(space, scheme, generator)
        size, hidden = self.features.size + 2 * latents, (units, units)
        inputs = gym.spaces.Box(-np.inf, np.inf, (size,))
        layers = replace(network, kind=None, hidden=hidden, activation=None)
        self.actor = make_policy(inputs, action_space, layers, generator, **given)
        self.critic = mlp(size, hidden, 1, None, generator, initialization=scheme)

    def forward(self, obs: Tensor, belief: Tensor) -> tuple[Any, Tensor]:
        """Return actions' distributions and values, in the critic's units."""
        inputs = torch.cat([self.features(obs), belief], -1)
        return self.actor(inputs), self.critic(inputs).squeeze(-1)


class Decoder(nn.Module):
    """Perceptrons for a step's reward, and for the change to the next observation.

    The reward's sees the latent task vector, the features of the step's observation and of the
    next, and the action; the other the same without the next. Of images only rewards are decoded.
    """

    def __init__(
        self, size: int, actions: int, latents: int, images: bool, scheme: str, generator: Generator
    ):
        super().__init__()
        step, given = latents + size + actions, ("relu", generator)
        self.reward = mlp(step + size + 1, DECODER_HIDDEN, 1, *given, initialization=scheme)
        self.change = None
        if not images:
            self.change = mlp(step, DECODER_HIDDEN, size, *given, initialization=scheme)

    def forward(
        self, latent: Tensor, step: Tensor, following: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Return rewards ``(N, E, D)`` and changes ``(N, E, D, F)``, or None.

        Args:
            latent: ``(N, E, Z)``.
            step: observations' features and actions, ``(N, D, F + A)``.
            following: the next observations' features, and 1 if there is one, ``(N, D, F + 1)``.
        """
        beliefs, steps = latent.shape[1], step.shape[1]
        latent = latent.unsqueeze(2).expand(-1, -1, steps, -1)
        step, following = (v.unsqueeze(1).expand(-1, beliefs, -1, -1) for v in (step, following))
        inputs = torch.cat([latent, step], -1)
        reward = self.reward(torch.cat([inputs, following], -1)).squeeze(-1)
        return reward, None if self.change is None else self.change(inputs)
