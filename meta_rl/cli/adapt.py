"""Adapt a trained meta-policy to one variant: ``meta-rl adapt RUN --task goal=0.3,-0.2``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from meta_rl.cli.parsing import parse
from meta_rl.cli.running import work
from meta_rl.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Adapt:
    """What to adapt, to what, and how long."""

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """A run folder, or one checkpoint in it; the newest run in runs/ if not given."""
    task: str | None = None
    """Parameters of the variant, as goal=0.3,-0.2 or gravity=12,length=0.8,force=9."""
    env_id: str | None = None
    """Any registered Gymnasium environment with the same spaces, instead of a task. Wrappers, time
    limit and those settings that it has are the family's, where that is a GymFamily. MODULE:ID
    imports the module first, which runs the code in it."""
    env_kwargs: str = "{}"
    """JSON object of arguments for --env-id's constructor, or attributes of the environment; they
    come before the family's settings."""
    data: Path | None = None
    """A folder of your own labelled pictures for a few-shot model: one sub-folder for each class;
    pictures beside them, or in a sub-folder unlabelled, are classified."""
    run_data: Path | None = None
    """Where the data that the run was trained on are now, if they were moved."""
    families: Path | None = None
    """A Python file of yours that registers the family, as in meta-rl train; it is run."""
    steps: int | None = None
    """Inner (adaptation) steps; 3 if not given, or as many as were trained with if more."""
    episodes: int | None = None
    """Episodes (or shots) per step; as in meta-training when not given."""
    seed: int = 0
    """Of the episodes adapted on."""
    device: str = "auto"
    """auto (CUDA where there is one), cpu or cuda."""
    pictures: bool = True
    """Draw what adapting did, beside the adapted model: pictures, and a roll-out before and after
    where the environment can be rendered."""
    export_sb3: Path | None = None
    """Also write the adapted policy as this zip of a stable-baselines3 PPO, to learn on with."""
    export_onnx: Path | None = None
    """Also write the adapted model as this .onnx file, to deploy; what it computes is checked."""


def main(arguments: list[str]) -> None:
    """Adapt, print the score after every step, record and save the result."""
    command = parse(
        Adapt, arguments, prog="meta-rl adapt", description="Adapt a meta-policy to one variant."
    )
    _check(command)
    work("adapt", command)


def _check(command: Adapt) -> None:
    given = {"--task": command.task, "--env-id": command.env_id, "--data": command.data}
    if command.data is not None and command.episodes is not None:
        raise InputError("adapt: --data takes all labelled pictures; leave out --episodes.")
    several = [option for option, value in given.items() if value is not None]
    if len(several) > 1:
        raise InputError(f"adapt: expected one of {', '.join(given)}, got {' and '.join(several)}.")
    if command.env_kwargs != "{}" and command.env_id is None:
        raise InputError("adapt: --env-kwargs needs --env-id.")
