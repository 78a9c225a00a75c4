"""Train stable-baselines3's PPO as a baseline, from scratch or pretrained on the family.

Scores are mean undiscounted returns of fresh episodes with sampled actions, as for adaptation. Box
actions are rescaled to [-1, 1], as PPO's initial standard deviation of 1 expects.
stable-baselines3 seeds and uses the global generators of torch and numpy.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.vec_env import VecNormalize

from meta_rl.errors import require

from .trials import DrawTask, RandomTaskEnv, normalized, with_unit_actions, with_vectors

BATCH, LONGEST_ROLLOUT = 64, 2048  # stable-baselines3's defaults


def from_scratch(
    make_env: Callable[[], gym.Env],
    budgets: Sequence[int],
    *,
    episodes: int = 20,
    seed: int = 0,
    normalize: bool = False,
    callback: MaybeCallback = None,
) -> list[float]:
    """Train one PPO on one environment and return its score after each budget.

    Args:
        make_env: makes the environment, once to learn on and once to be scored on.
        budgets: total environment steps to learn on, rising; 0 scores the untrained policy. PPO
            learns from rollouts of a multiple of 64 steps: it takes as many whole rollouts as fit
            into a budget, never more steps than the budget.
        episodes: episodes of a score; their steps are not counted.
        seed: seed of weights, actions and episodes.
        normalize: whether to normalize observations, by ``VecNormalize``.
        callback: callback for PPO's ``learn``.

    Raises:
        InputError: if the budgets do not rise, or a positive budget is smaller than a mini-batch.
    """
    model = _ppo(make_env(), _rollout(budgets), seed, normalize)
    return _learn(model, make_env, budgets, episodes, callback)


def pretrain(
    draw: DrawTask,
    steps: int,
    *,
    seed: int = 0,
    normalize: bool = False,
    callback: MaybeCallback = None,
) -> PPO:
    """Train one PPO on the whole family, with another task in each episode (domain randomization).

    Args:
        draw: makes the environment of a random task; see :data:`~agents.trials.DrawTask`.
        steps: environment steps to learn on, in whole rollouts as in :func:`from_scratch`.
        seed: seed of weights, actions, tasks and episodes.
        normalize: whether to normalize observations, by ``VecNormalize``.
        callback: callback for PPO's ``learn``.

    Raises:
        InputError: if the steps are fewer than a mini-batch.
    """
    rollout = _rollout([steps])
    model = _ppo(RandomTaskEnv(draw), rollout, seed, normalize)
    return model.learn(steps // rollout * rollout, callback)


def fine_tune(
    pretrained: PPO,
    make_env: Callable[[], gym.Env],
    budgets: Sequence[int],
    *,
    episodes: int = 20,
    seed: int = 0,
    callback: MaybeCallback = None,
) -> list[float]:
    """Fine-tune a pretrained PPO on one environment and return its score after each budget.

    The pretrained model itself does not change. Fine-tuning continues with a copy of its weights,
    optimizer state and statistics of observations. Arguments and errors are those of
    :func:`from_scratch`.
    """
    statistics = pretrained.get_vec_normalize_env()
    model = _ppo(make_env(), _rollout(budgets), seed, statistics is not None)
    parameters: Any = pretrained.get_parameters()
    model.set_parameters(parameters, device="cpu")
    if statistics is not None:
        own: Any = model.get_vec_normalize_env()
        own.obs_rms = copy.deepcopy(statistics.obs_rms)
    return _learn(model, make_env, budgets, episodes, callback)


def _learn(
    model: PPO,
    make_env: Callable[[], gym.Env],
    budgets: Sequence[int],
    episodes: int,
    callback: MaybeCallback,
) -> list[float]:
    env, scores = Monitor(with_unit_actions(with_vectors(make_env()))), []
    env.reset(seed=model.seed)
    scored_on: gym.Env | VecNormalize = env
    if (statistics := model.get_vec_normalize_env()) is not None:
        scored_on = normalized(env)
        scored_on.training, scored_on.obs_rms = False, statistics.obs_rms
    for budget in budgets:
        more = budget // model.n_steps * model.n_steps - model.num_timesteps
        if more > 0:
            model.learn(more, callback, reset_num_timesteps=False)
        mean, _ = evaluate_policy(model, scored_on, episodes, deterministic=False)
        scores.append(float(np.mean(mean)))
    env.close()
    if (learned_on := model.get_env()) is not None:
        learned_on.close()
    return scores


def _ppo(env: gym.Env, rollout: int, seed: int, normalize: bool) -> PPO:
    vectors = with_unit_actions(with_vectors(env))
    return PPO(
        "MlpPolicy",
        normalized(Monitor(vectors)) if normalize else vectors,
        n_steps=rollout,
        batch_size=BATCH,
        seed=seed,
        device="cpu",
    )


def _rollout(budgets: Sequence[int]) -> int:
    """Return a rollout's steps: whole mini-batches, about an equal part of the smallest budget."""
    rising = all(one < other for one, other in pairwise(budgets))
    require(len(budgets) > 0 and rising, "budgets", "rising numbers of steps", list(budgets))
    least = min((b for b in budgets if b > 0), default=LONGEST_ROLLOUT)
    require(least >= BATCH, "budgets", f"{BATCH} steps (a mini-batch) or more", least)
    return least // -(-least // LONGEST_ROLLOUT) // BATCH * BATCH
