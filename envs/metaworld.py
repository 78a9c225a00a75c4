"""Meta-World v3: a robot arm's tasks with hidden goals (Yu et al. 2019; McLean et al. 2025).

The package is optional and slow to import, so it is imported only when a family is made.
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
GOALS = 50  # goal settings per environment and split of a benchmark
SEED = 0  # the seed of the goals, fixed so that a task is the same in every run and machine


class MetaWorld(Family):
    """A meta-learning benchmark of Meta-World; horizon 500, reward version 2.

    A task is an environment and one of its goal settings, as numbered by the benchmark. The split
    ``in-distribution`` holds the benchmark's training tasks, ``extrapolation`` its test tasks: for
    ML1 goals 50 to 99 of the same environment, else five other environments. A task's episodes all
    start in the same state and run 500 steps: success does not end them.

    Args:
        family_id: the family's id.
        benchmark: a function that makes Meta-World's benchmark; called when the first environment
            is made, because drawing the goals takes a second (ML1) to half a minute (ML45).
        space: the parameters that tasks differ in.

    Raises:
        InputError: if Meta-World is not installed.
    """

    source = "arXiv:1910.10897, arXiv:2505.11289; package metaworld 3"
    horizon = 500
    held_out_split = "extrapolation"  # the benchmark's test tasks

    def __init__(self, family_id: str, benchmark: Callable[[], Any], space: ParameterSpace):
        self.id, self.space, self._benchmark = family_id, space, benchmark
        # All environments have the same spaces as long as goals are hidden.
        sample = _package().ALL_V3_ENVIRONMENTS["reach-v3"]()
        self.observation_space, self.action_space = sample.observation_space, sample.action_space
        sample.close()

    def make_env(self, task: Task, render_mode: str | None = None) -> gym.Env:
        """Return Meta-World's environment with the task's goal; see ``info["success"]``."""
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
        """Return Meta-World's tasks by environment: training tasks first, then test tasks."""
        benchmark, settings = self._benchmark(), {}
        for setting in [*benchmark.train_tasks, *benchmark.test_tasks]:
            settings.setdefault(setting.env_name, []).append(setting)
        return settings


@cache
def make_metaworld(family_id: str) -> MetaWorld:
    """Make the family of an id that begins with ``metaworld-``; see ``IDS``.

    Raises:
        InputError: if there is no such family, or Meta-World is not installed.
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
    """A choice of whole numbers from start to stop - 1."""

    def __init__(self, start: int, stop: int):
        super().__init__(*range(start, stop))

    def __str__(self) -> str:
        return f"a whole number from {self.values[0]} to {self.values[-1]}"


class _Mended(gym.Env):
    """Fixes to Meta-World's classes: seeded resets and cached models."""

    fullpath: str  # path of the model's XML

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Seed and reset; Meta-World's own reset ignores the seed."""
        gym.Env.reset(self, seed=seed)
        return super().reset(options=options)

    def _initialize_simulation(self) -> tuple[Any, Any]:
        """Copy a cached model, which takes 0.01 s; to compile one takes 0.1 s or more."""
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
    # The subclass keeps the name, because Meta-World's functions recognize classes by name.
    env = type(env_class.__name__, (_Mended, env_class), {})(
        reward_function_version="v2", render_mode=render_mode
    )
    # Meta-World's Gymnasium ids are not used: "ML1-train" of 3.1.1 serves the test split. Setting
    # the task also hides the goal from observations.
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
