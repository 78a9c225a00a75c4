"""Find where a run starts: its own checkpoint, another run's layers, or outside policies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from meta_rl import agents
from meta_rl.assemble import Start
from meta_rl.cli.train import Train
from meta_rl.config import Config, from_dict, to_dict
from meta_rl.errors import InputError
from meta_rl.families import parse_task
from meta_rl.machine import parallel
from meta_rl.storage import checkpoint, run_folder
from meta_rl.storage.pretrained import is_shipped


def settings_of(run: Path) -> Config:
    """Return the settings of a run, which it keeps when it is resumed, as last changed.

    Raises:
        InputError: if the folder has no whole checkpoint, or is a checkpoint or a shipped model.
    """
    if is_shipped(run):
        raise InputError(
            f"resume: expected a run folder, got {run}. A shipped model has no training state to "
            f"continue from; start a new run from it with --init-run {run}."
        )
    if os.path.exists(run / checkpoint.MANIFEST):
        raise InputError(f"resume: expected a run folder, got the checkpoint {run}.")
    return from_dict(parallel.first(lambda: _newest(run)))


def _newest(run: Path) -> dict[str, Any]:
    manifest = run_folder.load_newest(run)[1]
    checkpoint.require_fields(manifest, "meta", config=dict)
    return run_folder.with_newer(run, manifest["config"])


def require_own_settings(command: Train, own: Config) -> None:
    """Refuse to resume a run with other settings than its own.

    Raises:
        InputError: if anything differs but ``iterations``, ``eval`` and the data's folder.
    """
    same = run_folder.same_settings(to_dict(command.config), to_dict(own))
    same = same and command.config.blocks == own.blocks
    if not same or command.log_dir != Train.log_dir or _places(command):
        raise InputError(
            "resume: a run keeps its own settings; only --iterations, --eval... and --data (if its "
            "data were moved) may change."
        )


def _places(command: Train) -> list[str]:
    """Return the given options that say where theta starts."""
    places = {
        "--init-sb3": command.init_sb3,
        "--init-run": command.init_run,
        "--init-experts": command.init_experts,
    }
    return [option for option, value in places.items() if value]


def start_of(command: Train) -> Start | None:
    """Return the run or experts that theta starts from; None for random weights or --init-sb3.

    Raises:
        InputError: if several starts are given, or an expert cannot be read.
    """
    if len(options := _places(command)) > 1:
        raise InputError(f"init: expected one start, got {' and '.join(options)}.")
    if command.init_imitation and not command.init_experts:
        raise InputError("init_imitation: expected --init-experts to imitate, got none.")
    if command.init_run:
        return agents.transfer.FromRun(command.init_run)
    if command.init_experts:
        experts = [
            agents.distillation.parse_expert(text, parse_task) for text in command.init_experts
        ]
        return agents.distillation.FromExperts(experts, command.init_imitation)
    return None
