"""The base classes of the navigation families: points that move by their clipped actions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from meta_rl.families.family import Family
from meta_rl.families.tensor import TensorEnv
from meta_rl.types import Task, Trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARGIN = 1e-5
"""Points this near a limit are on its closed side.

Moves of one size meet limits exactly: eight steps of 0.1 meet 0.8. Sums in another order, precision
or on another processor differ by less than this margin, and must give the same decision.
"""


def plane(bound: float) -> gym.spaces.Box:
    """Return the square [-bound, bound]^2 as a space."""
    return gym.spaces.Box(-bound, bound, (2,), np.float32)


class PointEnv(gym.Env[np.ndarray, np.ndarray]):
    """One point that moves by its clipped action; a subclass defines the reward.

    Args:
        goal: the goal's position ``(x, y)``.
    """

    env_id: str  # the registered id
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
        """Return to the start."""
        super().reset(seed=seed)
        self.position = self.np_random.uniform(-self.start, self.start, 2)
        return self.position.astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Move by the clipped action."""
        before = self.position
        self.position = before + np.clip(action, -self.reach, self.reach)
        reward, reached = self.outcome(before)
        return self.position.astype(np.float32), reward, reached, False, {}

    def outcome(self, before: np.ndarray) -> tuple[float, bool]:
        """Return the reward of the move from ``before``, and whether it ends the episode."""
        raise NotImplementedError


class PointTensorEnv(TensorEnv):
    """:class:`PointEnv` for M x B points at once."""

    single: type[PointEnv]
    goal: Tensor  # (M, 1, 2)

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Keep the tasks' goals."""
        self.goal = self.column(tasks, "goal")

    def initial_state(self, generator: torch.Generator) -> Tensor:
        """Draw starts as the single environment does."""
        return self.uniform(-self.single.start, self.single.start, 2, generator)

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Move by the clipped action."""
        before = self.state
        self.state = before + action.clamp(-self.single.reach, self.single.reach)
        return self.outcome(before)

    @abstractmethod
    def outcome(self, before: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rewards of the moves from ``before`` ``(M, B, 2)``, and the terminations."""


class PointFamily(Family):
    """A family over one kind of point, whose arguments are the tasks' parameters."""

    single: type[PointEnv]

    def __init__(self):
        example: Any = gym.make(self.single.env_id).unwrapped
        self.horizon = self.single.horizon
        self.observation_space, self.action_space = example.observation_space, example.action_space

    def make_env(self, task: Task, render_mode: str | None = None) -> gym.Env:
        """Return a standard environment with the task's goal and its time limit."""
        goal: Any = self.check_task(task)
        return gym.make(self.single.env_id, **goal)

    def picture(
        self, task: Task, before: Sequence[Trajectory], after: Sequence[Trajectory]
    ) -> Figure:
        """Draw the points' paths before and after adapting, and the goal."""
        from .paths import paths_figure  # matplotlib takes a while to import

        point: Any = self.make_env(task).unwrapped
        return paths_figure(point.goal, before, after, point.reach)

    def straight_return(self, task: Task) -> float:
        """Return the return of an episode that moves to the goal as fast as it can on each axis.

        No policy is nearer to the goal at any time, because each axis has its own limit.
        """
        env: Any = self.make_env(task)
        env.reset(seed=0)
        point: PointEnv = env.unwrapped
        total, over = 0.0, False
        while not over:
            step = np.clip(point.goal - point.position, -point.reach, point.reach)
            _, reward, terminated, truncated, _ = env.step(step.astype(np.float32))
            total, over = total + float(reward), terminated or truncated
        return total


def register_points(*kinds: type[PointEnv]) -> None:
    """Register kinds of points with ``gymnasium.make``, with their time limits."""
    for kind in kinds:
        if kind.env_id not in gym.registry:
            entry_point = f"{kind.__module__}:{kind.__name__}"
            gym.register(kind.env_id, entry_point, max_episode_steps=kind.horizon)
