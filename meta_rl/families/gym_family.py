"""Turn any Gymnasium environment into a task family by declaring the parameters of its tasks."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym

from meta_rl.errors import FOREIGN, InputError, refuse_running_statistics, require, require_whole
from meta_rl.families.constructors import time_limit
from meta_rl.families.effects import Tried, differ, middle_task, randomness
from meta_rl.families.effects import try_parameters as try_values
from meta_rl.families.env_maker import Borrowed, EnvMaker
from meta_rl.families.family import Family
from meta_rl.families.parameters import Parameter, ParameterSpace
from meta_rl.families.physics import Change, set_model
from meta_rl.families.reading_back import read, require_kept, require_unchanged
from meta_rl.families.rendering import prepare_rendering
from meta_rl.families.row import close
from meta_rl.families.targets import bare, without
from meta_rl.problems.observations import alike, check_observation_space, in_one_order
from meta_rl.storage.reading import named, shortened
from meta_rl.types import Task

RANDOMNESS = {
    "kept": (
        "keeps something over reset(seed): equal seeds gave two different episodes. It has a "
        "random generator of its own, or running statistics such as a normalization's. These are "
        "not saved, so a resumed run and an adapted policy meet other numbers."
    ),
    "drawn": (
        "ignores reset(seed): new environments gave different episodes for one seed, so no result "
        "can be repeated."
    ),
}
"""What is wrong with an environment, by what :func:`randomness` finds."""


class GymFamily(Family):
    """A task family over any Gymnasium environment.

        GymFamily(
            "LunarLander-v3",
            Parameter("gravity", Uniform(-11.9, -4.0), "m/s^2"),
            Parameter("wind_power", Uniform(0.0, 15.0)),
            settings={"enable_wind": True},
        )

    A parameter's ``target`` (its name by default) says what the parameter sets:

    - an argument of the environment's constructor, or ``ARGUMENT.KEY`` in a dictionary argument;
    - an attribute of the environment. It is set *while* the environment is constructed and reset,
      so values derived from it there follow. An attribute that ``step`` changes is state and is
      refused;
    - a field of a MuJoCo model: ``model.opt.gravity[2]``, ``model.body_mass[torso]``,
      ``model.geom_friction`` (a vector as long as the field), ``model.geom_friction[:,0]``. Values
      that MuJoCo derives from the field follow.

    If an environment has both an argument and an attribute of one name, write
    ``target="argument:gravity"`` or ``target="attribute:gravity"``. Name a private attribute in
    full: ``target="attribute:_gravity"``.

    The constructor tries every parameter, at every value of a choice and at five across a range. It
    refuses a parameter that the environment lacks, changes, fails with or ignores (observations and
    rewards stay equal).

    Args:
        env: a registered id; a class; a function that makes a new environment at every call, whose
            arguments the parameters can set; or one environment, used as it is, one episode after
            another (not copied and not closed).
        parameters: the parameters that tasks differ in; none for a family of the single task
            ``{}``.
        settings: further arguments, attributes or model fields, the same in all tasks.
        wrappers: wrappers to apply to every environment, the innermost first. Wrappers that keep
            running statistics, such as ``NormalizeObservation``, are refused.
        horizon: steps after which an episode is truncated; the environment's own limit when None.
            It cannot exceed a limit that a function sets.
        id: the family's id; the environment's id when None.
        source: where the environment is defined, for people.
        try_parameters: False to skip the search for effects, if a parameter acts too rarely to
            show in a few episodes, and for randomness that ignores the seed. Values are still read
            back.

    Raises:
        InputError: if the id or the arguments are wrong, a parameter cannot be applied, is not kept
            or has no effect, a wrapper normalizes by running statistics, the spaces are not
            supported or differ between tasks, or the environment has no time limit and no horizon
            is given.
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
        if horizon is not None:
            require_whole("horizon", horizon, 1)
            horizon = int(horizon)  # Gymnasium refuses numpy's integers
        _check_settings(settings)
        _check_wrappers(wrappers)
        self.space, self.source = ParameterSpace(*parameters), source
        self.episodes_at_once = 1 if isinstance(env, gym.Env) else None
        self._wrappers, self._settings = tuple(wrappers), dict(settings or {})
        self._render_modes: Sequence[str] = ()  # known once an environment is made
        if isinstance(env, gym.Env) and (parameters or settings):
            raise InputError(
                "parameters: an environment that exists already cannot be changed. Give a "
                "registered id, or a function that makes the environment."
            )
        self._maker = EnvMaker(env, horizon)
        unseen = self._maker.find_kinds(parameters, self._settings)
        for p in parameters:
            if p.scale and self._maker.kinds[p.target or p.name] == "argument":
                raise InputError(
                    f"parameter {p.name}: scale is for attributes and model fields; it is an "
                    "argument."
                )
        sample = self._build(middle_task(self))
        refuse_running_statistics(sample)
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
        close(sample)
        check_observation_space(self.observation_space)
        if parameters or self._settings:
            self._try(effects=try_parameters and bool(parameters))
        for target in unseen if try_parameters else ():
            self._require_effect_of_setting(target)
        if try_parameters and self._maker.creator is not None:
            self._warn_of_randomness()

    def around(
        self, env: str | type[gym.Env[Any, Any]], settings: Mapping[str, Any] | None = None
    ) -> GymFamily:
        """Return a family of one task over another environment.

        The new family has this family's wrappers and time limit. It takes over each setting that
        the other environment has.

        Args:
            env: the registered id of the other environment, or its class.
            settings: settings for the other environment, which override this family's.

        Raises:
            InputError: if the environment cannot be made, or the settings do not fit it.
        """
        given = dict(settings or {})
        maker = EnvMaker(env, self.horizon)
        for target, value in self._settings.items():
            # Skip a setting that the environment lacks or that the caller overrides.
            if target not in given and maker.has(target, value):
                given[target] = value
        return GymFamily(env, settings=given, wrappers=self._wrappers, horizon=self.horizon)

    def joined_as(self, space: gym.Space[Any]) -> GymFamily:
        """Return a copy whose observations are joined in the order of a space that is alike."""
        other = copy.copy(self)
        other.observation_space = space
        return other

    @property
    def summary(self) -> str:
        """Return one line that names the environment."""
        return f"{self._maker.name}, with parameters"

    def make_env(self, task: Task, render_mode: str | None = None) -> gym.Env:
        """Return a new environment of the task, or the environment given at construction.

        Args:
            task: the task to make an environment of.
            render_mode: Gymnasium's render mode; ignored by environments that do not have it.

        Raises:
            InputError: if the task does not fit, or changes the spaces.
        """
        env = self._build(self.check_task(task), render_mode)
        own, same = env.observation_space, env.action_space == self.action_space
        if not same or not alike(own, self.observation_space):
            raise InputError(
                f"environment: task {dict(task)} of {self.id} has the spaces "
                f"{own}, {env.action_space}; expected those of the other tasks, "
                f"{self.observation_space}, {self.action_space}. Wrap it to have the same."
            )
        return env if in_one_order(own, self.observation_space) else Joined(env, self)

    def _changes(self, task: Task) -> list[Change]:
        """Return the changes: the settings, then the task's parameters, with targets as written."""
        settings = [Change(target, value) for target, value in self._settings.items()]
        parameters = self.space.parameters
        return [*settings, *(Change(p.target or p.name, task[p.name], p.scale) for p in parameters)]

    def _build(self, task: Task, render_mode: str | None = None) -> gym.Env:
        env: Any
        changes = self._changes(task)
        if render_mode in self._render_modes and "render_mode" not in self._settings:
            prepare_rendering()
            changes.append(Change("render_mode", str(render_mode)))
        given = self._maker.given
        env = Borrowed(given) if isinstance(given, gym.Env) else self._maker.make(changes)
        if fields := self._maker.of_kind("model", changes):
            set_model(env, fields)
        for wrapper in self._wrappers:
            env = self._wrapped(wrapper, env)
        for name in ("observation_space", "action_space"):
            if not isinstance(space := getattr(env, name, None), gym.Space):
                raise InputError(
                    f"environment: expected a gymnasium.spaces.Space as the {name} of "
                    f"{self._maker.name}, got {shortened(space)}. Set it in its constructor."
                )
        if self._maker.limit and not self._maker.spec:
            env = gym.wrappers.TimeLimit(env, self._maker.limit)
        return env

    def _wrapped(self, wrapper: Callable[[gym.Env], gym.Env], env: gym.Env) -> gym.Env:
        try:
            outer = wrapper(env)
        except InputError:
            raise
        except FOREIGN as error:
            raise InputError(
                f"wrappers: {shortened(wrapper)} raised {named(error)}, when it was called with "
                "the environment alone. Give its other arguments by functools.partial."
            ) from error
        expected = "functions that return a gymnasium.Env"
        require(isinstance(outer, gym.Env), "wrappers", expected, outer)
        return outer

    def _try(self, effects: bool) -> None:
        """Make environments at several values, and refuse values that are not kept or do not act.

        Raises:
            InputError: naming the parameter or setting, and the value.
        """
        changes = {c.target: c for c in self._changes(middle_task(self))}

        def read_all(env: gym.Env) -> dict[str, Any]:
            return {t: read(env, self._maker.kinds[t], bare(t)) for t in changes}

        def judge(target: str, tried: Sequence[tuple[Any, Tried]]) -> None:
            kind, name = self._maker.kinds[target], bare(target)
            pairs = [(asked, found.before[target]) for asked, found in tried]
            require_kept(kind, name, changes[target].scale, pairs)
            for _, found in tried if kind != "argument" else ():
                require_unchanged(name, found.before[target], found.after[target])

        middle = try_values(self, read_all, judge, effects=effects)
        for target, value in self._settings.items():
            judge(target, [(value, middle)])

    def _warn_of_randomness(self) -> None:
        """Warn if a resumed run or a deployed policy would meet another environment."""
        try:
            found = randomness(self, middle_task(self))
        except InputError:  # who steps it will say more
            return
        if found:
            warnings.warn(
                f"environment: {self.id} {RANDOMNESS[found]} Use self.np_random, and scale by "
                "fixed numbers.",
                stacklevel=3,
            )

    def _require_effect_of_setting(self, target: str) -> None:
        """Refuse a key inside a dictionary setting if the key changes nothing."""
        other = copy.copy(self)
        other._settings = without(self._settings, target)
        try:
            known = differ(self, other, middle_task(self))
        except InputError:  # the environment needs the key
            known = True
        if not known:
            raise InputError(
                f"settings: {target} changes neither observations nor rewards of {self.id}. "
                "Check its name; if it acts only rarely, give try_parameters=False."
            )


def beside(family: Any, env: Any, settings: Mapping[str, Any] | None = None) -> GymFamily:
    """Return a family of one task over an environment that a policy of ``family`` is to act in.

    Args:
        family: the family of meta-training. A class, which has no time limit, gets the family's. If
            the family is a :class:`GymFamily`, an id or a class gets its wrappers, time limit and
            settings; see :meth:`GymFamily.around`.
        env: a registered id, a class, a function, or one environment that is used as it is.
        settings: settings for the environment.
    """
    if isinstance(family, GymFamily) and isinstance(env, str | type):
        return family.around(env, settings)
    horizon = family.horizon if isinstance(env, type) else None
    return GymFamily(env, settings=settings, horizon=horizon)


class Joined(gym.Wrapper):
    """Says that a Dict's parts are joined in the order of the family's space."""

    def __init__(self, env: gym.Env, family: GymFamily):
        super().__init__(env)
        self.observation_space = family.observation_space


def _check_settings(settings: Any) -> None:
    """Refuse settings that are not a dictionary with text keys."""
    expected = "a dictionary of values by name"
    require(isinstance(settings, Mapping | None), "settings", expected, settings)
    for name in settings or {}:
        require(isinstance(name, str), "settings", expected, settings)


def _check_wrappers(wrappers: Any) -> None:
    """Refuse wrappers that are not a list of callables."""
    expected = "a list of functions from an environment to an environment"
    require(isinstance(wrappers, list | tuple), "wrappers", expected, wrappers)
    require(all(map(callable, wrappers)), "wrappers", expected, wrappers)
