"""Points that look for a goal in the plane: dense, and with two kinds of sparse rewards."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from envs.distributions import Choice, Uniform
from envs.family import Family
from envs.parameters import Parameter, ParameterSpace
from envs.tensor import TensorEnv
from meta_rl.types import Task

CLOSE = 0.01  # navigation-2d: the goal is reached when both axes are nearer than this
START = 0.2  # navigation-corner: episodes start in [-0.2, 0.2]^2
SILENT = 0.5  # navigation-corner: no reward where |x| + |y| is below
RADIUS = 0.2  # navigation-semicircle: no reward further from the goal


def plane(bound: float) -> gym.spaces.Box:
    """The square [-bound, bound]^2."""
    return gym.spaces.Box(-bound, bound, (2,), np.float32)


class PointEnv(gym.Env[np.ndarray, np.ndarray]):
    """One point that moves by its clipped action; a subclass says what that pays.

    Args:
        goal: where to, ``(x, y)``.
    """

    reach: float  # largest move along each axis
    horizon: int
    start = 0.0  # episodes start uniformly in [-start, start]^2

    def __init__(self, goal: Sequence[float]):
        self.observation_space = plane(self.start + self.horizon * self.reach)
        self.action_space = plane(self.reach)
        self.goal = np.asarray(goal, dtype=np.float64)
        self.position = np.zeros(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Back to the start."""
        super().reset(seed=seed)
        self.position = self.np_random.uniform(-self.start, self.start, 2)
        return self.position.astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Move."""
        before = self.position
        self.position = before + np.clip(action, -self.reach, self.reach)
        reward, reached = self.outcome(before)
        return self.position.astype(np.float32), reward, reached, False, {}

    def outcome(self, before: np.ndarray) -> tuple[float, bool]:
        """The reward of the move from ``before`` to here, and whether it ended the episode."""
        raise NotImplementedError


class PointTensorEnv(TensorEnv):
    """The same for M x B points at once."""

    reach: float
    goal: Tensor  # (M, 1, 2)

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Keep the goals."""
        self.goal = self.column(tasks, "goal")

    def initial_state(self, generator: torch.Generator) -> Tensor:
        """The origin."""
        return torch.zeros(*self.rows, 2, dtype=self.dtype, device=self.device)

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Move by the clipped action."""
        before = self.state
        self.state = before + action.clamp(-self.reach, self.reach)
        return self.outcome(before)

    @abstractmethod
    def outcome(self, before: Tensor) -> tuple[Tensor, Tensor]:
        """Rewards of the moves from ``before`` ``(M, B, 2)`` to here; terminations."""


class Navigation2DEnv(PointEnv):
    """The reward is minus the distance to the goal, which ends the episode."""

    reach, horizon = 0.1, 100

    def __init__(self, goal: Sequence[float] = (0.5, 0.5)):
        super().__init__(goal)

    def outcome(self, before: np.ndarray) -> tuple[float, bool]:
        """Minus the distance; reached when both axes are near."""
        offset = self.position - self.goal
        return -float(np.linalg.norm(offset)), bool((np.abs(offset) < CLOSE).all())


class Navigation2DTensorEnv(PointTensorEnv):
    """The same for M x B points at once."""

    reach = Navigation2DEnv.reach

    def outcome(self, before: Tensor) -> tuple[Tensor, Tensor]:
        """Minus the distance; reached when both axes are near."""
        offset = self.state - self.goal
        return -torch.linalg.vector_norm(offset, dim=-1), offset.abs().amax(-1) < CLOSE


class Navigation2D(Family):
    """Goals uniform in the square [-0.5, 0.5]^2; horizon 100.

    The reward is the negative *distance*, as in the released code, not its square as in the text.
    """

    id = "navigation-2d"
    source = "Finn et al. 2017, section 5.3; cbfinn/maml_rl, point_env_randgoal"
    horizon = Navigation2DEnv.horizon
    observation_space = Navigation2DEnv().observation_space
    action_space = Navigation2DEnv().action_space
    space = ParameterSpace(
        Parameter("goal", Uniform(-0.5, 0.5), size=2, extrapolation=Uniform(-0.75, 0.75))
    )
    tensor_env = Navigation2DTensorEnv

    def make_env(self, task: Task) -> gym.Env:
        """One standard environment with this goal and its time limit."""
        return gym.make("MetaRL/Navigation2D-v0", goal=self.check_task(task)["goal"])


class NavigationCornerEnv(PointEnv):
    """The reward is the progress towards the goal, but only where it is the nearest corner."""

    reach, horizon, start = 0.2, 100, START

    def __init__(self, goal: Sequence[float] = (2.0, 2.0)):
        super().__init__(goal)

    def outcome(self, before: np.ndarray) -> tuple[float, bool]:
        """Progress, or 0 near the origin and in the other corners' quadrants; never ends."""
        corners = np.array([[-2.0, -2.0], [-2.0, 2.0], [2.0, -2.0], [2.0, 2.0]])
        distance = np.linalg.norm(self.position - self.goal)
        nearest = np.linalg.norm(self.position - corners, axis=1).min()
        if np.abs(self.position).sum() < SILENT or distance > nearest:
            return 0.0, False
        return float(np.linalg.norm(before - self.goal) - distance), False


class NavigationCornerTensorEnv(PointTensorEnv):
    """The same for M x B points at once."""

    reach = NavigationCornerEnv.reach

    def initial_state(self, generator: torch.Generator) -> Tensor:
        """Uniform in [-0.2, 0.2]^2."""
        return self.uniform(-START, START, 2, generator)

    def outcome(self, before: Tensor) -> tuple[Tensor, Tensor]:
        """Progress, or 0 near the origin and in the other corners' quadrants; never ends."""
        progress = torch.linalg.vector_norm(before - self.goal, dim=-1)
        progress = progress - torch.linalg.vector_norm(self.state - self.goal, dim=-1)
        # The goal is the nearest corner exactly where no coordinate has the other sign.
        heard = (self.state * self.goal >= 0).all(-1) & (self.state.abs().sum(-1) >= SILENT)
        return progress * heard, torch.zeros_like(heard)


class NavigationCorner(Family):
    """The goal is one of the corners (+-2, +-2); the reward is sparse; horizon 100.

    Only a walk away from the origin tells which corner it is: what is learned is to explore.
    """

    id = "navigation-corner"
    source = "Rothfuss et al. 2019 (ProMP); jonasrothfuss/ProMP, point_env_2d_corner"
    horizon = NavigationCornerEnv.horizon
    observation_space = NavigationCornerEnv().observation_space
    action_space = NavigationCornerEnv().action_space
    space = ParameterSpace(Parameter("goal", Choice(-2.0, 2.0), size=2))
    tensor_env = NavigationCornerTensorEnv

    def make_env(self, task: Task) -> gym.Env:
        """One standard environment with this goal and its time limit."""
        return gym.make("MetaRL/NavigationCorner-v0", goal=self.check_task(task)["goal"])


class NavigationSemicircleEnv(PointEnv):
    """The reward is 1 minus the distance to a goal on the unit circle, or 0 beyond 0.2.

    Args:
        angle: of the goal, rad.
    """

    reach, horizon = 0.1, 20

    def __init__(self, angle: float = math.pi / 2):
        super().__init__((math.cos(angle), math.sin(angle)))

    def outcome(self, before: np.ndarray) -> tuple[float, bool]:
        """1 minus the distance where that is at most 0.2, else 0; never ends."""
        distance = float(np.linalg.norm(self.position - self.goal))
        return (1.0 - distance if distance <= RADIUS else 0.0), False


class NavigationSemicircleTensorEnv(PointTensorEnv):
    """The same for M x B points at once."""

    reach = NavigationSemicircleEnv.reach

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Keep the goals."""
        angle = self.column(tasks, "angle")
        self.goal = torch.stack([angle.cos(), angle.sin()], -1)

    def outcome(self, before: Tensor) -> tuple[Tensor, Tensor]:
        """1 minus the distance where that is at most 0.2, else 0; never ends."""
        distance = torch.linalg.vector_norm(self.state - self.goal, dim=-1)
        near = distance <= RADIUS
        return (1.0 - distance) * near, torch.zeros_like(near)


class NavigationSemicircle(Family):
    """Goals on the upper half of the unit circle; the reward is sparse; horizon 20.

    PEARL meta-trains on the distance and keeps this reward for adapting; here it is the only one.
    """

    id = "navigation-semicircle"
    source = "Rakelly et al. 2019 (PEARL); katerakelly/oyster, sparse-point-robot"
    horizon = NavigationSemicircleEnv.horizon
    observation_space = NavigationSemicircleEnv().observation_space
    action_space = NavigationSemicircleEnv().action_space
    space = ParameterSpace(
        Parameter("angle", Uniform(0.0, math.pi), "rad", extrapolation=Uniform(0.0, 2 * math.pi))
    )
    tensor_env = NavigationSemicircleTensorEnv

    def make_env(self, task: Task) -> gym.Env:
        """One standard environment with this goal and its time limit."""
        return gym.make("MetaRL/NavigationSemicircle-v0", angle=self.check_task(task)["angle"])


for env in (Navigation2DEnv, NavigationCornerEnv, NavigationSemicircleEnv):
    env_id = f"MetaRL/{env.__name__.removesuffix('Env')}-v0"
    if env_id not in gym.registry:
        gym.register(env_id, f"{env.__module__}:{env.__name__}", max_episode_steps=env.horizon)
