"""What environments tell about themselves: the arguments they take and the time they allow."""

from __future__ import annotations

import inspect
from typing import Any

import gymnasium as gym


def argument_names(creator: Any) -> list[str]:
    """Names a constructor or function takes, also through ``**kwargs`` to its base classes."""
    names: list[str] = []
    classes = creator.__mro__ if inspect.isclass(creator) else [creator]
    for owner in classes:
        function = owner.__dict__.get("__init__") if inspect.isclass(creator) else owner
        if function is None:
            continue
        parameters = list(inspect.signature(function).parameters.values())
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        names += [p.name for p in parameters if p.kind in named and p.name != "self"]
        if all(p.kind != inspect.Parameter.VAR_KEYWORD for p in parameters):
            break
    return list(dict.fromkeys(names))


def time_limit(env: gym.Env) -> int | None:
    """The shortest of the limits in force, or the one that the environment was registered with."""
    limits, layer = [], env
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, gym.wrappers.TimeLimit):
            limits.append(layer._max_episode_steps)
        layer = layer.env
    return min(limits) if limits else env.spec and env.spec.max_episode_steps
