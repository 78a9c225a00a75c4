"""Assemble a learner from settings."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch

from meta_rl import agents, envs, seeds
from meta_rl.algorithms import nearest
from meta_rl.config import Config, EpisodesConfig, Facts, ShotsConfig, require_effect
from meta_rl.errors import InputError, require
from meta_rl.families import Family, GymFamily, make_family
from meta_rl.machine import memory, parallel
from meta_rl.presets import preset
from meta_rl.problem import Problem
from meta_rl.problems.modules import module_of
from meta_rl.problems.reinforcement import Reinforcement
from meta_rl.problems.supervised import Supervised
from meta_rl.runs.learner import MetaLearner
from meta_rl.storage.reading import shortened


class Start(Protocol):
    """Where theta starts instead of at random: ``FromRun`` or ``FromExperts`` of agents."""

    @property
    def step_size(self) -> float | None:
        """What learned step sizes start at, once :meth:`theta` was asked; the config's if None."""
        ...

    def theta(self, problem: Problem, config: Config) -> dict[str, Any]:
        """Parameters like the problem's initial ones."""
        ...

    @property
    def told(self) -> list[str]:
        """Lines for people, once :meth:`theta` was asked."""
        ...

    def keep(self, folder: Path) -> None:
        """Write into a run folder where theta came from, which config.json does not say."""
        ...


def build(
    config: Config | str,
    device: str = "cpu",
    init_sb3: str | Path | None = None,
    start: Start | None = None,
    origin: Config | None = None,
) -> MetaLearner:
    """A learner at the start of meta-training.

    From here on the process keeps the memory it frees (:mod:`meta_rl.machine.memory`).

    Args:
        config: what to train: settings, or the name of a preset.
        device: ``cpu``, ``cuda``, or ``auto`` for CUDA where there is one.
        init_sb3: zip of a stable-baselines3 PPO or A2C, whose actor is where theta starts instead
            of at random. Nothing in it is unpickled.
        start: another place where theta starts: another run, or experts of single tasks.
        origin: settings that these were derived from; the nearest preset if not given. A setting
            that would have no effect is refused unless they have it too.

    Raises:
        InputError: if the family is unknown, the device is not there, the zip or start does not
            fit, or a setting would have no effect.
    """
    config = preset(config) if isinstance(config, str) else config
    if not isinstance(config, Config):
        raise InputError(
            f"config: expected the name of a preset, or its settings, got {shortened(config)}."
        )
    memory.keep_freed_memory()
    blocks = config.blocks or parallel.ranks()
    parallel.own_blocks(range(config.data.tasks), blocks)  # which refuses what cannot be shared out
    if parallel.ranks() > 1:
        config = replace(config, blocks=blocks)  # to be kept when resumed by fewer processes
    config = with_data(config, None)
    problem = make_problem(config, resolve_device(device))
    origin = origin or nearest(config)
    require_effect(config, origin, facts_of(problem))
    if init_sb3 is not None:
        if not isinstance(config.data, EpisodesConfig):
            raise InputError(f"init_sb3: {config.family} is supervised; a PPO cannot start it.")
        problem.policy.load_state_dict(agents.sb3.read_parameters(init_sb3, problem.policy))
    if start is not None:
        module: Any = module_of(problem)
        module.load_state_dict(start.theta(problem, config))
    learner = MetaLearner(problem, config, origin)
    if start is not None and start.step_size is not None:
        inner = replace(config.inner, step_size=start.step_size)
        # The outer step may have drawn its population around the step sizes: all of it is carried.
        learner.restore(*MetaLearner(problem, replace(config, inner=inner), origin).state())
    return learner


def facts_of(problem: Problem) -> Facts:
    """Return what settings depend on of a problem that was made here."""
    family = problem.environments
    if family is None:
        images = len(problem.describe()["inputs"]) == 3
        return Facts(classes=problem.kind == "classification", images=images)
    space = family.action_space
    box = isinstance(space, gym.spaces.Box)
    return Facts(
        continuous=box,
        bounded=bool((np.isfinite(space.low) & np.isfinite(space.high)).any()) if box else None,
        horizon=family.horizon,
        single_environments=family.takes_workers if isinstance(family, Family) else None,
    )


def with_data(config: Config, folder: str | Path | None) -> Config:
    """Return the config with the absolute path of its data's folder, or of another one.

    Args:
        config: of a run.
        folder: where its data are now; where the config says when None.

    Raises:
        InputError: if another folder is given and the run reads none.
    """
    data = config.data
    if not isinstance(data, ShotsConfig) or data.folder is None:
        require(folder is None, "data", f"no folder, since {config.family} reads none", folder)
        return config
    path = Path(folder or data.folder).expanduser().absolute()
    return replace(config, data=replace(data, folder=str(path)))


def check_data(config: Config) -> None:
    """Refuse a run whose data are not where they were, saying how to tell where they are.

    Raises:
        InputError: if their folder is not there.
    """
    folder = getattr(config.data, "folder", None)
    if folder is not None and not os.path.exists(Path(folder).expanduser()):
        raise InputError(
            f"data: expected the data that the run was trained on ({config.family}) in {folder}, "
            "got nothing there. Say where it is now: --data FOLDER; to adapt, --run-data FOLDER; "
            "in Python, load(run, data=FOLDER)."
        )


def resolve_device(device: str) -> str:
    """``auto`` as cuda or cpu; under ``torchrun``, cuda as this process's own GPU.

    Raises:
        InputError: if it is none of auto, cpu, cuda and cuda:N, or CUDA is not there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or not (index.isdigit() or device == kind):
        raise InputError(f"device: expected auto, cpu, cuda or cuda:N, got {device!r}.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError("device: expected a CUDA GPU, got none. Use --device cpu.")
    return f"cuda:{parallel.local_rank()}" if device == "cuda" and parallel.ranks() > 1 else device


def make_problem(config: Config, device: str) -> Any:
    """Make the problem of these settings: a family or examples, with a new policy or network."""
    if isinstance(config.data, ShotsConfig) != (config.family in envs.EXAMPLES):
        raise InputError(
            f"data: {type(config.data).__name__} does not fit the family {config.family}; "
            "environments need EpisodesConfig, supervised families ShotsConfig. Data of your own: "
            "give meta_rl.load a problem=Supervised(...) of them."
        )
    if isinstance(config.data, ShotsConfig):
        data = config.data
        examples = envs.make_examples(config.family, data.ways, data.folder, data.rotations)
        return make_supervised(config, examples, device)
    family = make_family(config.family)
    policy = agents.make_policy(
        family.observation_space,
        family.action_space,
        config.network,
        seeds.generator(seeds.derive(config.seed, seeds.INITIAL)),
        init_std=config.data.init_std,
        action_scale=config.data.action_scale,
    )
    return Reinforcement(
        family,
        policy.to(device),
        agents.LinearFeatureBaseline(),
        config.data,
        GymFamily,
        recorded=config.speed.recorded,
        workers=config.speed.workers,
    )


def make_supervised(config: Config, examples: Any, device: str) -> Any:
    """Make the problem of these examples, with a new network."""
    assert isinstance(config.data, ShotsConfig)
    generator = seeds.generator(seeds.derive(config.seed, seeds.INITIAL))
    shape, outputs = examples.input_shape, examples.output_size
    network = agents.make_network(shape, outputs, config.network, generator)
    return Supervised(examples, network.to(device), config.data, config.speed.tasks_at_once)
