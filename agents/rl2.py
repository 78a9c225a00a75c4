"""RL2: adapting inside a recurrent policy's state, by sb3-contrib's RecurrentPPO.

Duan et al. 2016, "RL2: Fast Reinforcement Learning via Slow Reinforcement Learning"; Wang et al.
2016, "Learning to reinforcement learn". The baseline that takes no gradient step on a new task: it
is shown several episodes of it in a row, and its k-th episode corresponds to adapting on k-1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.type_aliases import MaybeCallback

from meta_rl.errors import require

from .trials import DrawTask, TrialEnv, with_unit_actions


def train_rl2(
    draw: DrawTask,
    episodes: int,
    steps: int,
    *,
    rollout: int = 128,
    hidden: int = 64,
    learning_rate: float = 3e-4,
    seed: int = 0,
    callback: MaybeCallback = None,
) -> RecurrentPPO:
    """A recurrent policy that adapts within a trial.

    Args:
        draw: see :data:`~agents.trials.DrawTask`; a new task for each trial.
        episodes: of one trial.
        steps: environment steps to learn on; whole rollouts, never more than that.
        rollout: steps between two updates. Gradients go back through at most so many, so it should
            hold a trial.
        hidden: units of the LSTM and of the layer after it.
        learning_rate: of Adam.
        seed: of weights, actions, tasks and episodes.
        callback: as RecurrentPPO's ``learn`` takes it.

    Raises:
        InputError: if a number is too small, or as :class:`~agents.trials.TrialEnv`.
    """
    require(rollout >= 2, "rollout", "2 or more", rollout)
    require(steps >= rollout, "steps", f"{rollout} (a rollout) or more", steps)
    model = RecurrentPPO(
        "MlpLstmPolicy",
        _trials(draw, episodes),
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
    """Undiscounted return of every episode of a trial, ``(trials, episodes)``; sampled actions.

    Args:
        model: of :func:`train_rl2`.
        draw: see :data:`~agents.trials.DrawTask`; one that ignores its seed gives one fixed task.
        episodes: of one trial; may be more than were trained with.
        seeds: one trial for each, of its tasks, episodes and actions.
    """
    env, returns = _trials(draw, episodes), []
    for seed in seeds:
        obs, info = env.reset(seed=int(seed))
        state, over, start = None, False, np.ones(1, bool)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed))
            while not over:
                action, state = model.predict(obs, state, start, deterministic=False)
                obs, _, over, _, info = env.step(action)
                start = np.zeros(1, bool)
        returns.append(info["returns"])
    env.close()
    return np.array(returns)


def _trials(draw: DrawTask, episodes: int) -> TrialEnv:
    """With the previous action in the observation rescaled as well."""
    return TrialEnv(lambda seed: with_unit_actions(draw(seed)), episodes)
