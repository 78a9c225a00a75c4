"""A recurrent policy with a value, for trials of several episodes."""

from __future__ import annotations

from dataclasses import replace

import gymnasium as gym
import numpy as np
import torch
from torch import Generator, Tensor

from meta_rl.config import NetworkConfig
from meta_rl.problems.memory import MemoryPolicy, Recalled
from meta_rl.problems.observations import (
    check_observation_space,
)

from .action_code import ActionCode
from .features import Features
from .initialization import linear
from .networks import policy_network
from .policies import make_policy
from .recurrent import RECURRENT


class RecurrentPolicy(MemoryPolicy):
    """Recurrent layers over a trial, with an actor and a critic on top.

    The input of a step is the observation (of images: features of convolutions), the previous
    action, the previous reward, and a flag that an episode has ended (Duan et al. 2016). A discrete
    action is a one-hot vector; a continuous one is in the policy's own units.

    The actor and the critic are linear in the recurrent layers' output. With ``network.head``
    ``observation`` or ``hypernetwork`` they see the observation too (Beck et al. 2023).

    Args:
        observation_space: the observations' space.
        action_space: the actions' space.
        network: kind (gru or lstm), units of each recurrent layer, heads, and initialization.
        generator: the generator that draws the initial weights.
        init_std: initial standard deviation of continuous actions, in policy units.
        action_scale: policy units that make half of an action box's width.
    """

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.Space,
        network: NetworkConfig,
        generator: Generator,
        *,
        init_std: float = 1.0,
        action_scale: float = 1.0,
    ):
        super().__init__()
        check_observation_space(observation_space)
        scheme, units = network.initialization, network.hidden[-1]
        self.features = Features(observation_space, scheme, generator)
        size = self.features.size
        self.sees = network.head != "linear"  # whether the heads see the observation
        hidden = network.head_hidden if self.sees else ()
        head = replace(network, kind=None, hidden=hidden)
        parts = [gym.spaces.Box(-np.inf, np.inf, (n,)) for n in (units, size)]
        below = gym.spaces.Tuple(parts) if self.sees else parts[0]
        self.code = ActionCode(action_space)
        previous = self.code.size + 2
        self.recurrent = RECURRENT[str(network.kind)](size + previous, network.hidden, generator)
        self.actor = make_policy(
            below,
            action_space,
            head,
            generator,
            init_std=init_std,
            action_scale=action_scale,
        )
        if self.sees:
            self.critic = policy_network(below, 1, head, generator, gain=1.0)
        else:
            self.critic = linear(units, 1, scheme, generator)
        self.state_size = sum(self.recurrent.state_sizes)
        self.register_buffer("start", torch.zeros(self.state_size + previous))

    def forward(self, obs: Tensor, previous: Tensor, state: Tensor) -> Recalled:
        """Return actions' distributions, values and the state; see :class:`MemoryPolicy`."""
        unit, seen = self.unit(), self.features(obs.to(previous.dtype))
        inputs = torch.cat([seen, self.scaled(previous)], -1)
        hidden, state = self.recurrent.run(inputs, state)
        below = torch.cat([hidden, seen], -1) if self.sees else hidden
        value = self.critic(below.flatten(0, 1)).view(below.shape[:2])
        return Recalled(self.actor(below), value * unit, state, unit)

    def encode(self, action: Tensor) -> Tensor:
        """Return actions as the policy sees them later; see :class:`MemoryPolicy`."""
        return self.code(action, self.start.dtype)

    def env_action(self, action: Tensor) -> Tensor:
        """Return the actions in the environment's units."""
        return self.actor.env_action(action)
