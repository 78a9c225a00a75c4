"""Convert a policy with memory to sb3-contrib's ``RecurrentPPO``, with equal actions.

``RecurrentPPO`` sees the observation alone. So the environment shows it the previous action, the
previous reward and the end of an episode (:class:`~agents.trials.TrialEnv`), and one trial is one
of its episodes: its state is reset where a trial starts, and goes over from episode to episode
within. Actions pass in the policy's own units, since that is how the policy sees them later.
"""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from torch import nn
from torch.func import functional_call

from meta_rl import seeds
from meta_rl.errors import InputError, require
from meta_rl.naming import part_of
from meta_rl.problems.adapted import AdaptedPolicy
from meta_rl.problems.normalization import normalization_of
from meta_rl.problems.observations import observation_size
from meta_rl.storage import files
from meta_rl.types import Params

from .files import check_new_file
from .memory import RecurrentPolicy
from .policies import MIN_LOG_STD, GaussianPolicy
from .recurrent import LSTM
from .sb3_actor import check_actions, network_of, of_ours
from .trials import TrialEnv

LARGEST = 1e6
"""Bound of actions in policy units: stable-baselines3 wants finite ones."""
TOLERANCE = 1e-4


class _InPolicyUnits(gym.ActionWrapper):
    """Takes continuous actions in the units of a policy, and maps them into the action box."""

    def __init__(self, env: gym.Env, actor: GaussianPolicy):
        super().__init__(env)
        self._actor = actor
        size = len(actor.log_std)
        self.action_space = spaces.Box(-LARGEST, LARGEST, (size,), np.float32)

    def action(self, action: Any) -> np.ndarray:
        """Return the action in the environment's units, inside its box."""
        return self._actor.env_action(torch.as_tensor(action)).cpu().numpy()


class _Open(gym.Wrapper):
    """Leaves the environment open between trials, which are all of one task."""

    def close(self) -> None:
        """Do nothing."""


def trials_for(model: AdaptedPolicy, env: gym.Env, episodes: int = 5) -> TrialEnv:
    """Return the environment in which the model's ``RecurrentPPO`` acts.

    Args:
        model: the adapted policy, with memory.
        env: the environment of a task, with the spaces of training. It is used as it is.
        episodes: episodes of one trial.

    Raises:
        InputError: as :func:`check_recurrent`.
    """
    check_recurrent(model.policy, env)
    actor = own_policy(model).actor
    own = _InPolicyUnits(env, actor) if isinstance(actor, GaussianPolicy) else env
    return TrialEnv(lambda seed: _Open(own), episodes)


def to_recurrent_ppo(
    model: AdaptedPolicy, env: gym.Env, *, episodes: int = 5, seed: int = 0
) -> RecurrentPPO:
    """Return a ``RecurrentPPO`` that acts as the policy does from a trial's start, and can learn.

    Actor, critic, LSTM, standard deviations, discount and lambda are the policy's; everything else
    is the default. It does not hold what the model remembers: its trials start without memory, and
    it adapts in them.

    Args:
        model: the adapted policy, with memory.
        env: the environment of a task, with the spaces of training.
        episodes: episodes of one trial.
        seed: seed of its random numbers.

    Raises:
        InputError: as :func:`check_recurrent`.
    """
    around, policy = trials_for(model, env, episodes), own_policy(model)
    data = model.manifest.get("config", {}).get("data", {})
    hidden = policy.recurrent.hidden
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        ppo = RecurrentPPO(
            "MlpLstmPolicy",
            around,
            gamma=data.get("gamma", 0.99),
            gae_lambda=data.get("gae_lambda", 0.95),
            policy_kwargs={
                "net_arch": {"pi": [], "vf": []},
                "lstm_hidden_size": hidden[0],
                "n_lstm_layers": len(hidden),
                "shared_lstm": True,
                "enable_critic_lstm": False,
            },
            device="cpu",
        )
    ppo.policy.load_state_dict(ppo.policy.state_dict() | _tensors(policy, model.params))
    _check_equal(ppo, model)
    return ppo


def save_recurrent_ppo(ppo: RecurrentPPO, file: str | Path) -> None:
    """Write the zip of ``RecurrentPPO.save``, whole or not at all.

    Raises:
        InputError: if the file cannot be written; see :func:`~agents.files.check_new_file`.
    """
    check_new_file(Path(file), ".zip", "stable-baselines3")
    ppo.save(zipped := io.BytesIO())
    files.write(Path(file), zipped.getvalue())


def check_recurrent(policy: Any, env: gym.Env) -> None:
    """Refuse a policy or environment that ``RecurrentPPO`` could not reproduce.

    Raises:
        InputError: if the policy is not an LSTM of equal layers with linear heads on vectors, or
            its spaces are not the environment's.
    """
    what = "stable-baselines3"
    if not isinstance(policy, RecurrentPolicy):
        raise InputError(
            f"{what}: expected a RecurrentPolicy (--algorithm rl2), got {type(policy).__name__}, "
            "which RecurrentPPO does not have."
        )
    if not isinstance(policy.recurrent, LSTM):
        raise InputError(
            f"{what}: RecurrentPPO has an LSTM, and this policy another recurrent layer. Train "
            "with --network.kind lstm."
        )
    hidden = policy.recurrent.hidden
    require(len({*hidden}) == 1, f"{what}: the LSTM's layers", "equally many units", hidden)
    linear = isinstance(policy.critic, nn.Linear) and policy.features.images is None
    if not linear:
        raise InputError(
            f"{what}: RecurrentPPO has an LSTM with linear heads on plain vectors of numbers, "
            "and this policy has more (images, or other heads). Train without them, or export to "
            "ONNX."
        )
    if normalization_of(policy) is not None:
        raise InputError(
            f"{what}: RecurrentPPO takes observations as they are, and this policy normalizes "
            "them. Train without --data.normalize-observations."
        )
    check_actions(of_ours(policy.actor), vars(env.action_space))
    inputs = policy.state_dict()["recurrent.weight_ih_l0"].shape[1]
    own = observation_size(env.observation_space) + gym.spaces.flatdim(env.action_space) + 2
    require(own == inputs, f"{what}: observations, actions and rewards", f"{inputs} numbers", own)


def own_policy(model: AdaptedPolicy) -> Any:
    """Return the model's recurrent policy, which :func:`check_recurrent` has seen."""
    return model.policy


def _tensors(policy: RecurrentPolicy, params: Params) -> Params:
    """Return the parameters by sb3-contrib's names; rewards and values in their own units."""
    unit = policy.unit()
    lstm = {name: value.clone() for name, value in part_of("recurrent", params).items()}
    by_reward = lstm["weight_ih_l0"][:, -2]
    by_reward /= policy.rewards.std()
    lstm["bias_ih_l0"] -= by_reward * policy.rewards.mean
    head = f"actor.{network_of(of_ours(policy.actor)).prefix}0."
    named = {f"lstm_actor.{name}": value for name, value in lstm.items()}
    for part in ("weight", "bias"):
        named[f"action_net.{part}"] = params[f"{head}{part}"]
        named[f"value_net.{part}"] = params[f"critic.{part}"] * unit
    if isinstance(policy.actor, GaussianPolicy):
        named["log_std"] = params["actor.log_std"].clamp(min=MIN_LOG_STD)
    return {name: value.detach().float().cpu() for name, value in named.items()}


@torch.no_grad()
def _check_equal(ppo: RecurrentPPO, model: AdaptedPolicy) -> None:
    """Raise unless both give equal values and likeliest actions along random inputs."""
    own, theirs = copy.deepcopy(own_policy(model)).cpu(), cast(Any, ppo.policy)
    inputs = torch.randn(4, own.recurrent.weight_ih_l0.shape[1], generator=seeds.generator(0))
    parts = inputs[None].tensor_split([inputs.shape[1] + own.state_size - len(own.start)], -1)
    params = {name: value.cpu() for name, value in model.params.items()}
    ours = functional_call(own, params, (*parts, torch.zeros(1, own.state_size)))
    start = torch.zeros(theirs.lstm_hidden_state_shape)
    resets = torch.zeros(len(inputs))
    hidden, _ = theirs._process_sequence(inputs, (start, start), resets, theirs.lstm_actor)
    found = theirs._get_action_dist_from_latent(hidden).mode(), theirs.value_net(hidden)[:, 0]
    for mine, got in zip((ours.policy.mode()[0], ours.value[0]), found, strict=True):
        if not torch.allclose(mine.float(), got.float(), TOLERANCE, TOLERANCE):
            raise InputError(
                "stable-baselines3: expected RecurrentPPO to give the model's own outputs, got "
                "others; nothing was written. Please report it with the model."
            )
