"""Families of Gymnasium's v5 MuJoCo robots, whose tasks differ in reward or physics."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import Any, get_args

import gymnasium as gym
import torch

from meta_rl.errors import unknown
from meta_rl.families.family import Family
from meta_rl.families.mujoco import Backend, MuJoCoVec, Reward
from meta_rl.families.parameters import ParameterSpace
from meta_rl.families.physics import change_model, changes_of, load_mujoco
from meta_rl.families.rendering import prepare_mujoco
from meta_rl.types import BatchedEnv, Task

# Pixels a side of pictures and of the shadow map. Without a GPU this renders six times as fast as
# 480 pixels with MuJoCo's default shadow map (4096) and smoothed edges.
SIZE, SHADOWS = 240, 1024
# The camera that follows the robot. From Gymnasium's usual one, robots soon run out of the picture.
VIEW = {"width": SIZE, "height": SIZE, "camera_name": "track"}


@dataclass(frozen=True, eq=False)
class Locomotion(Family):
    """A robot of Gymnasium whose tasks differ in reward or physics.

    Args:
        id: the family's id.
        env_id: the robot's Gymnasium id.
        space: the tasks' parameters; a target ``model.FIELD`` changes the physics, see
            :func:`meta_rl.families.physics.change_model`.
        reward: the reward as a function of Gymnasium's ``info`` and the task.
        horizon: steps after which an episode is truncated.
        kwargs: arguments of the robot's constructor: cost weights, healthy ranges, observations.
        source: the defining paper and code, and the differences from them.
        backend: what simulates batches: ``mujoco``, or ``warp`` for MuJoCo Warp, in float32. Nobody
            has run Warp on a GPU yet; it was tried on its CPU device.
    """

    id: str
    env_id: str
    space: ParameterSpace
    reward: Reward
    horizon: int = 200
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    backend: Backend = "mujoco"

    def __post_init__(self):
        if self.backend not in get_args(Backend):
            raise unknown("backend", get_args(Backend), self.backend)

    @property
    def summary(self) -> str:
        """Return the robot's id and its reward, in one line."""
        return f"{self.env_id}: {(self.reward.__doc__ or '').splitlines()[0]}"

    @cached_property
    def observation_space(self) -> gym.Space:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Return the robot's observation space."""
        return self._spaces[0]

    @cached_property
    def action_space(self) -> gym.Space:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Return the robot's action space."""
        return self._spaces[1]

    @cached_property
    def _spaces(self) -> tuple[gym.Space, gym.Space]:
        robot = self._robot()
        return robot.observation_space, robot.action_space

    def make_env(self, task: Task, render_mode: str | None = None) -> gym.Env:
        """Return Gymnasium's robot with the task's reward, physics and time limit.

        With ``render_mode`` ``rgb_array`` its pictures are small and simple.

        Raises:
            InputError: if MuJoCo is missing or the task does not fit.
        """
        task, robot = self.check_task(task), self._robot(render_mode)
        if changes := changes_of(self.space.parameters, task):
            change_model(attrgetter("model")(robot.unwrapped), changes)
        return _Rewarded(robot, self.reward, task)

    @property
    def takes_workers(self) -> bool:
        """Return False: MuJoCo has threads of its own."""
        return False

    def make_vec(
        self,
        num_tasks: int,
        episodes: int,
        *,
        device: torch.device | str,
        dtype: torch.dtype,
        workers: int = 0,
    ) -> BatchedEnv:
        """Return the MuJoCo backend, which ignores ``workers``; before MuJoCo 4 the general one.

        Raises:
            InputError: if MuJoCo is missing, or the backend asked for is.
        """
        load_mujoco()
        if self.backend == "mujoco" and importlib.util.find_spec("mujoco.batch") is None:
            return super().make_vec(
                num_tasks, episodes, device=device, dtype=dtype, workers=workers
            )
        return MuJoCoVec(
            self._robot(),
            num_tasks,
            episodes,
            horizon=self.horizon,
            reward=self.reward,
            parameters=self.space.parameters,
            device=device,
            dtype=dtype,
            backend=self.backend,
        )

    def _robot(self, render_mode: str | None = None) -> gym.Env:
        load_mujoco()
        pictures = render_mode == "rgb_array"
        if pictures:
            prepare_mujoco()
        robot = gym.make(
            self.env_id,
            max_episode_steps=self.horizon,
            disable_env_checker=True,
            render_mode=render_mode,
            **(VIEW if pictures else {}),
            **self.kwargs,
        )
        if pictures:
            quality = attrgetter("model.vis.quality")(robot.unwrapped)
            quality.shadowsize, quality.offsamples = SHADOWS, 0
        return robot


class _Rewarded(gym.Wrapper):
    """Replaces the robot's reward by the family's."""

    def __init__(self, env: gym.Env, reward: Reward, task: Task):
        super().__init__(env)
        self._reward, self._task = reward, task

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, _, terminated, truncated, info = self.env.step(action)
        reward = float(self._reward(info, self._task))
        return observation, reward, bool(terminated), truncated, info
