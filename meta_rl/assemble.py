"""Build a learner from settings."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch

from meta_rl import agents, envs, seeds
from meta_rl.algorithms import nearest
from meta_rl.config import Config, Facts, ShotsConfig, VariBADConfig, require_effect
from meta_rl.errors import InputError, require
from meta_rl.families import Family, make_family
from meta_rl.families.gym_family import beside
from meta_rl.families.informed import Informed
from meta_rl.from_settings import program_of
from meta_rl.machine import memory, parallel
from meta_rl.presets import preset
from meta_rl.problem import Problem
from meta_rl.problems.informed import InformedReinforcement, require_uninformed
from meta_rl.problems.memory import require_no_memory
from meta_rl.problems.modules import module_of
from meta_rl.problems.normalization import normalized_entries, with_normalization
from meta_rl.problems.observations import has_images
from meta_rl.problems.reinforcement import Reinforcement, require_reinforcement
from meta_rl.problems.supervised import Supervised
from meta_rl.problems.trials import TrialReinforcement
from meta_rl.runs.learner import MetaLearner
from meta_rl.storage.reading import shortened


class Start(Protocol):
    """A source of theta's initial values: ``FromRun`` or ``FromExperts`` of agents."""

    @property
    def step_size(self) -> float | None:
        """The initial learned step size, after :meth:`theta`; the config's when None."""
        ...

    def theta(self, problem: Problem, config: Config) -> dict[str, Any]:
        """Return theta, with the names and shapes of the problem's initial parameters."""
        ...

    @property
    def told(self) -> list[str]:
        """The lines to print, after :meth:`theta`."""
        ...

    def keep(self, folder: Path) -> None:
        """Write theta's source into a run folder, as config.json does not have it."""
        ...


def build(
    config: Config | str,
    device: str = "cpu",
    init_sb3: str | Path | None = None,
    start: Start | None = None,
    origin: Config | None = None,
) -> MetaLearner:
    """Return a learner at the start of meta-training.

    From here on, the process keeps the memory it frees (:mod:`meta_rl.machine.memory`).

    Args:
        config: settings, or the name of a preset.
        device: ``cpu``, ``cuda``, or ``auto`` for CUDA if there is a GPU.
        init_sb3: zip file of a stable-baselines3 PPO or A2C, to initialize theta from its actor.
            Nothing in it is unpickled.
        start: another source of theta: another run, or experts of single tasks.
        origin: settings that ``config`` was derived from; the nearest preset when None. A setting
            without effect is refused unless ``origin`` has it too.

    Raises:
        InputError: if the family is unknown, the device is missing, the zip file or ``start`` does
            not fit, or a setting would have no effect.
    """
    config = preset(config) if isinstance(config, str) else config
    if not isinstance(config, Config):
        raise InputError(
            f"config: expected the name of a preset, or its settings, got {shortened(config)}."
        )
    memory.keep_freed_memory()
    blocks = config.blocks or parallel.ranks()
    parallel.own_blocks(range(config.data.tasks), blocks)  # refuses a number that does not fit
    if parallel.ranks() > 1:
        config = replace(config, blocks=blocks)  # the run keeps it when fewer processes resume it
    config = with_data(config, None)
    problem = make_problem(config, resolve_device(device))
    origin = origin or nearest(config)
    require_effect(config, origin, facts_of(problem))
    if init_sb3 is not None:
        policy = require_reinforcement(problem, "init_sb3", "a PPO cannot start it").policy
        require_no_memory(policy, "init_sb3")
        require_uninformed(problem, "init_sb3")
        policy.load_state_dict(agents.sb3.read_parameters(init_sb3, policy), strict=False)
    if start is not None:
        module: Any = module_of(problem)
        module.load_state_dict(start.theta(problem, config), strict=False)  # statistics stay
    learner = MetaLearner(problem, config, origin)
    if start is not None and start.step_size is not None:
        inner = replace(config.inner, step_size=start.step_size)
        # The outer step may have drawn a population around the step sizes: copy the whole state.
        learner.restore(*MetaLearner(problem, replace(config, inner=inner), origin).state())
    return learner


def facts_of(problem: Problem) -> Facts:
    """Return the facts of a problem that settings depend on."""
    family = problem.environments
    if family is None:
        described = problem.describe()
        dimensions = len(described["inputs"])
        return Facts(
            classes=problem.kind == "classification" and described["family"] != envs.ARRAYS,
            images=dimensions == 3,
            sequences=dimensions == 2,
        )
    space = family.action_space
    box = isinstance(space, gym.spaces.Box)
    return Facts(
        images=has_images(family.observation_space),
        continuous=box,
        bounded=bool((np.isfinite(space.low) & np.isfinite(space.high)).any()) if box else None,
        numbers=bool(normalized_entries(family.observation_space).any()),
        horizon=family.horizon,
        single_environments=family.takes_workers if isinstance(family, Family) else None,
    )


def with_data(config: Config, folder: str | Path | None) -> Config:
    """Return the config with the absolute path of its data folder, or of another folder.

    Args:
        config: settings of a run.
        folder: the folder that the data moved to; the config's own when None.

    Raises:
        InputError: if ``folder`` is given and the run reads no data folder.
    """
    data = config.data
    if not isinstance(data, ShotsConfig) or data.folder is None:
        require(folder is None, "data", f"no folder, since {config.family} reads none", folder)
        return config
    path = Path(folder or data.folder).expanduser().absolute()
    return replace(config, data=replace(data, folder=str(path)))


def check_data(config: Config) -> None:
    """Refuse a run whose data folder is missing.

    Raises:
        InputError: says how to pass the folder that the data moved to.
    """
    folder = getattr(config.data, "folder", None)
    if folder is not None and not os.path.exists(Path(folder).expanduser()):
        raise InputError(
            f"data: expected the data that the run was trained on ({config.family}) in {folder}, "
            "got nothing there. Say where it is now: --data FOLDER; to adapt, --run-data FOLDER; "
            "in Python, load(run, data=FOLDER)."
        )


def resolve_device(device: str) -> str:
    """Resolve ``auto`` to cuda or cpu; under ``torchrun``, cuda to this process's own GPU.

    Raises:
        InputError: if ``device`` is not auto, cpu, cuda or cuda:N, or CUDA is missing.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or not (index.isdigit() or device == kind):
        raise InputError(f"device: expected auto, cpu, cuda or cuda:N, got {device!r}.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError("device: expected a CUDA GPU, got none. Use --device cpu.")
    return f"cuda:{parallel.local_rank()}" if device == "cuda" and parallel.ranks() > 1 else device


def make_problem(config: Config, device: str) -> Problem:
    """Make the settings' problem: their family of environments or examples, and a new network."""
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
    plain = make_family(config.family)
    family: Any = Informed(plain) if config.data.sees_task else plain
    remembers = config.inner.method == "memory"
    make: Any = agents.RecurrentPolicy if remembers else agents.make_policy
    if isinstance(config.outer, VariBADConfig):
        make = partial(agents.BeliefPolicy, latents=config.outer.latents)
    policy = make(
        family.observation_space,
        family.action_space,
        config.network,
        seeds.generator(seeds.derive(config.seed, seeds.INITIAL)),
        init_std=config.data.init_std,
        action_scale=config.data.action_scale,
    )
    if config.data.normalize_observations:
        policy = with_normalization(policy, family.observation_space)
    if remembers:
        given = family, policy.to(device), None, config.data, partial(beside, family)
        return TrialReinforcement(*given, workers=config.speed.workers)
    return (InformedReinforcement if config.data.sees_task else Reinforcement)(
        family,
        policy.to(device),
        agents.make_baseline(family, config.data, config.seed, device),
        config.data,
        partial(beside, family),
        program=program_of(config, torch.device(device), policy, plain),
        workers=config.speed.workers,
    )


def make_supervised(config: Config, examples: Any, device: str) -> Any:
    """Make the problem of a family of examples, with a new network."""
    assert isinstance(config.data, ShotsConfig)
    generator = seeds.generator(seeds.derive(config.seed, seeds.INITIAL))
    shape, outputs = examples.input_shape, examples.output_size
    network = agents.make_network(shape, outputs, config.network, generator)
    return Supervised(examples, network.to(device), config.data, config.speed.tasks_at_once)
