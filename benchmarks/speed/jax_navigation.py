"""W3 in JAX: an iteration of MAML-TRPO on 2-D navigation as one compiled program.

It draws 20 tasks, plays 20 episodes of 100 steps before and after one inner step of learned size,
fits the linear baseline, and takes the outer step of ``jax_trpo``. The policy is 2-64-64-2. Plain
``jit``, not tuned further. The baseline is solved in float32, ours in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax  # pyright: ignore[reportMissingImports]
import jax.numpy as jnp  # pyright: ignore[reportMissingImports]

from benchmarks.speed.jax_networks import array, layers_of
from benchmarks.speed.jax_trpo import (
    Episodes,
    Meta,
    Policy,
    adapt,
    distribution,
    log_prob,
    outer_step,
)
from meta_rl.config import EpisodesConfig, TRPOConfig
from meta_rl.types import MetaParameters

GOAL = 0.5  # goals lie in [-0.5, 0.5]^2
REACH, HORIZON = 0.1, 100
CLOSE = 0.01 - 1e-5  # nearer to the goal than this on both axes, an episode ends
RIDGE = 1e-5


class State(NamedTuple):
    """What an iteration changes."""

    meta: Meta
    key: Any


def initial(meta: MetaParameters) -> State:
    """Return the state before the first iteration, from our meta-parameters."""
    theta = Policy(layers_of(meta.theta), array(meta.theta["log_std"]))
    return State(Meta(theta, array(meta.rule["step_size"])), jax.random.key(0))


def collect(policy: Policy, goal: Any, key: Any, config: EpisodesConfig) -> tuple[Episodes, Any]:
    """Return one task's episodes with their advantages, and their mean return."""
    obs, action, reward, mask = rollout(policy, goal, key, config)
    mean, log_std = distribution(policy, obs)
    episodes = Episodes(
        obs=obs,
        action=action,
        mask=mask,
        advantage=advantages(obs, reward, mask, config),
        log_prob=log_prob(mean, log_std, action),
        mean=mean,
        log_std=jnp.broadcast_to(log_std, (config.episodes, 1, 2)),
    )
    return episodes, reward.sum() / config.episodes


def rollout(policy: Policy, goal: Any, key: Any, config: EpisodesConfig) -> list[Any]:
    """Return observations, actions, rewards and mask of whole episodes, ``(B, T, ...)``."""

    def step(state: Any, noise: Any) -> Any:
        position, running = state
        mean, log_std = distribution(policy, position)
        action = mean + jnp.exp(log_std) * noise
        moved = position + jnp.clip(REACH * action / config.action_scale, -REACH, REACH)
        reward = -jnp.linalg.norm(moved - goal, axis=-1) * running
        reached = jnp.abs(moved - goal).max(-1) < CLOSE
        still = running * (1 - reached)
        # A finished row keeps its last observation.
        following = jnp.where(still[:, None] > 0, moved, position)
        return (following, still), (position, action, reward, running)

    start = jnp.zeros((config.episodes, 2)), jnp.ones(config.episodes)
    _, steps = jax.lax.scan(step, start, jax.random.normal(key, (HORIZON, config.episodes, 2)))
    return [jnp.moveaxis(leaf, 0, 1) for leaf in steps]


def advantages(obs: Any, reward: Any, mask: Any, config: EpisodesConfig) -> Any:
    """Return one task's normalized advantages over the linear baseline, ``(B, T)``."""
    returns = discounted_sum(reward, config.gamma)
    value = baseline(obs, returns, mask)
    following = jnp.concatenate([value[:, 1:], jnp.zeros((len(value), 1))], 1)
    delta = (reward + config.gamma * following - value) * mask
    raw = discounted_sum(delta, config.gamma * config.gae_lambda) * mask
    centred = (raw - raw.sum() / mask.sum()) * mask
    return centred / (jnp.sqrt((centred**2).sum() / mask.sum()) + 1e-8)


def baseline(obs: Any, returns: Any, mask: Any) -> Any:
    """Return values fitted to returns by ridge regression on ``[o, o^2, t, t^2, t^3, 1]``."""
    time = jnp.arange(HORIZON)[:, None] / 100
    of_time = jnp.concatenate([time, time**2, time**3, jnp.ones_like(time)], -1)
    of_time = jnp.broadcast_to(of_time, (*mask.shape, 4))
    clipped = jnp.clip(obs, -10, 10)
    features = jnp.concatenate([clipped, clipped**2, of_time], -1) * mask[..., None]
    flat = features.reshape(mask.size, -1)
    normal = flat.T @ flat + RIDGE * jnp.eye(flat.shape[1])
    return features @ jnp.linalg.solve(normal, flat.T @ (returns * mask).reshape(-1))


def discounted_sum(values: Any, discount: float) -> Any:
    """Return ``s_t = v_t + discount * s_{t+1}`` of ``(B, T)``."""

    def step(later: Any, value: Any) -> Any:
        total = value + discount * later
        return total, total

    _, sums = jax.lax.scan(step, jnp.zeros(len(values)), values.T, reverse=True)
    return sums.T


def iteration(data: EpisodesConfig, outer: TRPOConfig) -> Callable[[State], Any]:
    """Return the function ``state -> (new state, metrics)``.

    Metrics are the mean returns before and after adapting, and the line-search trials.
    """

    def iterate(state: State) -> Any:
        meta, (key, for_goals, *for_episodes) = state.meta, jax.random.split(state.key, 4)
        goals = jax.random.uniform(for_goals, (data.tasks, 2), minval=-GOAL, maxval=GOAL)
        before, after = (jax.random.split(own, data.tasks) for own in for_episodes)
        sample = partial(collect, config=data)
        supports, pre = jax.vmap(sample, (None, 0, 0))(meta.theta, goals, before)
        phi = jax.vmap(partial(adapt, meta))(supports)
        queries, post = jax.vmap(sample)(phi, goals, after)
        meta, trials = outer_step(meta, supports, queries, outer)
        return State(meta, key), {"pre": pre.mean(), "post": post.mean(), "trials": trials}

    return iterate
