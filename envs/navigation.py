"""Points that are paid by their distance to a goal in the plane."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from meta_rl.families.distributions import Uniform
from meta_rl.families.parameters import Parameter, ParameterSpace
from meta_rl.types import Task

from .points import MARGIN, PointEnv, PointFamily, PointTensorEnv, register_points

CLOSE = 0.01  # navigation-2d: the goal is reached when both axes are nearer than this


class Navigation2DEnv(PointEnv):
    """The reward is minus the distance to the goal, which ends the episode."""

    env_id = "MetaRL/Navigation2D-v0"
    reach, horizon = 0.1, 100

    def __init__(self, goal: Sequence[float] = (0.5, 0.5)):
        super().__init__(goal)

    def outcome(self, before: np.ndarray) -> tuple[float, bool]:
        """Minus the distance; reached when both axes are near."""
        offset = self.position - self.goal
        return -float(np.linalg.norm(offset)), bool((np.abs(offset) < CLOSE - MARGIN).all())


class Navigation2DTensorEnv(PointTensorEnv):
    """The same for M x B points at once."""

    single = Navigation2DEnv

    def outcome(self, before: Tensor) -> tuple[Tensor, Tensor]:
        """Minus the distance; reached when both axes are near."""
        offset = self.state - self.goal
        reached = offset.abs().amax(-1) < CLOSE - MARGIN
        return -torch.linalg.vector_norm(offset, dim=-1), reached


class Navigation2D(PointFamily):
    """Goals uniform in the square [-0.5, 0.5]^2; horizon 100.

    The reward is the negative *distance*, as in the released code, not its square as in the text.
    """

    id = "navigation-2d"
    source = "Finn et al. 2017, section 5.3; cbfinn/maml_rl, point_env_randgoal"
    single = Navigation2DEnv
    space = ParameterSpace(
        Parameter("goal", Uniform(-0.5, 0.5), size=2, extrapolation=Uniform(-0.75, 0.75))
    )
    tensor_env = Navigation2DTensorEnv

    def optimal_return(self, task: Task) -> float:
        """That of going straight: nearest at every time, and so done first."""
        return self.straight_return(task)


class NavigationPEARLEnv(PointEnv):
    """The reward is minus the distance to the goal; never ends; starts anywhere in [-1, 1]^2."""

    env_id = "MetaRL/NavigationPEARL-v0"
    reach, horizon, start = 0.1, 20, 1.0

    def __init__(self, goal: Sequence[float] = (0.5, 0.5)):
        super().__init__(goal)

    def outcome(self, before: np.ndarray) -> tuple[float, bool]:
        """Minus the distance; never reached."""
        return -float(np.linalg.norm(self.position - self.goal)), False


class NavigationPEARLTensorEnv(PointTensorEnv):
    """The same for M x B points at once."""

    single = NavigationPEARLEnv

    def outcome(self, before: Tensor) -> tuple[Tensor, Tensor]:
        """Minus the distance; never reached."""
        distance = torch.linalg.vector_norm(self.state - self.goal, dim=-1)
        return -distance, torch.zeros_like(distance, dtype=torch.bool)


class NavigationPEARL(PointFamily):
    """Goals and starts uniform in the square [-1, 1]^2; every episode has 20 steps.

    As everywhere here the task is the goal alone: starts differ from episode to episode.
    """

    id = "navigation-pearl"
    source = "Rakelly et al. 2019 (PEARL); katerakelly/oyster, point-robot"
    single = NavigationPEARLEnv
    space = ParameterSpace(
        Parameter("goal", Uniform(-1.0, 1.0), size=2, extrapolation=Uniform(-1.5, 1.5))
    )
    tensor_env = NavigationPEARLTensorEnv


register_points(Navigation2DEnv, NavigationPEARLEnv)
