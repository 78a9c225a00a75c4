"""RL2: a recurrent policy that adapts in its state, trained by sb3-contrib's RecurrentPPO.

Duan et al. 2016, "RL2: Fast Reinforcement Learning via Slow Reinforcement Learning"; Wang et al.
2016, "Learning to reinforcement learn". This baseline takes no gradient step on a new task. It
plays several episodes of the task in a row; its k-th episode corresponds to adapting on k-1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.type_aliases import MaybeCallback

from meta_rl.errors import require

from .trials import DrawTask, TrialEnv, normalized, with_unit_actions


def train_rl2(
    draw: DrawTask,
    episodes: int,
    steps: int,
    *,
    rollout: int = 128,
    hidden: int = 64,
    learning_rate: float = 3e-4,
    seed: int = 0,
    normalize: bool = False,
    callback: MaybeCallback = None,
) -> RecurrentPPO:
    """Train a recurrent policy that adapts within a trial.

    Args:
        draw: makes the environment of a random task, for each trial; see
            :data:`~agents.trials.DrawTask`.
        episodes: episodes of one trial.
        steps: environment steps to learn on, in whole rollouts and never more.
        rollout: steps between two updates. Gradients go back through at most one rollout, so it
            should hold a trial.
        hidden: units of the LSTM and of the layer after it.
        learning_rate: Adam's learning rate.
        seed: seed of weights, actions, tasks and episodes.
        normalize: whether to normalize what it sees, by ``VecNormalize``.
        callback: callback for RecurrentPPO's ``learn``.

    Raises:
        InputError: if a number is too small, or :class:`~agents.trials.TrialEnv` refuses the
            environment.
    """
    require(rollout >= 2, "rollout", "2 or more", rollout)
    require(steps >= rollout, "steps", f"{rollout} (a rollout) or more", steps)
    trials = _trials(draw, episodes)
    model = RecurrentPPO(
        "MlpLstmPolicy",
        normalized(trials) if normalize else trials,
        n_steps=rollout,
        batch_size=rollout,
        learning_rate=learning_rate,
        policy_kwargs={"lstm_hidden_size": hidden, "net_arch": [hidden]},
        seed=seed,
        device="cpu",
    )
    return model.learn(steps // rollout * rollout, callback)


def in_context_returns(
    model: RecurrentPPO, draw: DrawTask, episodes: int, seeds: Sequence[int]
) -> np.ndarray:
    """Return every episode's undiscounted return ``(trials, episodes)``, with sampled actions.

    Args:
        model: a policy that :func:`train_rl2` returned.
        draw: makes the environment of a random task; see :data:`~agents.trials.DrawTask`. A
            function that ignores its seed gives one fixed task.
        episodes: episodes of one trial; may be more than in training.
        seeds: one seed per trial, for its task, episodes and actions.
    """
    env, returns = _trials(draw, episodes), []
    statistics = model.get_vec_normalize_env()
    for seed in seeds:
        obs, info = env.reset(seed=int(seed))
        state, over, start = None, False, np.ones(1, bool)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed))
            while not over:
                seen: Any = obs if statistics is None else statistics.normalize_obs(obs)
                action, state = model.predict(seen, state, start, deterministic=False)
                obs, _, over, _, info = env.step(action)
                start = np.zeros(1, bool)
        returns.append(info["returns"])
    env.close()
    return np.array(returns)


def _trials(draw: DrawTask, episodes: int) -> TrialEnv:
    """Return the environment of trials, whose observation holds the rescaled previous action."""
    return TrialEnv(lambda seed: with_unit_actions(draw(seed)), episodes)
