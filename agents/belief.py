"""VariBAD's policy: it acts by the observation and by a belief about the task."""

from __future__ import annotations

from collections.abc import Sequence

import gymnasium as gym
import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from meta_rl.config import NetworkConfig
from meta_rl.naming import part_of
from meta_rl.problems.belief import (
    ACTING,
    Inferred,
    InferringPolicy,
    at_steps,
    beside,
)
from meta_rl.problems.memory import Recalled, Trials
from meta_rl.problems.normalization import (
    CLIP,
    Normalization,
    normalized_entries,
)
from meta_rl.problems.observations import check_observation_space, has_images
from meta_rl.types import Params

from .action_code import ActionCode
from .belief_networks import ActorCritic, Decoder, Encoder


class BeliefPolicy(InferringPolicy):
    """Acts by the observation and by a belief about the task (Zintgraf et al. 2020, "VariBAD").

    The encoder's input of a step is the observation, the previous action, the previous reward, and
    a flag that an episode has ended. Observations and rewards are normalized by their running means
    and standard deviations, and kept within +-10 of them. The actor and the critic see the
    belief's mean and log-variance, through which no gradient goes back.

    Args:
        observation_space: the observations' space.
        action_space: the actions' space.
        network: kind (gru or lstm), units of each recurrent layer, and initialization of the rest.
            The actor and the critic have two layers as wide as the last recurrent one.
        generator: the generator that draws the initial weights.
        latents: Z, size of the latent task vector.
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
        latents: int = 5,
        init_std: float = 1.0,
        action_scale: float = 1.0,
    ):
        super().__init__()
        check_observation_space(observation_space)
        space, self.latents, self.code = observation_space, latents, ActionCode(action_space)
        numbers = normalized_entries(space).any()
        self.observed = Normalization(space) if numbers else nn.Identity()
        previous = self.code.size + 2
        given = {"init_std": init_std, "action_scale": action_scale}
        self.encoder = Encoder(space, previous, latents, network, generator)
        self.acting = ActorCritic(space, action_space, latents, network, generator, **given)
        self.decoder = Decoder(
            self.encoder.features.size,
            self.code.size,
            latents,
            has_images(space),
            network.initialization,
            generator,
        )
        self.state_size = sum(self.encoder.recurrent.state_sizes)
        self.register_buffer("start", torch.zeros(self.state_size + previous))

    def forward(self, obs: Tensor, previous: Tensor, state: Tensor) -> Recalled:
        """Return actions' distributions, values and the state; see :class:`MemoryPolicy`."""
        seen, unit = self.observed(obs), self.unit()
        _, belief, state = self.encoder(seen, self.scaled(previous), state)
        policy, value = self.acting(seen, beside(belief))
        return Recalled(policy, value * unit, state, unit)

    def infer(self, params: Params, trials: Trials) -> Inferred:
        """Return the beliefs of whole trials; see :class:`InferringPolicy`."""
        state = self.start[: self.state_size].expand(len(trials.mask), -1)
        given = self.observed(trials.obs), self.scaled(trials.previous), state
        return functional_call(self.encoder, part_of("encoder", params), given)

    def decide(self, params: Params, trials: Trials, state: Tensor | None = None) -> Recalled:
        """Return distributions and values for given beliefs; see :class:`InferringPolicy`."""
        given, unit = (self.observed(trials.obs), trials.previous), self.unit()
        policy, value = functional_call(self.acting, part_of(ACTING, params), given)
        return Recalled(policy, value * unit, trials.previous, unit)

    def errors(
        self, params: Params, seen: Tensor, trials: Trials, latent: Tensor, steps: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the errors of reconstructions; see :class:`InferringPolicy`."""
        goes_on = F.pad((1 - trials.previous[:, 1:, -1]) * trials.mask[:, 1:], (0, 1))
        after = F.pad(seen[:, 1:], (0, 0, 0, 1)) * goes_on.unsqueeze(-1)
        step = torch.cat([seen, self.encode(trials.action)], -1)
        following = torch.cat([after, goes_on.unsqueeze(-1)], -1)
        step, following = (at_steps(value, steps) for value in (step, following))
        given = latent, step, following
        reward, change = functional_call(self.decoder, part_of("decoder", params), given)
        paid = self.normalized(trials.reward).gather(1, steps)
        error = (reward - paid.unsqueeze(1)) ** 2
        if change is None:
            return error, torch.zeros_like(error)
        moved = following[..., :-1] - step[..., : seen.shape[-1]]
        missed = ((change - moved.unsqueeze(1)) ** 2).mean(-1)
        return error, missed * following[..., -1].unsqueeze(1)

    @torch.no_grad()
    def learn(self, held: Sequence[Trials], gamma: float) -> None:
        """Take trials into the statistics of returns, rewards and observations."""
        super().learn(held, gamma)
        if isinstance(self.observed, Normalization):
            self.observed.learn([[trials] for trials in held], gamma)

    def encode(self, action: Tensor) -> Tensor:
        """Return actions as the encoder sees them later; see :class:`MemoryPolicy`."""
        return self.code(action, self.start.dtype)

    def env_action(self, action: Tensor) -> Tensor:
        """Return the actions in the environment's units."""
        return self.acting.actor.env_action(action)

    def normalized(self, reward: Tensor) -> Tensor:
        """Return rewards as encoder and decoders have them, within the same bounds as others."""
        return super().normalized(reward).clamp(-CLIP, CLIP)
