"""Convert a policy to a stable-baselines3 ``PPO``, and a saved actor to a policy.

See :mod:`agents.sb3_actor` for why both are exact, :mod:`agents.sb3_zip` for how a zip is read.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from meta_rl import seeds
from meta_rl.config import NetworkConfig
from meta_rl.errors import InputError
from meta_rl.problems.adapted import AdaptedPolicy, adapted_policy
from meta_rl.problems.memory import require_no_memory
from meta_rl.problems.normalization import normalization_of
from meta_rl.problems.observations import alike, image_layout, observation_size
from meta_rl.storage import files
from meta_rl.storage.reading import shortened
from meta_rl.types import Params, Policy

from .files import check_new_file
from .networks import ACTIVATIONS
from .own_modules import MODULES
from .policies import make_policy
from .sb3_actor import (
    Actor,
    check_actions,
    in_action_units,
    in_policy_units,
    network_of,
    of_ours,
)
from .sb3_features import extractor_of
from .sb3_statistics import statistics_file, vec_normalize
from .sb3_zip import EXTRACTORS, read_actor


def to_ppo(model: AdaptedPolicy, env: gym.Env, *, seed: int = 0) -> PPO:
    """Return a stable-baselines3 ``PPO`` that acts as the policy and can ``learn`` on ``env``.

    Actor, standard deviations and discount are the policy's. Our value baseline is fitted anew to
    every batch and has no counterpart in PPO: the critic starts fresh, with the actor's sizes.
    Everything else is stable-baselines3's default. A policy that normalizes observations gets them
    from a ``VecNormalize`` with its statistics, ``ppo.get_vec_normalize_env()``; give ``predict``
    its ``normalize_obs(obs)``.

    Args:
        model: the adapted policy; adapt with ``steps=0`` to export the meta-policy.
        env: the environment to act in, with the spaces of training.
        seed: seed of the critic's weights.

    Raises:
        InputError: if PPO could not act as the policy does; see :func:`check_exportable`.
    """
    check_exportable(model.policy, env)
    policy = of_ours(model.policy)
    actor, extractor = in_action_units(policy, model.params), extractor_of(network_of(policy))
    sizes = [len(bias) for _, bias in actor.layers[:-1]]
    data = model.manifest.get("config", {}).get("data", {})
    gamma, statistics = data.get("gamma", 0.99), normalization_of(model.policy)
    around: Any = env if statistics is None else vec_normalize(statistics, env, gamma)
    arguments: dict[str, Any] = {
        "net_arch": {"pi": sizes, "vf": sizes},
        "activation_fn": ACTIVATIONS[actor.activation],
    }
    if extractor is not None:
        arguments["features_extractor_class"] = extractor.kind
        arguments["features_extractor_kwargs"] = extractor.arguments
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        ppo = PPO(
            _policy_name(env.observation_space),
            around,
            gamma=gamma,
            policy_kwargs=arguments,
            device="cpu",
        )
    state = ppo.policy.state_dict()
    modules = [*(f"mlp_extractor.policy_net.{2 * i}" for i in range(len(sizes))), "action_net"]
    for name, (weight, bias) in zip(modules, actor.layers, strict=True):
        state |= {f"{name}.weight": weight.float(), f"{name}.bias": bias.float()}
    for shared in EXTRACTORS:  # names of one extractor, which actor and critic share
        state |= {f"{shared}{name}": value for name, value in actor.features.items()}
    if actor.log_std is not None:
        state["log_std"] = actor.log_std.float()
    ppo.policy.load_state_dict(state)
    if statistics is not None:
        # What a PPO keeps once it learned behind VecNormalize, and what read_actor refuses by.
        ppo._last_original_obs = np.zeros(1, np.float32)
    return ppo


def _policy_name(space: gym.Space) -> str:
    if isinstance(space, spaces.Dict):
        return "MultiInputPolicy"
    return "CnnPolicy" if is_image_space(space) else "MlpPolicy"


def check_exportable(policy: nn.Module, env: gym.Env) -> None:
    """Refuse a policy or environment that PPO's policies could not reproduce.

    Raises:
        InputError: if the policy is not one of ours, its actions are not the environment's, are not
            counted from 0 or have no finite range, stable-baselines3 makes something else of
            observations, or the environment normalizes them by statistics that the zip would not
            hold.
    """
    require_no_memory(policy, "stable-baselines3")
    policy = of_ours(policy)
    check_actions(policy, vars(env.action_space))
    if isinstance(env.action_space, gym.spaces.Box) and not env.action_space.is_bounded():
        raise InputError(
            "stable-baselines3: expected actions with finite bounds, as PPO does, got "
            f"{env.action_space}."
        )
    actor = in_action_units(policy, dict(policy.named_parameters()))
    inputs, space, own = (
        actor.layers[0][0].shape[1],
        env.observation_space,
        network_of(policy).space,
    )
    if own is not None and (not alike(own, space) or not _joined_alike(space, images=True)):
        raise InputError(
            f"observation space: expected {own}, which the features are made for, counted from 0, "
            "without a Dict in a Dict, a dot in a name, or images with channels first beside some "
            f"with channels last, got {space}."
        )
    if own is None and (not _joined_alike(space) or observation_size(space) != inputs):
        raise InputError(
            f"observation space: expected one that stable-baselines3 joins to {inputs} numbers "
            "(Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of them; counted from 0, no "
            "image), got "
            f"{space}."
        )
    layer: Any = env
    while layer is not None:
        named = isinstance(layer, gym.wrappers.NormalizeObservation)
        if named or (isinstance(layer, VecNormalize) and layer.norm_obs):
            raise InputError(
                f"stable-baselines3: expected raw observations, got {type(layer).__name__}, whose "
                "statistics live in the environment and would not be in the zip."
            )
        held = vars(layer)
        layer = held.get("venv") or held.get("env") or next(iter(held.get("envs", ())), None)


def _joined_alike(space: gym.Space, images: bool = False) -> bool:
    """Whether stable-baselines3 makes the same of an observation as we do.

    Args:
        space: the observation space.
        images: whether images may be in it, for features extractors; else a vector is made.
    """
    if isinstance(space, spaces.Dict):
        parts = space.spaces.values()
        layouts = {layout.first for part in parts if (layout := image_layout(part))}
        if len(layouts) > 1 or any("." in name for name in space.spaces):
            return False  # its extractors have the parts' names, and transpose all images alike
        return all(not isinstance(p, spaces.Dict) and _joined_alike(p, images) for p in parts)
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete) and np.any(space.start):
        return False  # it counts from 0
    plain = isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiBinary)
    plain = plain or (isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1)
    return plain and (images or not is_image_space(space))


def save_ppo(ppo: PPO, file: str | Path) -> None:
    """Write the zip of ``PPO.save``, and beside it the :func:`statistics_file` if it has one.

    Raises:
        InputError: if a file cannot be written; see :func:`~agents.files.check_new_file`.
    """
    file, around = Path(file), ppo.get_vec_normalize_env()
    check_new_zip(file, around is not None)
    ppo.save(zipped := io.BytesIO())
    if around is not None:
        files.write(statistics_file(file), pickle.dumps(around))
    files.write(file, zipped.getvalue())


def check_new_zip(file: Path, normalizes: bool) -> None:
    """Refuse a zip that :func:`save_ppo` could not write, before work starts.

    Args:
        file: the zip to write.
        normalizes: whether a ``VecNormalize`` goes beside it.

    Raises:
        InputError: as :func:`~agents.files.check_new_file`.
    """
    check_new_file(file, ".zip", "stable-baselines3")
    if normalizes:
        check_new_file(statistics_file(file), ".pkl", "stable-baselines3")


def read_parameters(file: str | Path, policy: Policy) -> Params:
    """Read a saved PPO's or A2C's actor as parameters of our policy, without unpickling anything.

    With these parameters our policy acts as the saved one does, with its standard deviations. A
    context keeps its value: zero, until it is adapted.

    Raises:
        InputError: if :func:`read_actor` cannot read the file, its layers, activation or actions
            differ from the policy's, or only ours normalizes observations.
    """
    policy = of_ours(policy)
    if normalization_of(policy) is not None:
        raise InputError(
            f"stable-baselines3: expected a run that takes observations as they are, as the policy "
            f"in {file} does, got one that normalizes them. Give "
            "--data.no-normalize-observations."
        )
    saved, action_space = read_actor(file)
    check_actions(policy, action_space)
    own = in_action_units(policy, dict(policy.named_parameters()))
    if own.extractor != saved.extractor:
        raise InputError(
            f"stable-baselines3: expected the features extractor {own.extractor or 'of vectors'}, "
            f"got {saved.extractor or 'that of vectors'} in {file}. Give a family with the same "
            "spaces, and for an extractor of your own --network.module."
        )
    width, given = (actor.layers[0][0].shape[1] for actor in (own, saved))
    if own.extractor and width != given:
        raise InputError(
            f"stable-baselines3: expected {width} features from {own.extractor}, got {given} in "
            f"{file}. Their number is fixed here: give a family with the same spaces, and an agent "
            "trained without features_dim or cnn_output_dim."
        )
    ours, theirs = _shapes(own), _shapes(saved)
    if ours != theirs or own.activation != saved.activation:
        hidden = "".join(f" {len(bias)}" for _, bias in saved.layers[:-1])
        raise InputError(
            f"stable-baselines3: expected shapes {ours} with {own.activation}, got "
            f"{shortened(theirs, 1000)} with "
            f"{saved.activation} in {file}. Give --network.hidden{hidden} "
            f"--network.activation {saved.activation}, and a family with the same spaces."
        )
    return in_policy_units(saved, policy)


def load_expert(file: str | Path, env: gym.Env, action_scale: float = 1.0) -> AdaptedPolicy:
    """Load a saved PPO's or A2C's actor as a policy with ``predict``, without unpickling anything.

    A features extractor of one's own has to be given first: :func:`~agents.own_modules.use_module`.

    Args:
        file: the zip to read.
        env: the environment of the actor's training, or one with the same spaces.
        action_scale: policy units of half a box's width; no action depends on it.

    Raises:
        InputError: as :func:`read_parameters`.
    """
    saved, _ = read_actor(file)
    network = NetworkConfig(
        hidden=tuple(len(bias) for _, bias in saved.layers[:-1]),
        activation=saved.activation,  # type: ignore[arg-type]
        module=f"{file}:{saved.extractor}" if saved.extractor in MODULES else None,
    )
    policy = make_policy(
        env.observation_space,
        env.action_space,
        network,
        seeds.generator(0),
        action_scale=action_scale,
    )
    params = read_parameters(file, policy)
    return adapted_policy(policy, params, env, (), {})


def _shapes(actor: Actor) -> Any:
    """Return the shapes of weights and biases in turn, of the log-std, and of features if any."""
    tensors = [tensor for layer in actor.layers for tensor in layer]
    shapes = [list(t.shape) for t in (*tensors, actor.log_std) if t is not None]
    features = {name: list(value.shape) for name, value in sorted(actor.features.items())}
    return [*shapes, features] if features else shapes
