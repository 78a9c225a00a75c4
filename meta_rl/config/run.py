"""All settings of one training run, and their form as JSON."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from dataclasses import dataclass, field
from typing import Any, cast

from meta_rl.config.checks import require_if_given, require_types, types_of
from meta_rl.config.data import EpisodesConfig, EvalConfig, ShotsConfig
from meta_rl.config.descent import BASES, TRPOConfig
from meta_rl.config.effects import Conditions, Facts
from meta_rl.config.inner import InnerConfig
from meta_rl.config.network import NetworkConfig
from meta_rl.config.outer import OuterConfig
from meta_rl.config.renamed import renamed
from meta_rl.config.speed import SpeedConfig
from meta_rl.errors import InputError, hint, require


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of one training run.

    Equal configs on one machine and CPU give equal parameters, bit for bit.
    """

    family: str
    """Task family to meta-train on."""
    iterations: int = 100
    """Total number of outer steps."""
    seed: int = 0
    """Seed of all random numbers in the run."""
    log_every: int = 1
    """Iterations between TensorBoard points."""
    checkpoint_every: int = 25
    """Iterations between checkpoints; the last iteration always gets one."""
    blocks: int | None = None
    """Blocks in which tasks of a meta-batch are sampled and summed; by default one per process.
    With equal blocks, any number of processes that divides them gives equal bits."""
    inner: InnerConfig = field(default_factory=InnerConfig)
    outer: OuterConfig = field(default_factory=TRPOConfig)
    data: EpisodesConfig | ShotsConfig = field(default_factory=EpisodesConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    speed: SpeedConfig = field(default_factory=SpeedConfig)

    def __post_init__(self):
        require_types(self, "")
        require(self.iterations > 0, "iterations", "1 or more", self.iterations)
        require(self.seed >= 0, "seed", "0 or more", self.seed)
        require(self.log_every > 0, "log_every", "1 or more", self.log_every)
        require(self.checkpoint_every > 0, "checkpoint_every", "1 or more", self.checkpoint_every)
        require_if_given("blocks", "1 or more", self.blocks)
        tasks = self.data.tasks
        require((self.blocks or 1) <= tasks, "blocks", f"at most the {tasks} tasks", self.blocks)
        if (self.inner.adapts == "context") != (self.network.context > 0):
            raise InputError(
                "network.context: expected a size above 0 with inner.adapts 'context' and 0 "
                f"otherwise, got {self.network.context} with {self.inner.adapts!r}."
            )
        self.outer.refuse(self)

    def conditions(self, run: Config, facts: Facts) -> Conditions:
        """Return no conditions: settings of the run itself always act."""
        return []


def to_dict(config: Any) -> Any:
    """Return a config as JSON values; each dataclass has its class name under ``type``."""
    if dataclasses.is_dataclass(config):
        values = {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
        return {"type": type(config).__name__, **values}
    return list(config) if isinstance(config, tuple) else config


def from_dict(values: dict[str, Any], expected: Any = Config) -> Any:
    """Return the config that :func:`to_dict` wrote; old names of settings load too.

    Raises:
        InputError: if a class or key does not belong there.
    """
    if not isinstance(values, dict):
        raise InputError(f"config: expected an object of settings, got {values!r}.")
    union = isinstance(expected, types.UnionType)
    declared = typing.get_args(expected) if union else (expected,)
    known = [one for one in declared if dataclasses.is_dataclass(one)]
    choices = {c.__name__: c for one in known for c in _kinds(cast(type, one))}
    name = values.get("type")
    if not isinstance(name, str) or name not in choices:
        raise InputError(
            f"config: expected type {' or '.join(choices)}, got {name!r}. "
            "A class of your own? Give --families FILE.py, or import it first."
        )
    cls = choices[name]
    values = renamed(values) if issubclass(cls, Config) else values
    hints = types_of(cls)
    keys = {f.name for f in dataclasses.fields(cls)}
    given = {key: value for key, value in values.items() if key != "type"}
    for key in sorted(given.keys() - keys):
        near = hint(key, keys, f"It has {', '.join(sorted(keys))}.")
        raise InputError(f"config: {name} has no setting {key!r}.{near}")
    required = {f.name for f in dataclasses.fields(cls) if _has_no_default(f)}
    if required - given.keys():
        raise InputError(f"config: {name} needs {', '.join(sorted(required - given.keys()))}.")
    built = {}
    for key, value in given.items():
        if isinstance(value, dict):
            value = from_dict(value, hints[key])
        built[key] = tuple(value) if isinstance(value, list) else value
    return cls(**built)


def _has_no_default(field: dataclasses.Field) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def _kinds(cls: type) -> list[type]:
    """Return a class, unless it is abstract, and all its subclasses, also of users."""
    own = [] if cls in BASES or inspect.isabstract(cls) else [cls]
    return own + [kind for derived in cls.__subclasses__() for kind in _kinds(derived)]
