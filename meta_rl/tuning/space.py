"""The declared sets of strategies, as data, and the settings of a chosen strategy.

Imports nothing heavy. To declare your own set, add an entry to :data:`SPACES` in the Python file
that ``meta-rl tune --families FILE`` runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from meta_rl.algorithms import ALGORITHMS, algorithm
from meta_rl.config import Config, EpisodesConfig
from meta_rl.errors import InputError, require, unknown

Changes = Mapping[str, Any]
"""New values by dotted names of settings, such as ``{"inner.steps": 3}``."""


class Chooser(Protocol):
    """Makes choices: an ``optuna.Trial``, or :class:`Given`."""

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> Any:
        """Return one of the choices."""
        ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """Return a number between low and high."""
        ...


@dataclass(frozen=True)
class Given:
    """Repeats choices made before."""

    params: Mapping[str, Any]

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> Any:
        """Return the option chosen before."""
        return self.params[name]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """Return the number chosen before."""
        return self.params[name]


RULED = {"iterations", "seed"}
"""Settings that follow from a study's budget and comparison."""


@dataclass(frozen=True, kw_only=True)
class Space:
    """A set of strategies: an algorithm, then one option of every choice, then every factor."""

    algorithms: tuple[str, ...] = ()
    """Names of ``meta_rl.ALGORITHMS``, the default's first; if empty, all that fit the preset and
    see no more of a task than it does."""
    choices: Mapping[str, Mapping[str, Changes]] = field(default_factory=dict)
    """Choice -> option -> the option's changes; the first option changes nothing."""
    factors: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Dotted setting -> smallest and largest multiple of its value, with 1 between them. A factor
    is left out for an algorithm without this setting."""

    def __post_init__(self):
        fixed = sorted({"algorithm"} & {*self.choices} | RULED & self._changes())
        require(not fixed, "space", "no choice or factor of algorithm, iterations or seed", fixed)
        for name, options in self.choices.items():
            first = next(iter(options.values()), None)
            expected = "a first option that changes nothing, as {'preset': {}, ...}"
            require(first == {}, f"space.choices[{name!r}]", expected, first)
        for name, (low, high) in self.factors.items():
            within = 0 < low <= 1 <= high and low < high
            require(within, f"space.factors[{name!r}]", "0 < low <= 1 <= high", (low, high))

    def _changes(self) -> set[str]:
        """Return the names of all settings that a choice or a factor changes."""
        chosen = [n for options in self.choices.values() for c in options.values() for n in c]
        return {*chosen, *self.factors}

    @property
    def default(self) -> dict[str, Any]:
        """The choices that leave the preset unchanged."""
        chosen = {name: next(iter(options)) for name, options in self.choices.items()}
        return {"algorithm": self.algorithms[0], **chosen}

    def alone(self) -> Iterator[dict[str, Any]]:
        """Yield the default, then the default with each declared option alone."""
        yield self.default
        for name in self.algorithms[1:]:
            yield self.default | {"algorithm": name}
        for name, options in self.choices.items():
            for option in list(options)[1:]:
                yield self.default | {name: option}
        for name, ends in self.factors.items():
            for end in ends:
                if end != 1:
                    yield self.default | {factor(name): end}


def one_of(setting: str, *values: Any) -> dict[str, Changes]:
    """Return a choice among values of one setting and the preset's own value."""
    return {"preset": {}, **{str(value): {setting: value} for value in values}}


def factor(setting: str) -> str:
    """Return the name of a setting's multiple."""
    return f"× {setting}"


NARROW, WIDE = {"network.hidden": (32, 32)}, {"network.hidden": (128, 128)}
SHALLOW, DEEP = {"network.hidden": (64,)}, {"network.hidden": (64, 64, 64)}
SCHEDULES = one_of("inner.schedule", "inverse-sqrt", "learned")
FORMS = one_of("inner.form", "scalar", "tensor", "parameter")
LENGTHS = {"inner.step_size": (1 / 3, 3.0), "outer.learning_rate": (1 / 3, 3.0)}
PERCEPTRON = {
    "rule": {
        "preset": {},
        "momentum": {"inner.optimizer": "momentum"},
        # These rules' steps do not scale with the gradient: step sizes are in parameter units.
        "rmsprop": {"inner.optimizer": "rmsprop", "inner.step_size": 0.01},
        "adam": {"inner.optimizer": "adam", "inner.step_size": 0.01},
    },
    "form": FORMS,
    "schedule": SCHEDULES,
    "steps": one_of("inner.steps", 1, 2, 3),
    "network": {
        "preset": {}, "32 x 2": NARROW, "128 x 2": WIDE, "64 x 1": SHALLOW, "64 x 3": DEEP
    },
    "activation": one_of("network.activation", "tanh", "relu"),
}  # fmt: skip
SPACES: dict[str, Space] = {
    "episodes": Space(
        choices=PERCEPTRON,
        factors={**LENGTHS, "outer.max_kl": (1 / 3, 3.0), "data.tasks": (0.25, 1.0)},
    ),
    "examples": Space(choices=PERCEPTRON, factors={**LENGTHS, "data.tasks": (0.25, 1.0)}),
    "images": Space(
        choices={
            "form": FORMS,
            "schedule": SCHEDULES,
            "steps": one_of("inner.steps", 1, 3, 5),
            "network": one_of("network.channels", 8, 16, 32),
        },
        factors={**LENGTHS, "data.tasks": (0.25, 1.0)},
    ),
}
"""Spaces by name: for environments, few-shot regression, and convolutional networks. Each tries all
algorithms that fit the preset."""


def usual(config: Config) -> str:
    """Return the name of a preset's default space."""
    if isinstance(config.data, EpisodesConfig):
        return "episodes"
    return "images" if config.network.kind == "convolutional" else "examples"


def changed(config: Config, changes: Changes) -> Config:
    """Return the settings with these changes, all made at once.

    Raises:
        InputError: if there is no such setting, or the settings do not fit together.
    """
    parts: dict[str, dict[str, Any]] = {}
    whole: dict[str, Any] = {}
    for name, value in changes.items():
        part, _, setting = name.rpartition(".")
        if not has(config, name):
            owner: Any = getattr(config, part, config)
            raise unknown(f"space: {name}", [f.name for f in dataclasses.fields(owner)], setting)
        (parts.setdefault(part, {}) if part else whole)[setting] = value
    return replace(config, **whole, **{p: replace(getattr(config, p), **v)
                                       for p, v in parts.items()})  # fmt: skip


def has(config: Config, name: str) -> bool:
    """Return whether there is a setting of this dotted name."""
    part, _, setting = name.rpartition(".")
    owner = getattr(config, part, None) if part else config
    return dataclasses.is_dataclass(owner) and setting in {
        f.name for f in dataclasses.fields(owner)
    }


def strategy(space: Space, preset: Config, chooser: Chooser) -> Config:
    """Return a preset's settings with a chooser's choices applied.

    Raises:
        InputError: if the settings do not fit together.
    """
    config = algorithm(chooser.suggest_categorical("algorithm", space.algorithms), preset)
    changes: dict[str, Any] = {}
    for name, options in space.choices.items():
        changes |= options[chooser.suggest_categorical(name, list(options))]
    config = changed(config, changes)
    multiples = {}
    for name, (low, high) in space.factors.items():
        if has(config, name) and (value := _value(config, name)):
            multiple = value * chooser.suggest_float(factor(name), low, high, log=True)
            multiples[name] = max(1, round(multiple)) if isinstance(value, int) else multiple
    config = changed(config, multiples)
    # eval.steps below inner.steps would have no effect and is refused, so raise it here.
    return changed(config, {"eval.steps": max(config.eval.steps, config.inner.steps)})


def fitting(space: Space, preset: Config) -> Space:
    """Return the space with the algorithms that fit a preset, and check that its choices fit.

    Raises:
        InputError: if a named algorithm does not fit, or a choice or a factor fits no algorithm.
    """
    configs, refusals = {}, {}
    for name in dict.fromkeys(["maml", *ALGORITHMS, *space.algorithms]):
        try:
            configs[name] = algorithm(name, preset)
        except InputError as error:
            refusals[name] = error
    for name in space.algorithms:
        if name in refusals:
            raise refusals[name]
    for name, options in space.choices.items():
        for option, changes in options.items():
            _fits_some(f"space.choices[{name!r}][{option!r}]", configs.values(), changes)
    for name in space.factors:
        values = [_value(config, name) for config in configs.values() if has(config, name)]
        if not values:
            raise InputError(
                f"space.factors[{name!r}]: expected a setting such as 'inner.step_size'; no "
                "algorithm that fits the preset has this one."
            )
        for value in values:
            number = value is None or type(value) in (int, float)
            require(number, f"space.factors[{name!r}]", "a setting whose value is a number", value)
    fair = [name for name, config in configs.items() if sees_task(config) <= sees_task(preset)]
    return replace(space, algorithms=space.algorithms or tuple(fair))


def sees_task(config: Config) -> bool:
    """Return whether the policy observes the task's parameters, as the oracle's does."""
    return isinstance(config.data, EpisodesConfig) and config.data.sees_task


def _fits_some(what: str, configs: Any, changes: Changes) -> None:
    refusal = None
    for config in configs:
        try:
            changed(config, changes)
            return
        except InputError as error:
            refusal = refusal or error
    raise InputError(f"{what}: fits no algorithm; of the first: {refusal}")


def _value(config: Config, name: str) -> float | None:
    part, _, setting = name.rpartition(".")
    return getattr(getattr(config, part) if part else config, setting)
