"""Make one environment from an id, a class or a function, with changes to it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator

from meta_rl.errors import FOREIGN, InputError, hint
from meta_rl.families.constructors import arguments_of
from meta_rl.families.effects import value_at
from meta_rl.families.parameters import Parameter
from meta_rl.families.physics import Change
from meta_rl.families.pinned import pinned_class
from meta_rl.families.row import closing, explained
from meta_rl.families.targets import bare, is_own, keys_in, kind_of, require_known_key
from meta_rl.storage.reading import named, shortened


class EnvMaker:
    """Makes environments of one kind, and finds whether a target is an argument or an attribute.

    Args:
        given: a registered id, a class, a function, or one environment that is used as it is.
        limit: steps after which episodes of a registered environment are truncated; the
            environment's own limit when None.

    Raises:
        InputError: if the id is unknown, or ``given`` cannot make an environment.
    """

    def __init__(self, given: str | gym.Env | Callable[..., gym.Env], limit: int | None):
        self.given, self.limit = given, limit
        self.spec: EnvSpec | None = None
        self.kinds: dict[str, str] = {}  # argument, attribute or model, by target
        self.own: set[str] = set()  # attributes that instances hold, not the class
        self.creator = self._find_creator()

    @property
    def name(self) -> str:
        """Return the environment's name, for messages."""
        given = self.given
        return given if isinstance(given, str) else getattr(given, "__name__", "it")

    def make(self, changes: Sequence[Change], more: Mapping[str, Any] | None = None) -> gym.Env:
        """Make a new environment with those changes that are arguments or attributes.

        The caller writes changes to fields of a MuJoCo model (:meth:`of_kind`, ``set_model``).

        Args:
            changes: the changes; a target may begin with ``argument:`` or ``attribute:``.
            more: further arguments of the constructor, which win over the changes.
        """
        kwargs = {**self._arguments(changes), **(more or {})}
        creator = self.creator
        attributes = {c.target: c for c in self.of_kind("attribute", changes)}
        if attributes:
            creator = pinned_class(creator, attributes, self.own & attributes.keys())
        try:
            if self.spec is None:
                return self._checked(creator(**kwargs))
            # No registered arguments here: kwargs holds them already, changed one by one.
            spec = replace(self.spec, entry_point=creator, kwargs={})
            if self.limit:
                kwargs = {"max_episode_steps": self.limit, **kwargs}
            return gym.make(spec, disable_env_checker=True, **kwargs)
        except InputError:
            raise
        except FOREIGN as error:
            raise self._cannot_make(
                error, f" with {shortened(kwargs, 400)}" if kwargs else ""
            ) from error

    def find_kinds(self, parameters: Sequence[Parameter], settings: Mapping[str, Any]) -> list[str]:
        """Find the kind of every target, and keys of settings that may be mistyped.

        Args:
            parameters: the parameters that tasks differ in.
            settings: values by target, the same in all tasks.

        Returns:
            The keys inside dictionary settings that the environment does not seem to know.

        Raises:
            InputError: if the environment lacks a target, or two declarations share one.
        """
        tried, unseen = _values_by_target(parameters, settings), []
        arguments = arguments_of(self.creator)
        if "render_mode" in (*arguments.named, *arguments.passed_on):
            self.kinds["render_mode"] = "argument"
        known = (*arguments.named, *arguments.passed_on)
        look = partial(self.look, tried) if inspect.isclass(self.creator) else None
        # Arguments first: without them the constructor may fail, and nothing can be looked at.
        for target in sorted(tried, key=lambda t: bare(t).split(".")[0] not in known):
            what = "setting" if target in settings else "parameter"
            kind = kind_of(target, tried[target], arguments, look, self.name, what)
            if look and kind == "argument":
                dotted = [target] if "." in bare(target) else []
                dotted += keys_in(target, settings.get(target))
                made = look({}) if dotted else None
                given = self._arguments(self._known(tried))
                for key in dotted:
                    seen = require_known_key(what, key, made, given)
                    unseen += [key] if what == "setting" and not seen else []
            if look and kind == "attribute" and is_own(look({}), bare(target)):
                self.own.add(bare(target))
            self.kinds[target] = kind
        return unseen

    def has(self, target: str, value: Any) -> bool:
        """Return whether the environment has this argument, attribute or model field."""
        look = partial(self.look, {}) if inspect.isclass(self.creator) else None
        try:
            return bool(kind_of(target, [value], arguments_of(self.creator), look, self.name))
        except InputError:
            return False

    def of_kind(self, kind: str, changes: Sequence[Change]) -> list[Change]:
        """Return the changes of one kind, with bare targets."""
        chosen = [c for c in changes if self.kinds.get(c.target) == kind]
        return [c._replace(target=bare(c.target)) for c in chosen]

    def _arguments(self, changes: Sequence[Change]) -> dict[str, Any]:
        """Return the constructor's arguments: the registered ones, with the changes applied."""
        kwargs: dict[str, Any] = copy.deepcopy(self.spec.kwargs) if self.spec else {}
        arguments = self.of_kind("argument", changes)
        for change in sorted(arguments, key=lambda c: c.target.count(".")):  # wholes before parts
            *path, last = change.target.split(".")
            inside = kwargs
            for key in path:
                inside[key] = dict(inside.get(key) or {})
                inside = inside[key]
            inside[last] = change.value
        return kwargs

    def _known(self, tried: Mapping[str, list[Any]]) -> list[Change]:
        """Return the arguments known so far, each at one of its values."""
        known = [t for t, kind in self.kinds.items() if kind == "argument" and t in tried]
        return [Change(target, tried[target][len(tried[target]) // 2]) for target in known]

    def look(self, tried: Mapping[str, list[Any]], more: Mapping[str, Any]) -> Any:
        """Make an environment with the known arguments and ``more``; return it reset, unwrapped."""
        env = self.make(self._known(tried), more)
        with closing(env):
            try:
                env.reset(seed=0)
            except InputError:
                raise
            except FOREIGN as error:
                raise InputError(
                    f"environment: {self.name} raised {explained(error)}, at its "
                    f"first reset, with {self._arguments(self._known(tried))}. Fix the "
                    "environment, or leave out the values it cannot have."
                ) from error
            return env.unwrapped

    def _checked(self, env: Any) -> gym.Env:
        if not isinstance(env, gym.Env):
            raise InputError(
                f"environment: expected a gymnasium.Env from {shortened(self.given)}, got "
                f"{shortened(env)}."
            )
        return env

    def _find_creator(self) -> Any:
        """Return the class or function that makes the environment."""
        if isinstance(self.given, gym.Env):
            return None
        if not isinstance(self.given, str):
            if not callable(self.given):
                raise InputError(
                    "environment: expected a Gymnasium id, a gymnasium.Env or a function, "
                    f"got {shortened(self.given)}."
                )
            return self.given
        try:
            self.spec = gym.make(self.given, disable_env_checker=True).spec
        except (gym.error.Error, SystemExit) as error:
            near = hint(self.given, gym.registry)
            raise InputError(
                f"environment: cannot make {self.given!r}: {shortened(error, 400)}{near}"
            ) from error
        except Exception as error:  # it may need arguments, and is registered by now
            self.spec = gym.registry.get(self.given.rpartition(":")[2])
            if self.spec is None:
                raise self._cannot_make(error) from error
        assert self.spec
        entry_point = self.spec.entry_point
        try:
            return load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
        except FOREIGN as error:
            raise self._cannot_make(error) from error

    def _cannot_make(self, error: BaseException, given: str = "") -> InputError:
        return InputError(f"environment: cannot make {self.name!r}{given}: {named(error)}")


def _values_by_target(
    parameters: Sequence[Parameter], settings: Mapping[str, Any]
) -> dict[str, list[Any]]:
    """Return some values of each target.

    Raises:
        InputError: if two declarations share a target.
    """
    tried: dict[str, list[Any]] = {t: [value] for t, value in settings.items()}
    for p in parameters:
        target = p.target or p.name
        if bare(target) in [bare(known) for known in tried]:
            raise InputError(
                f"parameter {p.name}: {bare(target)} is set by another parameter or setting "
                "too, and only one of them can act. Leave one out."
            )
        tried[target] = [value_at(p, n / 4) for n in range(4)]
    return tried


class Borrowed(gym.Wrapper):
    """A caller's own environment, which only the caller closes."""

    def close(self) -> None:
        """Leave the environment open."""
