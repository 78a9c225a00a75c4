"""Read from environments the arguments that they take and their time limits."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import gymnasium as gym


class Arguments(NamedTuple):
    """The names that a constructor or function can be called with."""

    named: tuple[str, ...] = ()  # in the callable's own signature
    passed_on: tuple[str, ...] = ()  # in base classes' signatures, which ``**kwargs`` may reach
    any_name: bool = False  # whether the callable takes ``**kwargs``


def arguments_of(creator: Any) -> Arguments:
    """Return the arguments of a class or function; none for anything else."""
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
    """Return the parameters of a signature; none for builtins without a signature."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []


def time_limit(env: gym.Env) -> int | None:
    """Return the shortest limit of the wrappers, else the registered one; None without either."""
    limits, layer = [], env
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, gym.wrappers.TimeLimit):
            limits.append(layer._max_episode_steps)
        layer = layer.env
    return min(limits) if limits else env.spec and env.spec.max_episode_steps
