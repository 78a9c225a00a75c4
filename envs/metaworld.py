"""Meta-World v3: a robot arm's tasks with hidden goals (Yu et al. 2019; McLean et al. 2025).

The package is optional and slow to import, so nothing here imports it before a family is made.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from functools import cache, cached_property, partial
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from meta_rl.errors import InputError, hint
from meta_rl.families.choice import Choice
from meta_rl.families.family import Family
from meta_rl.families.parameters import Parameter, ParameterSpace
from meta_rl.families.rendering import prepare_mujoco
from meta_rl.types import Task

PREFIX = "metaworld-"
IDS = ("metaworld-ml1-TASK", "metaworld-ml10", "metaworld-ml45")
GOALS = 50  # settings of goal and objects that a benchmark has for an environment, in either split
SEED = 0  # of the benchmarks' goals: a task means the same in every run and on every machine


class MetaWorld(Family):
    """One of Meta-World's meta-learning benchmarks; horizon 500, reward version 2.

    A task is an environment and one of its goal settings, as numbered by the benchmark. Training
    tasks are the split ``in-distribution``; ``extrapolation`` are the tasks that the benchmark
    calls test: for ML1 goals 50 to 99 of the same environment, else five other environments.
    An episode starts in the same state every time and runs all 500 steps: success does not end it.

    Args:
        family_id: the family's id.
        benchmark: makes Meta-World's benchmark; called when the first environment is made, because
            drawing the goals takes a second (ML1) to half a minute (ML45).
        space: what tasks differ in.

    Raises:
        InputError: if Meta-World is not installed.
    """

    source = "arXiv:1910.10897, arXiv:2505.11289; package metaworld 3"
    horizon = 500
    held_out_split = "extrapolation"  # the benchmark's test tasks

    def __init__(self, family_id: str, benchmark: Callable[[], Any], space: ParameterSpace):
        self.id, self.space, self._benchmark = family_id, space, benchmark
        # The environments have one space in common as long as goals are hidden.
        sample = _package().ALL_V3_ENVIRONMENTS["reach-v3"]()
        self.observation_space, self.action_space = sample.observation_space, sample.action_space
        sample.close()

    def make_env(self, task: Task, render_mode: str | None = None) -> gym.Env:
        """Meta-World's environment, with its goal; ``info["success"]`` tells at every step."""
        values = self.check_task(task)
        name = values.get("task") or next(iter(self._settings))
        make: Any = partial(
            _make_env,
            name,
            self._settings[name][values["goal"]],  # type: ignore[index]
            render_mode,
        )
        spec = EnvSpec(f"MetaRL/{name}", make, max_episode_steps=self.horizon)
        return gym.make(spec, disable_env_checker=True)

    @cached_property
    def _settings(self) -> dict[str, list[Any]]:
        """Of every environment, Meta-World's own tasks: those to train on, then those to test."""
        benchmark, settings = self._benchmark(), {}
        for setting in [*benchmark.train_tasks, *benchmark.test_tasks]:
            settings.setdefault(setting.env_name, []).append(setting)
        return settings


@cache
def make_metaworld(family_id: str) -> MetaWorld:
    """The family of an id that begins with ``metaworld-``; see ``IDS``.

    Raises:
        InputError: if there is none, or Meta-World is not installed.
    """
    package = _package()
    singles = {f"{PREFIX}ml1-{name}": name for name in package.ML1.ENV_NAMES}
    if family_id in singles:
        goal = Parameter("goal", _Range(0, GOALS), extrapolation=_Range(GOALS, 2 * GOALS))
        benchmark = partial(package.ML1, singles[family_id], seed=SEED)
        return MetaWorld(family_id, benchmark, ParameterSpace(goal))
    several = {"metaworld-ml10": "ML10", "metaworld-ml45": "ML45"}
    if family_id in several:
        names = getattr(package.env_dict, f"{several[family_id]}_V3")
        task = Parameter("task", Choice(*names["train"]), extrapolation=Choice(*names["test"]))
        benchmark = partial(getattr(package, several[family_id]), seed=SEED)
        space = ParameterSpace(task, Parameter("goal", _Range(0, GOALS)))
        return MetaWorld(family_id, benchmark, space)
    near = hint(family_id, [*singles, *several])
    raise InputError(f"family: expected one of {', '.join(IDS)}, got {family_id!r}.{near}")


class _Range(Choice):
    """One of the whole numbers from start to before stop."""

    def __init__(self, start: int, stop: int):
        super().__init__(*range(start, stop))

    def __str__(self) -> str:
        return f"a whole number from {self.values[0]} to {self.values[-1]}"


class _Mended(gym.Env):
    """What goes before Meta-World's own classes."""

    fullpath: str  # of the model's XML

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Meta-World's ignores the seed."""
        gym.Env.reset(self, seed=seed)
        return super().reset(options=options)

    def _initialize_simulation(self) -> tuple[Any, Any]:
        """Compiling a model takes 0.1 s or more and copying it 0.01 s; a task needs many."""
        model = copy.copy(_compiled(self.fullpath))
        return model, importlib.import_module("mujoco").MjData(model)


@cache
def _compiled(path: str) -> Any:
    model = importlib.import_module("mujoco").MjModel.from_xml_path(path)
    size = model.vis.global_
    size.offwidth, size.offheight = max(size.offwidth, 480), max(size.offheight, 480)
    return model


def _make_env(name: Any, setting: Any, render_mode: str | None) -> gym.Env:
    if render_mode == "rgb_array":
        prepare_mujoco()
    env_class = _package().ALL_V3_ENVIRONMENTS[name]
    # Under its own name, by which Meta-World's functions recognize it.
    env = type(env_class.__name__, (_Mended, env_class), {})(
        reward_function_version="v2", render_mode=render_mode
    )
    # Not by Meta-World's Gymnasium ids: "ML1-train" of 3.1.1 serves the test split. The setting
    # also hides the goal from observations.
    env.set_task(setting)
    return env


def _package() -> Any:
    try:
        return importlib.import_module("metaworld")
    except ImportError as error:
        raise InputError(
            f"family: Meta-World cannot be imported ({error}). Install it with "
            "pip install -e '.[metaworld]'; it brings MuJoCo 3.3.0."
        ) from error
