"""Any one environment as a family of a single task."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, cast

import gymnasium as gym

from envs.family import Family
from envs.parameters import ParameterSpace
from meta_rl.errors import InputError
from meta_rl.types import Task


class GymFamily(Family):
    """One environment as a family of a single task, ``{}``.

    Args:
        env: a registered id; or a function that makes a new environment at every call; or one
            environment, used as it is, with whatever was changed in it by hand, one episode after
            another (it is not copied, and not closed).
        kwargs: arguments for the constructor, with an id.
        horizon: steps after which an episode is truncated; the environment's own when None.

    Raises:
        InputError: if the id or the arguments are wrong, the spaces are not supported, or the
            environment has no time limit and no horizon is given.
    """

    space = ParameterSpace()

    def __init__(
        self,
        env: str | gym.Env | Callable[[], gym.Env],
        kwargs: Mapping[str, Any] | None = None,
        horizon: int | None = None,
    ):
        self._make = _maker(env, dict(kwargs or {}))
        self.episodes_at_once = 1 if isinstance(env, gym.Env) else None
        sample = self._make()
        self.id = sample.spec.id if sample.spec else type(sample.unwrapped).__name__
        limit = horizon or _time_limit(sample)
        if limit is None:
            raise InputError(
                f"environment: {self.id} has no time limit. Wrap it in "
                "gymnasium.wrappers.TimeLimit, or give GymFamily a horizon."
            )
        self._horizon_given = horizon
        self.horizon = int(limit)
        self.observation_space, self.action_space = sample.observation_space, sample.action_space
        sample.close()
        if not isinstance(self.observation_space, gym.spaces.Box):
            raise InputError(
                f"environment: expected Box observations, {self.id} has {self.observation_space}. "
                "Wrap it in gymnasium.wrappers.FlattenObservation."
            )

    def make_env(self, task: Task) -> gym.Env:
        """A new environment, or the one given."""
        self.check_task(task)
        env = self._make()
        if self._horizon_given is not None:
            return gym.wrappers.TimeLimit(env, self._horizon_given)
        return env


class _Borrowed(gym.Wrapper):
    """A caller's own environment: closing it is the caller's business."""

    def close(self) -> None:
        pass


def _maker(env: Any, kwargs: dict[str, Any]) -> Callable[[], gym.Env]:
    """A function without arguments that gives a fresh environment."""
    if isinstance(env, str):
        return lambda: _make_registered(env, kwargs)
    if isinstance(env, gym.Env):
        return lambda: _Borrowed(env)
    if callable(env):
        return cast(Callable[[], gym.Env], env)
    raise InputError(
        f"environment: expected a Gymnasium id, a gymnasium.Env or a function, got {env!r}."
    )


def _time_limit(env: gym.Env) -> int | None:
    """The shortest of the limits in force, or the one that the environment was registered with."""
    limits, layer = [], env
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, gym.wrappers.TimeLimit):
            limits.append(layer._max_episode_steps)
        layer = layer.env
    return min(limits) if limits else env.spec and env.spec.max_episode_steps


def _make_registered(env_id: str, kwargs: dict[str, Any]) -> gym.Env:
    try:
        return gym.make(env_id, disable_env_checker=True, **kwargs)
    except gym.error.Error as error:
        near = difflib.get_close_matches(env_id, gym.registry, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(f"environment: cannot make {env_id!r}: {error}{hint}") from error
    except (TypeError, ValueError, ImportError) as error:
        raise InputError(f"environment: cannot make {env_id!r} with {kwargs}: {error}") from error
