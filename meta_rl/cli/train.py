"""Meta-train on a task family: ``meta-rl train [PRESET] [--option ...]``."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import tyro

from meta_rl.algorithms import ALGORITHMS, algorithm
from meta_rl.cli.command import import_families, import_network, runner, work
from meta_rl.cli.parsing import (
    MORE,
    Beginning,
    parse,
    parse_beginning,
    preset_name,
    require_begun,
)
from meta_rl.config import Config, EpisodesConfig, from_dict
from meta_rl.config.showing import RARE, without_effect
from meta_rl.errors import InputError
from meta_rl.presets import PRESETS, facts, preset
from meta_rl.storage.reading import read_file, reason

DEFAULT = "navigation-2d"
LARGEST_CONFIG = 2**24  # bytes


@dataclass(frozen=True, kw_only=True)
class Origin(Beginning):
    """The options that give the settings to start from, which other options may change."""

    resume: Path | None = None
    """Run folder to continue with its own settings; --iterations may be raised.
    A run at its last iteration is tested (again)."""
    algorithm: str = "maml"
    """Algorithm, from the list above; sets the defaults of the other options."""
    file: Annotated[Path | None, tyro.conf.arg(name="config")] = None
    """JSON file of settings to start from: meta-rl tune's chosen.json or a run's config.json."""


@dataclass(frozen=True, kw_only=True)
class Train(Origin):
    """All options of ``meta-rl train``."""

    log_dir: Path = Path("runs")
    """Folder in which to make the run folder: PRESET_1, PRESET_2, ..."""
    device: str = "auto"
    """Device: auto (CUDA if there is one), cpu or cuda."""
    init_sb3: Path | None = None
    """Zip of a stable-baselines3 PPO or A2C to start from, instead of random weights."""
    init_run: Path | None = None
    """Run folder of another run, of any family, or pretrained:NAME for a model that is shipped;
    copies its layers that match."""
    init_experts: tuple[str, ...] = ()
    """Zips of stable-baselines3 experts to distill into one policy to start from.
    Write each as TASK@ZIP with the task that it solves, such as goal=0.3,-0.2@first.zip."""
    init_imitation: int = 0
    """Iterations of imitating the experts through adaptation, after distilling; costs episodes."""
    config: Annotated[Config, tyro.conf.arg(name="")]


def main(arguments: list[str]) -> None:
    """Train, evaluate on held-out tasks and print where results are."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # set by torchrun
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
    # A user chose every setting of a file, but not the settings of a preset or a run.
    origin = None if begun.file else config
    name = name or (command.config.family if begun.file else DEFAULT)
    import_network(arguments, home)
    work("train", name, command, origin, home)


def _silent(command: Train) -> set[str]:
    """Return the rare options, and the options without effect beside the given ones."""
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
    """Return the folder of relative paths, before code of others may change it."""
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise InputError(
            "working folder: it was removed. Change to one that is there, as with cd."
        ) from error


def _config(begun: Origin) -> Config:
    """Return the settings of a run, a file or a preset, which options may change.

    Raises:
        InputError: if several of these are given, or one does not exist.
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
    """Return the settings in a JSON file, such as a run's ``config.json``.

    Raises:
        InputError: if the file cannot be read, or holds something else.
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
