"""Any Gymnasium environment as a task family, by declaring which of its numbers tasks differ in."""

from __future__ import annotations

import copy
import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator

from envs.constructors import argument_names, time_limit
from envs.effects import require_effect, value_at
from envs.family import Family
from envs.parameters import Parameter, ParameterSpace
from envs.physics import MODEL_FIELD, Change, change_model, load_mujoco
from envs.pinned import pinned_class
from envs.rendering import prepare_rendering
from meta_rl.errors import InputError, hint, require
from meta_rl.types import Task

MAKE_ARGUMENTS = ("render_mode", "max_episode_steps")  # of gymnasium.make itself


class GymFamily(Family):
    """A family over any Gymnasium environment.

        GymFamily(
            "LunarLander-v3",
            Parameter("gravity", Uniform(-11.9, -4.0), "m/s^2"),
            Parameter("wind_power", Uniform(0.0, 15.0)),
            settings={"enable_wind": True},
        )

    Where a parameter's value goes, by its ``target`` (its name, unless given):

    - an argument of the environment's constructor, or ``ARGUMENT.KEY`` inside a dictionary of it;
    - an attribute of the environment, set *while* it is constructed and reset, so that whatever is
      derived from it there follows (not one that ``step`` changes: that is state);
    - a field of a MuJoCo model: ``model.opt.gravity[2]``, ``model.body_mass[torso]``,
      ``model.geom_friction`` (a vector as long as the field), ``model.geom_friction[:,0]``. What
      MuJoCo derives follows.

    Every parameter is tried at construction: one that the environment does not have, or that
    changes neither observations nor rewards, is refused.

    Args:
        env: a registered id; a class; a function that makes a new environment at every call, whose
            arguments are what parameters can set; or one environment, used as it is, with whatever
            was changed in it by hand, one episode after another (not copied, and not closed).
        parameters: what tasks differ in; none for a family of the single task ``{}``.
        settings: further arguments, attributes or model fields, the same in all tasks.
        wrappers: applied to every environment, the first innermost.
        horizon: steps after which an episode is truncated, at most the environment's own limit
            where a function sets one; the environment's own when None.
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
        settings: Mapping[str, Any] | None = None,
        wrappers: Sequence[Callable[[gym.Env], gym.Env]] = (),
        horizon: int | None = None,
        id: str | None = None,
        source: str = "",
        try_parameters: bool = True,
    ):
        require(horizon is None or horizon >= 1, "horizon", "1 or more", horizon)
        self.space, self.source = ParameterSpace(*parameters), source
        self.episodes_at_once = 1 if isinstance(env, gym.Env) else None
        self._env, self._wrappers = env, tuple(wrappers)
        self._settings, self._kinds = dict(settings or {}), {}
        self._render_modes: Sequence[str] = ()  # known once there is one to look at
        self._limit, self._spec, self._own = horizon, None, set()
        self._creator = self._find_creator()
        # What the constructor takes first: without it there may be no environment to look at.
        targets = [*self._settings, *(p.target or p.name for p in parameters)]
        arguments = argument_names(self._creator) if callable(self._creator) else []
        if "render_mode" in arguments:
            self._kinds["render_mode"] = "argument"
        for target in sorted(targets, key=lambda t: t.split(".")[0] not in arguments):
            self._kinds[target] = self._kind(target, arguments)
        for p in parameters:
            if p.scale and self._kinds[p.target or p.name] == "argument":
                raise InputError(
                    f"parameter {p.name}: scale is for attributes and model fields; it is an "
                    "argument."
                )
        sample = self._build({p.name: value_at(p, 0.5) for p in parameters})
        self.id = id or (sample.spec.id if sample.spec else type(sample.unwrapped).__name__)
        limit = time_limit(sample)
        if limit is None:
            raise InputError(
                f"environment: {self.id} has no time limit. Wrap it in "
                "gymnasium.wrappers.TimeLimit, or give GymFamily a horizon."
            )
        self.horizon = int(limit)
        self.observation_space, self.action_space = sample.observation_space, sample.action_space
        self._render_modes = sample.metadata.get("render_modes") or ()
        sample.close()
        if not isinstance(self.observation_space, gym.spaces.Box):
            raise InputError(
                f"environment: expected Box observations, {self.id} has {self.observation_space}. "
                "Wrap it: wrappers=[gymnasium.wrappers.FlattenObservation]."
            )
        if try_parameters:
            for parameter in parameters:
                require_effect(self, parameter)

    @property
    def summary(self) -> str:
        """Whose environment it is."""
        return f"{self._name()}, with parameters"

    def make_env(self, task: Task, render_mode: str | None = None) -> gym.Env:
        """A new environment of this task, or the one given.

        Args:
            task: of the family.
            render_mode: Gymnasium's; ignored by environments that do not have it.

        Raises:
            InputError: if the task does not fit, or changes the spaces.
        """
        env = self._build(self.check_task(task), render_mode)
        same = env.action_space == self.action_space
        if not same or env.observation_space.shape != self.observation_space.shape:
            raise InputError(
                f"environment: task {dict(task)} of {self.id} has the spaces "
                f"{env.observation_space}, {env.action_space}; expected those of the other tasks, "
                f"{self.observation_space}, {self.action_space}. Wrap it to have the same."
            )
        return env

    def _build(self, task: Task, render_mode: str | None = None) -> gym.Env:
        env: Any
        changes = [Change(target, value) for target, value in self._settings.items()]
        changes += [
            Change(p.target or p.name, task[p.name], p.scale) for p in self.space.parameters
        ]
        if render_mode in self._render_modes and "render_mode" not in self._settings:
            prepare_rendering()
            changes.append(Change("render_mode", str(render_mode)))
        env = _Borrowed(self._env) if isinstance(self._env, gym.Env) else self._make(changes)
        if not isinstance(env, gym.Env):
            raise InputError(
                f"environment: expected a gymnasium.Env from {self._env}, got {env!r}."
            )
        fields = [c for c in changes if self._kinds.get(c.target) == "model"]
        if fields:
            _set_model(env, fields)
        for wrapper in self._wrappers:
            env = wrapper(env)
        if self._limit and not self._spec:
            env = gym.wrappers.TimeLimit(env, self._limit)
        return env

    def _make(self, changes: Sequence[Change]) -> gym.Env:
        """A new environment, with those changes that are known to be arguments or attributes."""
        kwargs = self._arguments(changes)
        creator = self._creator
        attributes = {c.target: c for c in changes if self._kinds.get(c.target) == "attribute"}
        if attributes:
            creator = pinned_class(creator, attributes, self._own & attributes.keys())
        try:
            if self._spec is None:
                return creator(**kwargs)
            # Without its own arguments, because those given replace them one by one.
            spec = replace(self._spec, entry_point=creator, kwargs={})
            if self._limit:
                kwargs = {"max_episode_steps": self._limit, **kwargs}
            return gym.make(spec, disable_env_checker=True, **kwargs)
        except InputError:
            raise
        except Exception as error:
            given = f" with {kwargs}" if kwargs else ""
            raise InputError(
                f"environment: cannot make {self._name()!r}{given}: {type(error).__name__}: {error}"
            ) from error

    def _arguments(self, changes: Sequence[Change]) -> dict[str, Any]:
        """The constructor's arguments: those it is registered with, then what changes."""
        kwargs: dict[str, Any] = copy.deepcopy(self._spec.kwargs) if self._spec else {}
        arguments = [c for c in changes if self._kinds.get(c.target) == "argument"]
        for change in sorted(arguments, key=lambda c: c.target.count(".")):  # wholes before parts
            *path, last = change.target.split(".")
            inside = kwargs
            for key in path:
                inside[key] = dict(inside.get(key) or {})
                inside = inside[key]
            inside[last] = change.value
        return kwargs

    def _name(self) -> str:
        return self._env if isinstance(self._env, str) else getattr(self._env, "__name__", "it")

    def _find_creator(self) -> Any:
        """The class or function that makes the environment."""
        if isinstance(self._env, gym.Env):
            if self.space.parameters or self._settings:
                raise InputError(
                    "parameters: an environment used as it is cannot be changed. Give a registered "
                    "id or a function that makes it."
                )
            return None
        if not isinstance(self._env, str):
            if not callable(self._env):
                raise InputError(
                    "environment: expected a Gymnasium id, a gymnasium.Env or a function, "
                    f"got {self._env!r}."
                )
            return self._env
        try:
            self._spec = gym.make(self._env, disable_env_checker=True).spec
        except gym.error.Error as error:
            near = hint(self._env, gym.registry)
            raise InputError(f"environment: cannot make {self._env!r}: {error}{near}") from error
        except Exception:  # it needs arguments, perhaps
            self._spec = gym.spec(self._env)
        assert self._spec
        entry_point = self._spec.entry_point
        return load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point

    def _kind(self, target: str, arguments: Sequence[str]) -> str:
        """``argument``, ``attribute`` or ``model``.

        Raises:
            InputError: if the environment has nothing of this name.
        """
        if MODEL_FIELD.match(target):
            return "model"
        if target.split(".")[0] in (*arguments, *MAKE_ARGUMENTS):
            return "argument"
        known = list(arguments)
        if inspect.isclass(self._creator):
            sample: Any = self._make([Change(t, v) for t, v in self._settings.items()]).unwrapped
            attributes = [n for n in dir(sample) if not n.startswith("_")]
            sample.close()
            if target in attributes:
                # What the class alone has is changed there; a property passes through its setter.
                descriptor = hasattr(type(getattr(type(sample), target, None)), "__set__")
                if target in vars(sample) or descriptor:
                    self._own.add(target)
                return "attribute"
            known += attributes
        near = ", ".join(difflib.get_close_matches(target, known, 3)) or ", ".join(arguments)
        raise InputError(
            f"parameter {target}: {self._name()} has no argument, attribute or model field of this "
            f"name. The nearest it has: {near or 'none'}."
        )


def _set_model(env: gym.Env, changes: Sequence[Change]) -> None:
    """Write MuJoCo model fields and what MuJoCo derives from them."""
    model: Any = getattr(env.unwrapped, "model", None)
    if model is None or not isinstance(model, load_mujoco().MjModel):
        target = changes[0].target
        raise InputError(f"environment: {env.unwrapped} has no MuJoCo model for {target}.")
    change_model(model, changes)


class _Borrowed(gym.Wrapper):
    """A caller's own environment: closing it is the caller's business."""

    def close(self) -> None:
        pass
