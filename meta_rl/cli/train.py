"""Meta-train on a task family: ``meta-rl train [PRESET] [--option ...]``."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import tyro

from meta_rl.algorithms import ALGORITHMS, algorithm
from meta_rl.cli.parsing import (
    MORE,
    Beginning,
    parse,
    parse_beginning,
    preset_name,
    require_begun,
)
from meta_rl.cli.running import import_families, runner, work
from meta_rl.config import Config, EpisodesConfig, from_dict
from meta_rl.config.showing import RARE, without_effect
from meta_rl.errors import InputError
from meta_rl.presets import PRESETS, facts, preset
from meta_rl.storage.reading import read_file, reason

DEFAULT = "navigation-2d"
LARGEST_CONFIG = 2**24  # bytes


@dataclass(frozen=True, kw_only=True)
class Origin(Beginning):
    """Where the settings come from that options may change."""

    resume: Path | None = None
    """Continue this run folder with its own settings; --iterations may be raised. A run at its last
    iteration is tested (again)."""
    algorithm: str = "maml"
    """What is done with the preset's family: one of meta_rl.ALGORITHMS; sets the other defaults."""
    file: Annotated[Path | None, tyro.conf.arg(name="config")] = None
    """Start from the settings in this file, meta-rl tune's chosen.json or a run's config.json."""


@dataclass(frozen=True, kw_only=True)
class Train(Origin):
    """Where and how this run is kept, and every setting of it."""

    log_dir: Path = Path("runs")
    """Run folders are made in it: PRESET_1, PRESET_2, ..."""
    device: str = "auto"
    """auto (CUDA where there is one), cpu or cuda."""
    init_sb3: Path | None = None
    """Zip of a stable-baselines3 PPO or A2C to start from instead of random weights."""
    init_run: Path | None = None
    """Another run, of any family, whose layers to start from wherever they match."""
    init_experts: tuple[str, ...] = ()
    """Zips of stable-baselines3 experts, each with the task that it knows, as
    goal=0.3,-0.2@first.zip; distilled into one policy to start from."""
    init_imitation: int = 0
    """Iterations of then imitating these experts through adaptation, which costs episodes."""
    config: Annotated[Config, tyro.conf.arg(name="")]


def main(arguments: list[str]) -> None:
    """Train, evaluate on held-out tasks and say where everything is."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # that torchrun sets
        _main(arguments)
        return
    with runner("train").processes():
        _main(arguments)


def _main(arguments: list[str]) -> None:
    home = _working_folder()
    begun = parse_beginning(Origin, arguments)
    import_families(begun.families)
    name, config = preset_name(begun), _config(begun)
    given = {field.name: getattr(begun, field.name) for field in fields(begun)}
    command: Any = parse(
        Train,
        arguments,
        silent=_silent,
        default=Train(**given, config=config),
        prog="meta-rl train",
        description=f"Meta-train on a task family (now: {config.family}). Presets: "
        f"{', '.join(PRESETS)}; any other family by its id (meta-rl envs). Algorithms: "
        f"{', '.join(ALGORITHMS)}. {MORE}",
        config=(tyro.conf.AvoidSubcommands,),
    )
    require_begun(begun, command)
    # What a file says was chosen, setting by setting; what a preset or a run has was not.
    origin = None if begun.file else config
    name = name or (command.config.family if begun.file else DEFAULT)
    work("train", name, command, origin, home)


def _silent(command: Train) -> set[str]:
    """Return the options that would do nothing beside those given, and the rarest."""
    config = command.config
    found = without_effect(config, facts(config)) | RARE
    if command.preset or command.file:
        found |= {"resume"}
    if command.preset or command.resume:
        found |= {"file"}
    if command.file or command.resume:
        found |= {"preset", "algorithm"}
    if not isinstance(config.data, EpisodesConfig):
        found |= {"init_sb3", "init_experts"}
    return found if command.init_experts else found | {"init_imitation"}


def _working_folder() -> Path:
    """Return where paths begin, which code of others may leave for another folder."""
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise InputError(
            "working folder: it was removed. Change to one that is there, as with cd."
        ) from error


def _config(begun: Origin) -> Config:
    """Return the settings that options may change: of a run, a file, or a preset.

    Raises:
        InputError: if several of these are given, or one is not there.
    """
    name, method = preset_name(begun), begun.algorithm
    if begun.resume and name:
        raise InputError(f"resume: a run keeps its own preset; leave out {name!r}.")
    if begun.resume and method != "maml":
        raise InputError(f"resume: a run keeps its own algorithm; leave out {method!r}.")
    if begun.file and (name or begun.resume or method != "maml"):
        raise InputError(
            f"config: {begun.file} says what to train and how; leave out the preset, --algorithm "
            "and --resume."
        )
    if begun.resume:
        return runner("train").settings_of(begun.resume)
    return read_config(begun.file) if begun.file else algorithm(method, preset(name or DEFAULT))


def read_config(file: Path) -> Config:
    """The settings in a JSON file, such as a run's ``config.json``.

    Raises:
        InputError: if it cannot be read, or holds something else.
    """
    try:
        values = json.loads(read_file(file, LARGEST_CONFIG))
    except InputError:
        raise
    except Exception as error:  # readers raise what they like at damaged or hostile data
        raise InputError(
            f"config: expected a JSON file of settings, got {file}: {reason(error)}."
        ) from error
    try:
        return from_dict(values)
    except InputError as error:
        raise InputError(f"{error} It is in {file}.") from error
