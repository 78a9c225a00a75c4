"""Environments that draw a new task for each episode, or for each trial of several episodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from meta_rl.errors import InputError, require
from meta_rl.problems.observations import PLAIN, flat, observation_size

DrawTask = Callable[[int], gym.Env]
"""A function that makes the environment of a random task from a seed, such as
``lambda seed: family.make_env(family.sample_tasks(1, seed)[0])``."""


def with_unit_actions(env: gym.Env) -> gym.Env:
    """Rescale the environment's Box actions to [-1, 1], if they are bounded.

    PPO starts with a standard deviation of 1 in the action space's units, whatever these are.
    """
    space = env.action_space
    if isinstance(space, gym.spaces.Box) and space.is_bounded():
        return gym.wrappers.RescaleAction(env, np.float32(-1.0), np.float32(1.0))
    return env


def with_vectors(env: gym.Env) -> gym.Env:
    """Return the environment with observations of several parts, or of numbers, as one vector."""
    box = isinstance(env.observation_space, gym.spaces.Box)
    return env if box else gym.wrappers.FlattenObservation(env)


def normalized(env: gym.Env) -> VecNormalize:
    """Return the environment inside stable-baselines3's normalization of observations alone."""
    return VecNormalize(DummyVecEnv([lambda: env]), norm_reward=False)


class RandomTaskEnv(gym.Env):
    """An environment with another task in each episode, which the observation does not tell.

    Args:
        draw: makes the environment of a random task; see :data:`DrawTask`. The previous episode's
            environment is closed.
    """

    def __init__(self, draw: DrawTask):
        self._draw, self._env = draw, draw(0)
        self.observation_space = self._env.observation_space
        self.action_space = self._env.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Draw a task and start its episode."""
        super().reset(seed=seed)
        self._env.close()
        self._env = self._draw(self._seed())
        return self._env.reset(seed=self._seed())

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the task's environment."""
        return self._env.step(action)

    def close(self) -> None:
        """Close the task's environment."""
        self._env.close()

    def _seed(self) -> int:
        return int(self.np_random.integers(2**31))


class TrialEnv(RandomTaskEnv):
    """A trial of RL2: several episodes of one task in a row, as one long episode.

    Duan et al. 2016 ("RL2"), figure 1. The observation is ``(observation, previous action, previous
    reward, done)``, flat. Discrete actions are one-hot vectors, and zeros at the start of a trial;
    done is 1 on the first observation of each later episode. A recurrent policy keeps its state
    over the episodes of a trial and loses it between trials, where the task changes. A trial
    *terminates* after its last episode: no later value could be bootstrapped. ``info["returns"]``
    holds the returns of the episodes ended so far.

    Args:
        draw: makes the environment of a random task; see :data:`DrawTask`.
        episodes: episodes of one trial.

    Raises:
        InputError: if episodes is below 1, or observations or actions have no fixed number of
            numbers.
    """

    def __init__(self, draw: DrawTask, episodes: int):
        require(episodes >= 1, "episodes", "1 or more", episodes)
        super().__init__(draw)
        self.episodes = episodes
        if not isinstance(self.action_space, PLAIN):
            raise InputError(
                "trial: expected Box, Discrete, MultiDiscrete or MultiBinary actions, got "
                f"{self.action_space}."
            )
        self._actions = gym.spaces.flatdim(self.action_space)
        self._inner = self._env.observation_space
        size = observation_size(self._inner) + self._actions + 2
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self._returns: list[float] = []
        self._return = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Draw a task and start its first episode."""
        obs, info = super().reset(seed=seed)
        self._returns, self._return = [], 0.0
        return self._observe(obs, np.zeros(self._actions), 0.0, False), info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take a step; after an episode's end, return the next episode's first observation."""
        obs, reward, terminated, truncated, info = self._env.step(action)
        self._return += float(reward)
        done = terminated or truncated
        if done:
            self._returns.append(self._return)
            self._return = 0.0
        over = len(self._returns) == self.episodes
        if done and not over:
            obs, _ = self._env.reset(seed=self._seed())
        previous = gym.spaces.flatten(self.action_space, action)
        seen = self._observe(obs, previous, float(reward), done)
        return seen, float(reward), over, False, {**info, "returns": list(self._returns)}

    def _observe(self, obs: Any, action: Any, reward: float, done: bool) -> np.ndarray:
        seen = flat(self._inner, obs).ravel()
        return np.concatenate([seen, action, [reward, done]]).astype(np.float32)
