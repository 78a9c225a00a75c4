"""A policy's statistics of observations as stable-baselines3's ``VecNormalize``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from meta_rl.problems.normalization import CLIP, EPSILON, Normalization, is_normalized
from meta_rl.problems.observations import observation_size


def vec_normalize(statistics: Normalization, env: gym.Env | VecEnv, gamma: float) -> VecNormalize:
    """Return the environment inside a ``VecNormalize`` with the statistics of meta-training.

    It normalizes observations as the policy does, and scales rewards for PPO to learn from. Its
    statistics go on while a PPO learns; set ``training = False`` to keep them.

    Args:
        statistics: the policy's statistics.
        env: the environment, with the observation space of the statistics.
        gamma: discount per step.
    """
    inside = env if isinstance(env, VecEnv) else DummyVecEnv([lambda: Monitor(env)])
    space: Any = env.observation_space
    parts: dict[Any, Any] = space.spaces if isinstance(space, spaces.Dict) else {None: space}
    chosen = [name for name, part in parts.items() if is_normalized(part)]
    bounds: Any = {"clip_obs": CLIP, "epsilon": EPSILON, "gamma": gamma}
    keys: Any = chosen if isinstance(space, spaces.Dict) else None
    around = VecNormalize(inside, norm_obs_keys=keys, **bounds)
    sizes = [observation_size(parts[name]) for name in chosen]
    seen, paid = statistics.observations, statistics.returns
    means, variances = (values.cpu().split(sizes) for values in (seen.mean, seen.variance))
    for name, mean, variance in zip(chosen, means, variances, strict=True):
        held: Any = around.obs_rms
        held, shape = held if name is None else held[name], parts[name].shape
        held.mean, held.var = (v.reshape(shape).numpy().copy() for v in (mean, variance))
        held.count = float(seen.count)
    scale, own = around.ret_rms, (values.cpu()[0].numpy() for values in (paid.mean, paid.variance))
    (scale.mean, scale.var), scale.count = (value.copy() for value in own), float(paid.count)
    return around


def statistics_file(file: Path) -> Path:
    """Return where a zip's ``VecNormalize`` is: ``x_vecnormalize.pkl`` beside ``x.zip``."""
    return file.with_name(f"{file.stem}_vecnormalize.pkl")
