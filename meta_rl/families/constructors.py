"""What environments tell about themselves: the arguments they take and the time they allow."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import gymnasium as gym


class Arguments(NamedTuple):
    """The names that a constructor or function can be called with."""

    named: tuple[str, ...] = ()  # in its own signature
    passed_on: tuple[str, ...] = ()  # in its base classes', which ``**kwargs`` may or may not reach
    any_name: bool = False  # whether it takes ``**kwargs``


def arguments_of(creator: Any) -> Arguments:
    """The arguments of a class or function; none of anything else."""
    if not callable(creator):
        return Arguments()
    names: list[list[str]] = []
    classes = creator.__mro__ if inspect.isclass(creator) else [creator]
    for owner in classes:
        function = owner.__dict__.get("__init__") if inspect.isclass(creator) else owner
        if function is None:
            continue
        parameters = _parameters(function)
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        names.append([p.name for p in parameters if p.kind in named and p.name != "self"])
        if all(p.kind != inspect.Parameter.VAR_KEYWORD for p in parameters):
            break
    own, *others = names or [[]]
    any_name = any(p.kind == inspect.Parameter.VAR_KEYWORD for p in _parameters(creator))
    inherited = dict.fromkeys(name for other in others for name in other if name not in own)
    return Arguments(tuple(own), tuple(inherited), any_name)


def _parameters(function: Any) -> list[inspect.Parameter]:
    """What its signature says; nothing of those built in, of which some have none."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []


def time_limit(env: gym.Env) -> int | None:
    """The shortest of the limits in force, or the one that the environment was registered with."""
    limits, layer = [], env
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, gym.wrappers.TimeLimit):
            limits.append(layer._max_episode_steps)
        layer = layer.env
    return min(limits) if limits else env.spec and env.spec.max_episode_steps
