"""Locomotion families of the meta-learning papers, on Gymnasium's v5 MuJoCo robots.

Each variant that a paper ran has an id of its own. All differ from the papers in the robots: these
are Gymnasium's v5 models on today's MuJoCo, whose contact forces (``cfrc_ext``) leave out the world
body and were all 0 in much published work (MuJoCo 2.0 with mujoco-py). What else differs is said at
each family.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from envs.family import Family
from envs.mujoco import MuJoCoVec, Reward
from envs.parameters import Choice, LogUniform, Parameter, ParameterSpace, Uniform
from envs.physics import change_model, changes_of, load_mujoco
from meta_rl.types import BatchedEnv, Task

Info = Mapping[str, Any]
Values = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Locomotion(Family):
    """A robot of Gymnasium whose tasks differ in reward or physics.

    Args:
        id: of the family.
        env_id: of the robot.
        space: parameters; those with a target ``model.FIELD`` change the physics; see
            :func:`envs.physics.change_model`.
        reward: of Gymnasium's ``info`` and the task.
        horizon: steps after which an episode is truncated.
        kwargs: for the robot's constructor: cost weights, healthy ranges, observations.
        source: paper and code that define it, and what differs from them here.
    """

    id: str
    env_id: str
    space: ParameterSpace
    reward: Reward
    horizon: int = 200
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    @property
    def summary(self) -> str:
        """The robot and what it is rewarded for."""
        return f"{self.env_id}: {(self.reward.__doc__ or '').splitlines()[0]}"

    @cached_property
    def observation_space(self) -> gym.Space:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The robot's."""
        return self._spaces[0]

    @cached_property
    def action_space(self) -> gym.Space:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The robot's."""
        return self._spaces[1]

    @cached_property
    def _spaces(self) -> tuple[gym.Space, gym.Space]:
        robot = self._robot()
        return robot.observation_space, robot.action_space

    def make_env(self, task: Task) -> gym.Env:
        """Gymnasium's robot with this task's reward and physics, and the time limit.

        Raises:
            InputError: if MuJoCo is missing or the task does not fit.
        """
        task, robot = self.check_task(task), self._robot()
        if changes := changes_of(self.space.parameters, task):
            change_model(attrgetter("model")(robot.unwrapped), changes)
        return _Rewarded(robot, self.reward, task)

    def make_vec(
        self,
        num_tasks: int,
        episodes: int,
        *,
        device: torch.device | str,
        dtype: torch.dtype,
        workers: int = 0,
    ) -> BatchedEnv:
        """MuJoCo's own thread pool; ``workers`` are not needed."""
        return MuJoCoVec(
            self._robot(),
            num_tasks,
            episodes,
            horizon=self.horizon,
            reward=self.reward,
            parameters=self.space.parameters,
            device=device,
            dtype=dtype,
        )

    def _robot(self) -> gym.Env:
        load_mujoco()
        return gym.make(
            self.env_id,
            max_episode_steps=self.horizon,
            disable_env_checker=True,
            **self.kwargs,
        )


class _Rewarded(gym.Wrapper):
    """Replaces the reward by the family's."""

    def __init__(self, env: gym.Env, reward: Reward, task: Task):
        super().__init__(env)
        self._reward, self._task = reward, task

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, _, terminated, truncated, info = self.env.step(action)
        reward = float(self._reward(info, self._task))
        return observation, reward, bool(terminated), truncated, info


def own_reward(info: Info, task: Values) -> Any:
    """Gymnasium's."""
    return _total(info, info["reward_forward"])


def signed_speed(info: Info, task: Values) -> Any:
    """Velocity along x, times ``direction``."""
    return _total(info, task["direction"] * info["x_velocity"])


def target_speed(info: Info, task: Values) -> Any:
    """Minus the distance of the velocity along x from ``velocity``."""
    return _total(info, -np.abs(info["x_velocity"] - task["velocity"]))


def target_speed_bonus(info: Info, task: Values) -> Any:
    """The same plus 1."""
    return _total(info, 1.0 - np.abs(info["x_velocity"] - task["velocity"]))


def speed_along_angle(info: Info, task: Values) -> Any:
    """Velocity along ``angle`` in the plane."""
    return _total(info, _along_angle(info, task))


def humanoid_speed_along_angle(info: Info, task: Values) -> Any:
    """1.25 times the velocity of the mass centre along ``angle``."""
    return _total(info, 1.25 * _along_angle(info, task))


def distance_to_goal(info: Info, task: Values) -> Any:
    """Minus the L1 distance to the point at ``radius`` and ``angle``."""
    goal_x = task["radius"] * np.cos(task["angle"])
    goal_y = task["radius"] * np.sin(task["angle"])
    distance = np.abs(info["x_position"] - goal_x) + np.abs(info["y_position"] - goal_y)
    return _total(info, -distance)


def _total(info: Info, progress: Any) -> Any:
    """Progress, the reward for being healthy and the costs, in Gymnasium's order.

    The order matters to the last bit: one environment's control cost is a float32.
    """
    costs = info["reward_ctrl"] + info.get("reward_contact", 0.0)
    return progress + info.get("reward_survive", 0.0) + costs


def _along_angle(info: Info, task: Values) -> Any:
    return np.cos(task["angle"]) * info["x_velocity"] + np.sin(task["angle"]) * info["y_velocity"]


DIRECTION = ParameterSpace(Parameter("direction", Choice(-1.0, 1.0)))
ANGLE = Parameter("angle", Uniform(0.0, 2 * math.pi), "rad")


def velocities(high: float) -> ParameterSpace:
    """Target velocities from 0 to ``high`` m/s; beyond that by half as much to extrapolate."""
    wide = Uniform(0.0, 1.5 * high)
    return ParameterSpace(Parameter("velocity", Uniform(0.0, high), "m/s", extrapolation=wide))


def random_physics(bodies: int, geoms: int, hinges: int) -> ParameterSpace:
    """Multipliers of what rand_param_envs randomizes, for a robot in a vertical plane.

    Left out is what cannot matter in a plane (``tests/envs/test_mujoco.py`` shows it): the world
    body, the undamped root joint, moments of inertia but that about the hinges' axis, and
    frictions but the sliding one.
    """

    def scale(field: str, part: str, base: float, size: int) -> Parameter:
        return Parameter(
            field,
            LogUniform(base**-3, base**3),
            "times the robot's own",
            size=size,
            extrapolation=LogUniform(base**-4, base**4),
            target=f"model.{field}[{part}]",
            scale=True,
        )

    return ParameterSpace(
        scale("body_mass", "1:", 1.5, bodies),
        scale("body_inertia", "1:,1", 1.5, bodies),
        scale("geom_friction", ":,0", 1.5, geoms),
        scale("dof_damping", "3:", 1.3, hinges),
    )


CHEETAH_COST = {"ctrl_cost_weight": 0.05}
PROMP = "ProMP (Rothfuss et al. 2019), github.com/jonasrothfuss/ProMP"
MAML = "MAML (Finn et al. 2017), github.com/cbfinn/maml_rl"
RAND_PARAMS = (
    "rand_param_envs (github.com/dennisl88/rand_param_envs) as in ProMP and PEARL: mass, inertia "
    "and friction times 1.5^U(-3, 3), damping times 1.3^U(-3, 3). Here: the v5 model of the robot."
)

LOCOMOTION = (
    Locomotion(
        "half-cheetah-direction",
        "HalfCheetah-v5",
        DIRECTION,
        signed_speed,
        horizon=100,
        kwargs=CHEETAH_COST,
        source=f"{PROMP}: HalfCheetahRandDirecEnv, forward or backward, horizon 100.",
    ),
    Locomotion(
        "half-cheetah-velocity",
        "HalfCheetah-v5",
        velocities(2.0),
        target_speed,
        horizon=100,
        kwargs=CHEETAH_COST,
        source=f"{MAML}, velocities U[0, 2]; reward and horizon 100 as in "
        "github.com/tristandeleu/pytorch-maml-rl (MAML itself: 200, velocity of the mass centre).",
    ),
    Locomotion(
        "half-cheetah-velocity-3",
        "HalfCheetah-v5",
        velocities(3.0),
        target_speed,
        horizon=100,
        kwargs=CHEETAH_COST,
        source=f"{PROMP}: HalfCheetahRandVelEnv, velocities U[0, 3], horizon 100.",
    ),
    Locomotion(
        "ant-direction",
        "Ant-v5",
        DIRECTION,
        signed_speed,
        kwargs={"healthy_z_range": (0.0, 1.0)},
        source=f"{PROMP}: AntRandDirecEnv, forward or backward. Here no reward for surviving on "
        "the step that ends the episode.",
    ),
    Locomotion(
        "ant-direction-2d",
        "Ant-v5",
        ParameterSpace(ANGLE),
        speed_along_angle,
        kwargs={"healthy_z_range": (0.0, 1.0)},
        source=f"{PROMP}: AntRandDirec2DEnv, any direction in the plane. Here no reward for "
        "surviving on the step that ends the episode.",
    ),
    Locomotion(
        "ant-goal",
        "Ant-v5",
        ParameterSpace(
            Parameter(
                "radius",
                Uniform(0.0, 3.0, power=2.0),
                "m",
                extrapolation=Uniform(0.0, 4.5, power=2.0),
            ),
            ANGLE,
        ),
        distance_to_goal,
        kwargs={
            "ctrl_cost_weight": 0.1,
            "healthy_reward": 0.0,
            "terminate_when_unhealthy": False,
            "exclude_current_positions_from_observation": False,
        },
        source=f"{PROMP}: AntRandGoalEnv, points uniform on a disc of radius 3 m; x and y are "
        "observed, episodes do not end early. Here the torso's position is not one substep old.",
    ),
    Locomotion(
        "ant-velocity",
        "Ant-v5",
        velocities(3.0),
        target_speed_bonus,
        kwargs={
            "ctrl_cost_weight": 0.005,
            "healthy_reward": 0.05,
            "exclude_current_positions_from_observation": False,
        },
        source=f"{MAML}: AntEnvRand, velocities U[0, 3], x and y observed. Here the velocity is "
        "the mean over the step, and the torso's rotation matrix is not observed: its quaternion "
        "is. No reward for surviving on the step that ends the episode.",
    ),
    Locomotion(
        "humanoid-direction",
        "Humanoid-v5",
        ParameterSpace(ANGLE),
        humanoid_speed_along_angle,
        source=f"{PROMP}: HumanoidRandDirec2DEnv, any direction in the plane. Here no reward for "
        "surviving on the step that ends the episode, and 348 observations, not 376: v5 drops "
        "those that are always 0.",
    ),
    Locomotion(
        "walker2d-random-params",
        "Walker2d-v5",
        random_physics(bodies=7, geoms=8, hinges=6),
        own_reward,
        source=RAND_PARAMS,
    ),
    Locomotion(
        "hopper-random-params",
        "Hopper-v5",
        random_physics(bodies=4, geoms=5, hinges=3),
        own_reward,
        source=RAND_PARAMS,
    ),
)
