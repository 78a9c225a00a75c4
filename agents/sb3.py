"""The bridge to stable-baselines3: a policy becomes a ``PPO``, a saved actor becomes a policy.

Both sides compute the same function. Theirs, in the units of the action space, and ours:

    clip(W h(obs) + b),                                    std exp(log_std)
    clip(centre + half_width / scale * (W' h(obs) + b')),  std half_width / scale * exp(log_std')

The scaling is linear, so it goes into the last layer and the log-std; the context of a
:class:`~agents.networks.ContextNetwork` is a constant input, so it goes into the first bias. Both
are computed in float64: where a policy has neither, weights are copied bit for bit, elsewhere
predictions agree to float32's rounding.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.preprocessing import is_image_space
from torch import Tensor, nn

from agents.networks import ACTIVATIONS, ContextNetwork
from agents.policies import MIN_LOG_STD, CategoricalPolicy, GaussianPolicy, make_policy
from agents.sb3_zip import Actor, read_actor
from meta_rl import seeds
from meta_rl.adapted import AdaptedPolicy
from meta_rl.config import NetworkConfig
from meta_rl.errors import InputError
from meta_rl.types import Params, Policy


def to_ppo(model: AdaptedPolicy, env: gym.Env, *, seed: int = 0) -> PPO:
    """A stable-baselines3 ``PPO`` that acts as the policy does, ready to ``learn`` on ``env``.

    Actor, standard deviations and discount are the policy's. Our value baseline is fitted anew to
    every batch and has no counterpart in PPO: the critic starts fresh, with the actor's sizes.
    Everything else is stable-baselines3's default.

    Args:
        model: an adapted policy; a meta-policy is one adapted with ``steps=0``.
        env: where it is to act, with the spaces it was trained with.
        seed: of the critic's weights.

    Raises:
        InputError: if PPO could not act as the policy does; see :func:`check_exportable`.
    """
    check_exportable(model.policy, env)
    actor = _in_action_units(_of_ours(model.policy), model.params)
    sizes = [len(bias) for _, bias in actor.layers[:-1]]
    data = model.manifest.get("config", {}).get("data", {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        ppo = PPO(
            "MlpPolicy",
            env,
            gamma=data.get("gamma", 0.99),
            policy_kwargs={
                "net_arch": {"pi": sizes, "vf": sizes},
                "activation_fn": ACTIVATIONS[actor.activation],
            },
            device="cpu",
        )
    state = ppo.policy.state_dict()
    modules = [*(f"mlp_extractor.policy_net.{2 * i}" for i in range(len(sizes))), "action_net"]
    for name, (weight, bias) in zip(modules, actor.layers, strict=True):
        state |= {f"{name}.weight": weight.float(), f"{name}.bias": bias.float()}
    if actor.log_std is not None:
        state["log_std"] = actor.log_std.float()
    ppo.policy.load_state_dict(state)
    return ppo


def check_exportable(policy: nn.Module, env: gym.Env) -> None:
    """Refuse what PPO's ``MlpPolicy`` could not compute.

    Raises:
        InputError: for another module than our policies, other actions than the environment's,
            actions not counted from 0 or without a finite range, images, or an environment that
            normalizes observations by statistics which the zip would not hold.
    """
    policy = _of_ours(policy)
    _check_actions(policy, vars(env.action_space))
    if isinstance(policy, CategoricalPolicy) and policy.start != 0:
        raise InputError(
            f"stable-baselines3: expected actions counted from 0, got from {policy.start}."
        )
    if isinstance(env.action_space, gym.spaces.Box) and not env.action_space.is_bounded():
        raise InputError(
            "stable-baselines3: expected actions with finite bounds, as PPO does, got "
            f"{env.action_space}."
        )
    inputs = _in_action_units(policy, dict(policy.named_parameters())).layers[0][0].shape[1]
    space = env.observation_space
    box = isinstance(space, gym.spaces.Box) and not is_image_space(space)
    if not box or gym.spaces.flatdim(space) != inputs:
        raise InputError(
            f"observation space: expected a Box of {inputs} numbers, no image, got {space}."
        )
    layer = env
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, gym.wrappers.NormalizeObservation):
            raise InputError(
                "stable-baselines3: expected raw observations, got NormalizeObservation, whose "
                "statistics live in the environment and would not be in the zip."
            )
        layer = layer.env


def save_ppo(ppo: PPO, file: Path) -> None:
    """``PPO.save``, whole or not at all.

    Raises:
        InputError: if it cannot be written; see :func:`check_file`.
    """
    check_file(file)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.zip")
    try:
        ppo.save(temporary)
        temporary.rename(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"stable-baselines3: cannot write {file}: {error}.") from error


def check_file(file: Path) -> None:
    """Refuse a name that stable-baselines3 would change, a file that is there, or no folder.

    Raises:
        InputError: saying which.
    """
    if file.suffix != ".zip":
        raise InputError(f"stable-baselines3: expected a name ending in .zip, got {file}.")
    if file.exists():
        raise InputError(f"stable-baselines3: {file} exists already; nothing was overwritten.")
    if not file.parent.is_dir():
        raise InputError(f"stable-baselines3: expected a folder to write to, got {file.parent}.")


def read_parameters(file: str | Path, policy: Policy) -> Params:
    """A saved PPO's or A2C's actor as parameters of a policy of ours, without unpickling anything.

    The policy then acts as the saved one does, with its standard deviations. A context is left
    as it is: zero, until it is adapted.

    Raises:
        InputError: if the file is not what :func:`read_actor` reads, or its layers, activation or
            actions differ from the policy's.
    """
    policy = _of_ours(policy)
    saved, action_space = read_actor(file)
    _check_actions(policy, action_space)
    own = _in_action_units(policy, dict(policy.named_parameters()))
    ours, theirs = ([list(w.shape) for w, _ in a.layers] for a in (own, saved))
    if ours != theirs or own.activation != saved.activation:
        hidden = " ".join(str(len(bias)) for _, bias in saved.layers[:-1])
        raise InputError(
            f"stable-baselines3: expected weights {ours} with {own.activation}, got {theirs} with "
            f"{saved.activation} in {file}. Give --network.hidden {hidden} "
            f"--network.activation {saved.activation}, and a family with the same spaces."
        )
    return _in_policy_units(saved, policy)


def load_expert(file: str | Path, env: gym.Env) -> AdaptedPolicy:
    """A saved PPO's or A2C's actor as a policy with ``predict``, without unpickling anything.

    Args:
        file: the zip.
        env: the environment it was trained on, or one with the same spaces.

    Raises:
        InputError: as :func:`read_parameters`.
    """
    saved, _ = read_actor(file)
    hidden = tuple(len(bias) for _, bias in saved.layers[:-1])
    policy = make_policy(
        env.observation_space,
        env.action_space,
        NetworkConfig(hidden=hidden, activation=saved.activation),  # type: ignore[arg-type]
        seeds.generator(0),
    )
    params = read_parameters(file, policy)
    return AdaptedPolicy(policy, params, env.observation_space.shape or (), (), {})


def _in_action_units(
    policy: GaussianPolicy | CategoricalPolicy, params: Mapping[str, Any]
) -> Actor:
    """The layers, float64, that map observations to the action space itself."""
    name, network = _network(policy)
    values = {key: value.detach().double().cpu() for key, value in params.items()}
    indices = [i for i, layer in enumerate(network) if isinstance(layer, nn.Linear)]
    layers = [(values[f"{name}.{i}.weight"], values[f"{name}.{i}.bias"]) for i in indices]
    if isinstance(network, ContextNetwork):
        (weight, bias), context = layers[0], values[f"{name}.context"]
        inputs = weight.shape[1] - len(context)
        layers[0] = weight[:, :inputs], bias + weight[:, inputs:] @ context
    activations = [
        key for key, kind in ACTIVATIONS.items() if any(type(m) is kind for m in network)
    ]
    activation = activations[0] if activations else "tanh"
    if isinstance(policy, CategoricalPolicy):
        return Actor(layers, None, activation)
    (weight, bias), factor = layers[-1], _factor(policy)
    layers[-1] = factor[:, None] * weight, policy.centre.double().cpu() + factor * bias
    log_std = values["log_std"].clamp(min=MIN_LOG_STD) + factor.log()
    return Actor(layers, log_std, activation)


def _in_policy_units(actor: Actor, policy: GaussianPolicy | CategoricalPolicy) -> Params:
    """The inverse of :func:`_in_action_units`, as the policy's own parameters."""
    name, network = _network(policy)
    layers = list(actor.layers)
    own = {key: value.detach().clone() for key, value in policy.named_parameters()}
    values: dict[str, Tensor] = {}
    if isinstance(policy, GaussianPolicy) and actor.log_std is not None:
        (weight, bias), factor = layers[-1], _factor(policy)
        layers[-1] = weight / factor[:, None], (bias - policy.centre.double().cpu()) / factor
        values["log_std"] = actor.log_std - factor.log()
    if isinstance(network, ContextNetwork):
        weight, bias = layers[0]
        beside = own[f"{name}.0.weight"][:, weight.shape[1] :].double().cpu()
        layers[0] = torch.cat([weight, beside], 1), bias
    for i, (weight, bias) in enumerate(layers):
        values |= {f"{name}.{2 * i}.weight": weight, f"{name}.{2 * i}.bias": bias}
    return {key: values[key].to(like) if key in values else like for key, like in own.items()}


def _of_ours(policy: nn.Module) -> GaussianPolicy | CategoricalPolicy:
    """The policy, if it is one that ``MlpPolicy`` can be equal to."""
    if not isinstance(policy, GaussianPolicy | CategoricalPolicy):
        raise InputError(
            "stable-baselines3: expected a GaussianPolicy or CategoricalPolicy, got a "
            f"{type(policy).__name__}."
        )
    return policy


def _network(policy: GaussianPolicy | CategoricalPolicy) -> tuple[str, nn.Sequential]:
    if isinstance(policy, GaussianPolicy):
        return "mean", policy.mean
    return "logits", policy.logits


def _factor(policy: GaussianPolicy) -> Tensor:
    """Action units per policy unit, (A,)."""
    return policy.half_width.double().cpu() / policy.action_scale


def _check_actions(policy: GaussianPolicy | CategoricalPolicy, theirs: Mapping[str, Any]) -> None:
    """Refuse actions that mean something else, though there may be as many of them."""
    if isinstance(policy, GaussianPolicy):
        ours = {"low": policy.low.cpu().numpy(), "high": policy.high.cpu().numpy()}
        if bool((policy.half_width == 0).any()):
            raise InputError(f"action space: expected actions with a range, got {ours}.")
    else:
        ours = {"n": policy.logits[-1].out_features, "start": policy.start}
    got = {key: theirs[key] for key in ("low", "high", "n", "start") if key in theirs}
    if got.keys() != ours.keys() or not all(_same(ours[key], got[key]) for key in ours):
        raise InputError(
            f"action space: expected {ours}, got {got}. The two must mean the same by an action; "
            "train on the environment as the family makes it, without RescaleAction around it."
        )


def _same(ours: Any, theirs: Any) -> bool:
    """Whether numbers agree to float32's rounding; theirs may be numpy's text, as "[-2. 2.]"."""
    if isinstance(theirs, str):
        try:
            theirs = [float(word) for word in theirs.strip("[]").split()]
        except ValueError:
            return False
    ours, theirs = np.atleast_1d(ours), np.atleast_1d(theirs)
    return ours.shape == theirs.shape and bool(np.allclose(ours, theirs, rtol=1e-6, atol=0))
