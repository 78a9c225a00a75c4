"""Adapt a trained run to one task or environment: ``meta-rl adapt RUN --task goal=0.3,-0.2``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from meta_rl.cli.command import work
from meta_rl.cli.parsing import parse
from meta_rl.errors import InputError, require


@dataclass(frozen=True, kw_only=True)
class Adapt:
    """Options of ``meta-rl adapt``."""

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """Run folder, a checkpoint in it, or pretrained:NAME for a model that is shipped (meta-rl envs
    lists them); if not given, the newest run in runs/."""
    task: str | None = None
    """Task to adapt to, such as goal=0.3,-0.2 or gravity=12,length=0.8,force=9,direction=1.
    If neither --task, --env-id nor --data is given, a held-out task."""
    env_id: str | None = None
    """Id of a Gymnasium environment with the same spaces, to adapt to instead of a task.
    MODULE:ID imports the module first, FILE.py:NAME takes a class, function or id of a file; both
    run its code. A GymFamily adds its wrappers, time limit and those settings that the environment
    has, but to what a function makes."""
    env_kwargs: str = "{}"
    """Constructor arguments or attributes of the --env-id environment, as a JSON object.
    They take precedence over the family's settings."""
    data: Path | None = None
    """Your own labelled examples, for a few-shot model: a folder of pictures with a sub-folder per
    class, or arrays. Those without a label are predicted, such as pictures beside the classes."""
    run_data: Path | None = None
    """Folder of the run's training data, if it was moved."""
    families: Path | None = None
    """Python file of yours to run, which registers the family or has the network's module, as in
    meta-rl train."""
    steps: int | None = None
    """Inner (adaptation) steps; if not given, 3, or as many as in training if that is more."""
    step_size: float | None = None
    """Size of the inner steps, for a run that did not learn it (--algorithm pretrain or oracle);
    as in its settings if not given."""
    episodes: int | None = None
    """Episodes (or shots) per inner step; if not given, as in training."""
    seed: int = 0
    """Seed of the episodes to adapt to."""
    device: str = "auto"
    """Device: auto (CUDA if there is one), cpu or cuda."""
    pictures: bool = True
    """Save pictures of the adaptation beside the adapted model.
    If the environment can be rendered, save a rollout before and after adapting too."""
    export_sb3: Path | None = None
    """Also write the adapted policy to this zip, as a stable-baselines3 PPO to train further. An
    LSTM of rl2 becomes sb3-contrib's RecurrentPPO."""
    export_onnx: Path | None = None
    """Also write the adapted model to this .onnx file, for deployment; its outputs are checked."""


def main(arguments: list[str]) -> None:
    """Adapt, print the score after every step, record and save the result."""
    command = parse(
        Adapt,
        arguments,
        prog="meta-rl adapt",
        description="Adapt a run to one task or environment.",
    )
    _check(command)
    work("adapt", command)


def _check(command: Adapt) -> None:
    positive = command.step_size is None or 0 < command.step_size < math.inf
    require(positive, "step_size", "above 0", command.step_size)
    given = {"--task": command.task, "--env-id": command.env_id, "--data": command.data}
    if command.data is not None and command.episodes is not None:
        raise InputError("adapt: --data takes all labelled examples; leave out --episodes.")
    several = [option for option, value in given.items() if value is not None]
    if len(several) > 1:
        raise InputError(f"adapt: expected one of {', '.join(given)}, got {' and '.join(several)}.")
    if command.env_kwargs != "{}" and command.env_id is None:
        raise InputError("adapt: --env-kwargs needs --env-id.")
