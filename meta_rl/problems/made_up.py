"""Episodes of zeros, to check that a policy runs."""

from __future__ import annotations

import gymnasium as gym
import torch
from torch.func import functional_call

from meta_rl import seeds
from meta_rl.problems.observations import tensor_type
from meta_rl.types import Episodes, Params, Policy


def made_up_episodes(policy: Policy, params: Params, space: gym.Space) -> Episodes:
    """Return two episodes of two steps of each of two tasks, on which the policy acts.

    Args:
        policy: the policy's module.
        params: two tasks' parameters, tensors ``(2, ...)``.
        space: the observation space.
    """
    parameter = next(iter(params.values()))
    obs = parameter.new_zeros(
        2, 2, 2, gym.spaces.flatdim(space), dtype=tensor_type(space, parameter.dtype)
    )
    one = parameter.new_ones(2, 2, 2)
    act = torch.vmap(lambda phi, obs: functional_call(policy, phi, (obs,)))
    act(params, obs[:, :, 0])
    behaviour = act(params, obs)
    action = behaviour.sample(seeds.generator(0, parameter.device))
    log_prob = behaviour.log_prob(action)
    of_episodes = one[..., 0], one[..., 0]
    return Episodes(obs, action, one, one, log_prob, behaviour, one, *of_episodes)
