"""Any Gymnasium environment as a task family, by declaring which of its numbers tasks differ in."""

from __future__ import annotations

import copy
import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import load_env_creator

from envs.family import Family
from envs.parameters import Parameter, ParameterSpace
from envs.physics import MODEL_FIELD, Change, change_model, load_mujoco
from meta_rl.errors import InputError, require
from meta_rl.types import Task


class GymFamily(Family):
    """A family over any Gymnasium environment.

        GymFamily(
            "LunarLander-v3",
            Parameter("gravity", Uniform(-11.9, -4.0), "m/s^2"),
            Parameter("wind_power", Uniform(0.0, 15.0)),
            kwargs={"enable_wind": True},
        )

    Where a parameter's value goes, by its ``target`` (its name, unless given):

    - an argument of the environment's constructor, or ``ARGUMENT.KEY`` inside a dictionary of it;
    - an attribute of the environment. It is set *while* the constructor runs, at its first
      assignment there, so that whatever the constructor derives from it follows;
    - a field of a MuJoCo model: ``model.opt.gravity[2]``, ``model.body_mass[torso]``,
      ``model.geom_friction`` (a vector as long as the field), ``model.geom_friction[:,0]``. What
      MuJoCo derives follows.

    Every parameter is tried at construction: one that the environment does not have, or that
    changes neither observations nor rewards, is refused.

    Args:
        env: a registered id; or a function that makes a new environment at every call, whose
            arguments are what parameters can set; or one environment, used as it is, with whatever
            was changed in it by hand, one episode after another (not copied, and not closed).
        parameters: what tasks differ in; none for a family of the single task ``{}``.
        kwargs: further arguments of the constructor, the same in all tasks.
        wrappers: applied to every environment, the first innermost.
        horizon: steps after which an episode is truncated; the environment's own when None.
        id: the family's; the environment's when None.
        source: where it is defined, for people.
        try_parameters: False if an effect shows too rarely to be seen in a few episodes.

    Raises:
        InputError: if the id or the arguments are wrong, a parameter cannot be applied or has no
            effect, the spaces are not supported or differ between tasks, or the environment has no
            time limit and no horizon is given.
    """

    def __init__(
        self,
        env: str | gym.Env | Callable[..., gym.Env],
        *parameters: Parameter,
        kwargs: Mapping[str, Any] | None = None,
        wrappers: Sequence[Callable[[gym.Env], gym.Env]] = (),
        horizon: int | None = None,
        id: str | None = None,
        source: str = "",
        try_parameters: bool = True,
    ):
        require(horizon is None or horizon >= 1, "horizon", "1 or more", horizon)
        self.space, self.source = ParameterSpace(*parameters), source
        self.episodes_at_once = 1 if isinstance(env, gym.Env) else None
        self._env, self._kwargs, self._wrappers = env, dict(kwargs or {}), tuple(wrappers)
        self._creator = self._find_creator()
        self._targets = {p.name: self._find_target(p) for p in parameters}
        self._limit = horizon
        sample = self._build(self._middle())
        self.id = id or (sample.spec.id if sample.spec else type(sample.unwrapped).__name__)
        limit = horizon or _time_limit(sample)
        if limit is None:
            raise InputError(
                f"environment: {self.id} has no time limit. Wrap it in "
                "gymnasium.wrappers.TimeLimit, or give GymFamily a horizon."
            )
        self.horizon = int(limit)
        self.observation_space, self.action_space = sample.observation_space, sample.action_space
        sample.close()
        if not isinstance(self.observation_space, gym.spaces.Box):
            raise InputError(
                f"environment: expected Box observations, {self.id} has {self.observation_space}. "
                "Wrap it: wrappers=[gymnasium.wrappers.FlattenObservation]."
            )
        if try_parameters:
            for parameter in parameters:
                self._try(parameter)

    def make_env(self, task: Task) -> gym.Env:
        """A new environment of this task, or the one given.

        Raises:
            InputError: if the task does not fit, or changes the spaces.
        """
        env = self._build(self.check_task(task))
        same = env.action_space == self.action_space
        if not same or env.observation_space.shape != self.observation_space.shape:
            raise InputError(
                f"environment: task {dict(task)} of {self.id} has the spaces "
                f"{env.observation_space}, {env.action_space}; expected those of the other tasks, "
                f"{self.observation_space}, {self.action_space}. Wrap it to have the same."
            )
        return env

    def _build(self, task: Task) -> gym.Env:
        if isinstance(self._env, gym.Env):
            env: gym.Env = _Borrowed(self._env)
        else:
            kwargs, attributes = self._arguments(task)
            env = self._make(kwargs, attributes)
        fields = {n: t for n, (kind, t) in self._targets.items() if kind == "model"}
        if fields:
            scaled = {p.name: p.scale for p in self.space.parameters}
            _set_model(env, [(fields[n], task[n], scaled[n]) for n in fields])
        for wrapper in self._wrappers:
            env = wrapper(env)
        return gym.wrappers.TimeLimit(env, self._limit) if self._limit else env

    def _arguments(self, task: Task) -> tuple[dict[str, Any], dict[str, tuple[Any, bool]]]:
        """The constructor's arguments, and the attributes to set: value and whether it scales."""
        kwargs, attributes = copy.deepcopy(self._kwargs), {}
        for parameter in self.space.parameters:
            kind, target = self._targets[parameter.name]
            value = task[parameter.name]
            if kind == "attribute":
                attributes[target] = (value, parameter.scale)
            elif kind == "argument":
                first, *rest = target.split(".")
                if not rest:
                    kwargs[first] = value
                else:
                    inside = kwargs.setdefault(first, {})
                    for key in rest[:-1]:
                        inside = inside.setdefault(key, {})
                    inside[rest[-1]] = value
        return kwargs, attributes

    def _make(self, kwargs: dict[str, Any], attributes: dict[str, tuple[Any, bool]]) -> gym.Env:
        if not isinstance(self._env, str):
            assert callable(self._env)
            return self._env(**kwargs)
        try:
            spec: Any = self._env
            if attributes:
                spec = replace(
                    gym.spec(self._env), entry_point=_changed_class(self._creator, attributes)
                )
            return gym.make(spec, disable_env_checker=True, **kwargs)
        except gym.error.Error as error:
            near = difflib.get_close_matches(self._env, gym.registry, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise InputError(f"environment: cannot make {self._env!r}: {error}{hint}") from error
        except (TypeError, ValueError, ImportError) as error:
            raise InputError(
                f"environment: cannot make {self._env!r} with {kwargs}: {error}"
            ) from error

    def _find_creator(self) -> Any:
        """The class or function that makes the environment."""
        if not isinstance(self._env, str):
            if not isinstance(self._env, gym.Env) and not callable(self._env):
                raise InputError(
                    "environment: expected a Gymnasium id, a gymnasium.Env or a function, "
                    f"got {self._env!r}."
                )
            return self._env
        if not self.space.parameters:
            return None  # gym.make says best what is wrong with an id
        self._make(dict(self._kwargs), {}).close()
        entry_point = gym.spec(self._env).entry_point
        return load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point

    def _find_target(self, parameter: Parameter) -> tuple[str, str]:
        """``argument``, ``attribute`` or ``model``, and the target there."""
        target = parameter.target or parameter.name
        if isinstance(self._env, gym.Env):
            raise InputError(
                f"parameter {parameter.name}: an environment used as it is cannot be changed. "
                "Give a registered id or a function."
            )
        if MODEL_FIELD.match(target):
            return "model", target
        arguments = _argument_names(self._creator)
        if target.split(".")[0] in arguments:
            if parameter.scale:
                raise InputError(
                    f"parameter {parameter.name}: scale is for attributes and model fields; "
                    f"{target} is an argument."
                )
            return "argument", target
        known = list(arguments)
        if inspect.isclass(self._creator) and isinstance(self._env, str):
            sample = self._make(dict(self._kwargs), {})
            attributes = [n for n in dir(sample.unwrapped) if not n.startswith("_")]
            sample.close()
            if target in attributes:
                return "attribute", target
            known += attributes
        near = ", ".join(difflib.get_close_matches(target, known, 3)) or ", ".join(arguments)
        raise InputError(
            f"parameter {parameter.name}: {self._env} has no argument, attribute or model field "
            f"{target!r}. The nearest it has: {near or 'none'}."
        )

    def _middle(self) -> Task:
        return {p.name: _at(p, 0.5) for p in self.space.parameters}

    def _try(self, parameter: Parameter) -> None:
        """Refuse a parameter that changes nothing in a few episodes of random actions."""
        ends = [{**self._middle(), parameter.name: _at(parameter, q)} for q in (0.02, 0.98)]
        for seed in range(3):
            episodes = [self._episode(task, seed) for task in ends]
            if any(a != b for a, b in zip_longest(*episodes)):
                return
        raise InputError(
            f"parameter {parameter.name}: {ends[0][parameter.name]!r} and "
            f"{ends[1][parameter.name]!r} gave equal observations and rewards in {self.id} over 3 "
            "episodes. Check its target; if it acts only rarely, give try_parameters=False."
        )

    def _episode(self, task: Task, seed: int) -> Iterator[tuple[bytes, float, bool]]:
        env = self.make_env(task)
        self.action_space.seed(seed)
        actions = [self.action_space.sample() for _ in range(min(self.horizon, 300))]
        obs, _ = env.reset(seed=seed)
        yield np.asarray(obs).tobytes(), 0.0, False
        for action in actions:
            obs, reward, terminated, truncated, _ = env.step(action)
            yield np.asarray(obs).tobytes(), float(reward), bool(terminated)
            if terminated or truncated:
                break
        env.close()


class _Borrowed(gym.Wrapper):
    """A caller's own environment: closing it is the caller's business."""

    def close(self) -> None:
        pass


def _at(parameter: Parameter, quantile: float) -> Any:
    entries = tuple(parameter.distribution.at(quantile) for _ in range(parameter.size or 1))
    return entries[0] if parameter.size is None else entries


def _argument_names(creator: Any) -> list[str]:
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


def _changed_class(base: type, attributes: Mapping[str, tuple[Any, bool]]) -> type:
    """The class with these attributes pinned from their first assignment on.

    Setting an attribute when the constructor has run would leave what it derived from the old
    value (CartPole's ``polemass_length``) as it was.
    """
    own = {name: value for name, value in attributes.items() if hasattr(base, name)}

    def setattr_(self: Any, name: str, value: Any) -> None:
        if name in attributes:
            new, scale = attributes[name]
            first = name not in self.__dict__
            value = (value * new if first else value) if scale else new
        super(changed, self).__setattr__(name, value)

    body = {
        "__setattr__": setattr_,
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        # Attributes of the class itself are never assigned by the constructor.
        **{n: getattr(base, n) * new if scale else new for n, (new, scale) in own.items()},
    }
    changed: type = type(base.__name__, (base,), body)
    return changed


def _set_model(env: gym.Env, changes: Sequence[Change]) -> None:
    """Write MuJoCo model fields and what MuJoCo derives from them."""
    model: Any = getattr(env.unwrapped, "model", None)
    if not isinstance(model, load_mujoco().MjModel):
        raise InputError(f"environment: {env.unwrapped} has no MuJoCo model for {changes[0][0]}.")
    change_model(model, changes)


def _time_limit(env: gym.Env) -> int | None:
    """The shortest of the limits in force, or the one that the environment was registered with."""
    limits, layer = [], env
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, gym.wrappers.TimeLimit):
            limits.append(layer._max_episode_steps)
        layer = layer.env
    return min(limits) if limits else env.spec and env.spec.max_episode_steps
