"""2-D point navigation of the MAML paper (Finn et al. 2017, section 5.3).

Definition as in the released code (cbfinn/maml_rl, point_env_randgoal): the reward is the negative
*distance*, not its square as the paper's text has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from envs.family import Family
from envs.parameters import Parameter, ParameterSpace, Uniform
from envs.tensor import TensorEnv
from meta_rl.types import Task

HORIZON = 100
STEP = 0.1  # largest move along each axis
CLOSE = 0.01  # the goal is reached when both axes are nearer than this
ENV_ID = "MetaRL/Navigation2D-v0"

OBSERVATION_SPACE = gym.spaces.Box(-HORIZON * STEP, HORIZON * STEP, (2,), np.float32)
ACTION_SPACE = gym.spaces.Box(-STEP, STEP, (2,), np.float32)


class Navigation2DEnv(gym.Env[np.ndarray, np.ndarray]):
    """One point that starts at the origin and moves by its clipped action.

    Args:
        goal: where to, ``(x, y)``.
    """

    def __init__(self, goal: Sequence[float] = (0.5, 0.5)):
        self.observation_space, self.action_space = OBSERVATION_SPACE, ACTION_SPACE
        self.goal = np.asarray(goal, dtype=np.float64)
        self.position = np.zeros(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Back to the origin."""
        super().reset(seed=seed)
        self.position = np.zeros(2)
        return self.position.astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Move; the reward is minus the distance to the goal after the move."""
        self.position = self.position + np.clip(action, -STEP, STEP)
        offset = self.position - self.goal
        reached = bool((np.abs(offset) < CLOSE).all())
        observation = self.position.astype(np.float32)
        return observation, -float(np.linalg.norm(offset)), reached, False, {}


class Navigation2DTensorEnv(TensorEnv):
    """The same for M x B points at once."""

    goal: Tensor  # (M, 1, 2)

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Keep the goals."""
        self.goal = self.column(tasks, "goal")

    def initial_state(self, generator: torch.Generator) -> Tensor:
        """The origin."""
        return torch.zeros(*self.rows, 2, dtype=self.dtype, device=self.device)

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Move by the clipped action."""
        self.state = self.state + action.clamp(-STEP, STEP)
        offset = self.state - self.goal
        return -torch.linalg.vector_norm(offset, dim=-1), offset.abs().amax(-1) < CLOSE


class Navigation2D(Family):
    """Goals uniform in the square [-0.5, 0.5]^2; horizon 100."""

    id = "navigation-2d"
    source = "Finn et al. 2017, section 5.3; cbfinn/maml_rl, point_env_randgoal"
    horizon = HORIZON
    observation_space = OBSERVATION_SPACE
    action_space = ACTION_SPACE
    space = ParameterSpace(
        Parameter("goal", Uniform(-0.5, 0.5), size=2, extrapolation=Uniform(-0.75, 0.75))
    )
    tensor_env = Navigation2DTensorEnv

    def make_env(self, task: Task) -> gym.Env:
        """One standard environment with this goal and its time limit."""
        return gym.make(ENV_ID, goal=self.check_task(task)["goal"])


if ENV_ID not in gym.registry:
    gym.register(ENV_ID, entry_point="envs.navigation:Navigation2DEnv", max_episode_steps=HORIZON)
