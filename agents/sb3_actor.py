"""Convert our policies' layers to the units of stable-baselines3's policies, and back.

Both compute the same function. First theirs, in the units of the action space, then ours:

    clip(W h(obs) + b),                                    std exp(log_std)
    clip(centre + half_width / scale * (W' h(obs) + b')),  std half_width / scale * exp(log_std')

The scaling is linear, so it goes into the last layer and the log-std. The context of a
:class:`~agents.networks.ContextNetwork` is a constant input, so it goes into the first bias. Both
are computed in float64. Weights of a policy without scaling and context are copied bit for bit;
otherwise predictions agree to float32's rounding. Features extractors are copied as they are
(:mod:`agents.sb3_features`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from meta_rl.errors import InputError
from meta_rl.storage.reading import shortened
from meta_rl.types import Params

from .factored import BernoulliPolicy, MultiCategoricalPolicy
from .networks import ACTIVATIONS, ContextNetwork
from .policies import MIN_LOG_STD, CategoricalPolicy, GaussianPolicy
from .sb3_features import Parts, extractor_of, features_state, parts_of

OurPolicy = GaussianPolicy | CategoricalPolicy | MultiCategoricalPolicy | BernoulliPolicy


class Actor(NamedTuple):
    """An actor: its features extractor, and the layers to the action space itself; float64."""

    layers: list[tuple[Tensor, Tensor]]  # weight (out, in) and bias (out,), first to last
    log_std: Tensor | None  # (A,), or None for discrete actions
    activation: str
    extractor: str = ""  # name of the features extractor's class; empty if it only flattens
    features: Mapping[str, Tensor] = {}  # the extractor's tensors, by stable-baselines3's names


def of_ours(policy: nn.Module) -> OurPolicy:
    """Return the policy if it is one of ours.

    Raises:
        InputError: if it is another.
    """
    if not isinstance(policy, OurPolicy):
        raise InputError(
            f"stable-baselines3: expected one of our policies, got a {type(policy).__name__}."
        )
    return policy


def check_actions(policy: OurPolicy, theirs: Mapping[str, Any]) -> None:
    """Refuse another action space whose actions differ from the policy's, even if as many.

    Args:
        policy: our policy.
        theirs: attributes of the other action space: numbers, or numpy's text for them.

    Raises:
        InputError: if the actions differ, have no range, or are not counted from 0
            (stable-baselines3 does not add a Discrete space's start).
    """
    if isinstance(policy, GaussianPolicy):
        ours = {"low": policy.low.cpu().numpy(), "high": policy.high.cpu().numpy()}
        if bool((policy.half_width == 0).any()):
            raise InputError(f"action space: expected actions with a range, got {ours}.")
    elif isinstance(policy, BernoulliPolicy):
        ours = {"n": math.prod(policy.shape)}
    else:
        several = isinstance(policy, MultiCategoricalPolicy)
        counts = {"nvec": policy.choices} if several else {"n": network_of(policy).outputs}
        ours = {**counts, "start": np.asarray(policy.start.tolist() if several else policy.start)}
        if ours["start"].any():
            raise InputError(f"action space: expected actions counted from 0, got {ours}.")
    got = {key: theirs[key] for key in ("low", "high", "n", "nvec", "start") if key in theirs}
    if got.keys() != ours.keys() or not all(_same(ours[key], got[key]) for key in ours):
        raise InputError(
            f"action space: expected {ours}, got {shortened(got)}. The two must mean the same by "
            "an action; train on the environment as the family makes it, without RescaleAction "
            "around it."
        )


def in_action_units(policy: OurPolicy, params: Mapping[str, Any]) -> Actor:
    """Return the actor that maps observations to the action space itself.

    Raises:
        InputError: if stable-baselines3 has no features extractor like the policy's.
    """
    parts = network_of(policy)
    values = {key: value.detach().double().cpu() for key, value in params.items()}
    linear = [i for i, layer in enumerate(parts.perceptron) if isinstance(layer, nn.Linear)]
    own = (f"{parts.prefix}{i}." for i in linear)
    layers = [(values[f"{name}weight"], values[f"{name}bias"]) for name in own]
    if isinstance(parts.perceptron, ContextNetwork):
        (weight, bias), context = layers[0], values[f"{parts.prefix}context"]
        inputs = weight.shape[1] - len(context)
        layers[0] = weight[:, :inputs], bias + weight[:, inputs:] @ context
    log_std = None
    if isinstance(policy, GaussianPolicy):
        (weight, bias), factor = layers[-1], _factor(policy)
        layers[-1] = factor[:, None] * weight, policy.centre.double().cpu() + factor * bias
        log_std = values["log_std"].clamp(min=MIN_LOG_STD) + factor.log()
    extractor = extractor_of(parts)
    features = {} if extractor is None else features_state(parts, extractor, values)
    name = "" if extractor is None else extractor.name
    return Actor(layers, log_std, _activation(parts.perceptron), name, features)


def _activation(perceptron: nn.Sequential) -> str:
    """Return the name of the activation; of stable-baselines3's default if there is none."""
    found = (
        key for layer in perceptron for key, kind in ACTIVATIONS.items() if type(layer) is kind
    )
    return next(found, "tanh")


def in_policy_units(actor: Actor, policy: OurPolicy) -> Params:
    """Invert :func:`in_action_units`: return an actor's tensors as the policy's own parameters."""
    parts = network_of(policy)
    layers = list(actor.layers)
    own = {key: value.detach().clone() for key, value in policy.state_dict().items()}
    values: dict[str, Tensor] = {}
    if isinstance(policy, GaussianPolicy) and actor.log_std is not None:
        (weight, bias), factor = layers[-1], _factor(policy)
        layers[-1] = weight / factor[:, None], (bias - policy.centre.double().cpu()) / factor
        values["log_std"] = actor.log_std - factor.log()
    if isinstance(parts.perceptron, ContextNetwork):
        weight, bias = layers[0]
        beside = own[f"{parts.prefix}0.weight"][:, weight.shape[1] :].double().cpu()
        layers[0] = torch.cat([weight, beside], 1), bias
    for i, (weight, bias) in enumerate(layers):
        values |= {f"{parts.prefix}{2 * i}.weight": weight, f"{parts.prefix}{2 * i}.bias": bias}
    if extractor := extractor_of(parts):
        for name, theirs in extractor.names.items():
            values[parts.features_prefix + name] = actor.features[theirs]
    return {key: values[key].to(like) if key in values else like for key, like in own.items()}


def network_of(policy: OurPolicy) -> Parts:
    """Return the parts of the policy's network."""
    if isinstance(policy, GaussianPolicy):
        return parts_of("mean", policy.mean)
    return parts_of("logits", policy.logits)


def _factor(policy: GaussianPolicy) -> Tensor:
    """Return action units per policy unit, ``(A,)``."""
    return policy.half_width.double().cpu() / policy.action_scale


def _same(ours: Any, theirs: Any) -> bool:
    """Return whether numbers agree to float32's rounding; theirs may be text, as "[-2. 2.]"."""
    words = re.sub(r"[\[\]]", " ", theirs).split() if isinstance(theirs, str) else theirs
    try:
        theirs = np.asarray(words, dtype=float).flatten()
    except (TypeError, ValueError, OverflowError):
        return False
    ours = np.asarray(ours).flatten()
    return ours.shape == theirs.shape and bool(np.allclose(ours, theirs, rtol=1e-6, atol=0))
