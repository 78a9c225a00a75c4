"""The declared set of strategies, as data, and the settings that a choice among them makes.

Imports nothing heavy. A set of your own is an entry of :data:`SPACES` made in the Python file that
``meta-rl tune --families FILE`` runs.
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
"""Values by the dotted names of settings, as ``{"inner.steps": 3}``."""


class Chooser(Protocol):
    """What decides: an ``optuna.Trial``, or :class:`Given`."""

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> Any:
        """One of the choices."""
        ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """A number between low and high."""
        ...


@dataclass(frozen=True)
class Given:
    """Decides as was decided before."""

    params: Mapping[str, Any]

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> Any:
        """What was chosen."""
        return self.params[name]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """What was chosen."""
        return self.params[name]


@dataclass(frozen=True, kw_only=True)
class Space:
    """Strategies: an algorithm, then one option of every choice, then every factor."""

    algorithms: tuple[str, ...] = ()
    """Names of ``meta_rl.ALGORITHMS``, the default's first; all that fit the preset if none."""
    choices: Mapping[str, Mapping[str, Changes]] = field(default_factory=dict)
    """Choice -> option -> what it changes; the first option changes nothing."""
    factors: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Dotted setting -> smallest and largest multiple of its value, 1 among them. Left out for an
    algorithm that has no such setting."""

    def __post_init__(self):
        for name, options in self.choices.items():
            first = next(iter(options.values()), None)
            expected = "a first option that changes nothing, as {'preset': {}, ...}"
            require(first == {}, f"space.choices[{name!r}]", expected, first)
        for name, (low, high) in self.factors.items():
            within = 0 < low <= 1 <= high and low < high
            require(within, f"space.factors[{name!r}]", "0 < low <= 1 <= high", (low, high))

    @property
    def default(self) -> dict[str, Any]:
        """The choices that leave the preset as it is."""
        chosen = {name: next(iter(options)) for name, options in self.choices.items()}
        return {"algorithm": self.algorithms[0], **chosen}

    def alone(self) -> Iterator[dict[str, Any]]:
        """The default, then everything that is declared, each alone beside the default."""
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
    """A choice among values of one setting, beside the preset's own."""
    return {"preset": {}, **{str(value): {setting: value} for value in values}}


def factor(setting: str) -> str:
    """What the multiple of a setting is called."""
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
        # Whose steps do not scale with the gradient: in units of the parameters.
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
"""By name; those for environments, few-shot regression, and convolutional networks. The algorithms
of all three are all that fit the preset."""


def usual(config: Config) -> str:
    """The name of the space for a preset where none is asked for."""
    if isinstance(config.data, EpisodesConfig):
        return "episodes"
    return "images" if config.network.kind == "convolutional" else "examples"


def changed(config: Config, changes: Changes) -> Config:
    """The settings with some of them changed, all at once.

    Raises:
        InputError: if there is no such setting, or they do not fit together.
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
    """Whether there is a setting of this dotted name."""
    part, _, setting = name.rpartition(".")
    owner = getattr(config, part, None) if part else config
    return dataclasses.is_dataclass(owner) and setting in {
        f.name for f in dataclasses.fields(owner)
    }


def strategy(space: Space, preset: Config, chooser: Chooser) -> Config:
    """The settings that a chooser's decisions make of a preset's.

    Raises:
        InputError: if they do not fit together.
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
    # Evaluations take as many steps as are trained with, or more: so nobody chose fewer here.
    return changed(config, {"eval.steps": max(config.eval.steps, config.inner.steps)})


def fitting(space: Space, preset: Config) -> Space:
    """The space for a preset: with the algorithms that fit it, and nothing that never can.

    Raises:
        InputError: if an algorithm that was named does not fit, or a choice or a factor changes
            what no algorithm has.
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
        if not any(has(config, name) for config in configs.values()):
            raise InputError(
                f"space.factors[{name!r}]: expected a setting such as 'inner.step_size'; no "
                "algorithm that fits the preset has this one."
            )
    return replace(space, algorithms=space.algorithms or tuple(configs))


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
