"""Points in the plane whose reward is minus the distance to a goal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from meta_rl.families.distributions import Uniform
from meta_rl.families.parameters import Parameter, ParameterSpace
from meta_rl.types import Task

from .points import MARGIN, PointEnv, PointFamily, PointTensorEnv, register_points

CLOSE = 0.01  # navigation-2d: the goal is reached when both offsets are smaller


class Navigation2DEnv(PointEnv):
    """A point with reward minus the distance to the goal; reaching it ends the episode."""

    env_id = "MetaRL/Navigation2D-v0"
    reach, horizon = 0.1, 100

    def __init__(self, goal: Sequence[float] = (0.5, 0.5)):
        super().__init__(goal)

    def outcome(self, before: np.ndarray) -> tuple[float, bool]:
        """Return minus the distance, and whether the point is near the goal on both axes."""
        offset = self.position - self.goal
        return -float(np.linalg.norm(offset)), bool((np.abs(offset) < CLOSE - MARGIN).all())


class Navigation2DTensorEnv(PointTensorEnv):
    """:class:`Navigation2DEnv` for M x B points at once."""

    single = Navigation2DEnv

    def outcome(self, before: Tensor) -> tuple[Tensor, Tensor]:
        """Return minus the distances, and whether points are near the goal on both axes."""
        offset = self.state - self.goal
        reached = offset.abs().amax(-1) < CLOSE - MARGIN
        return -torch.linalg.vector_norm(offset, dim=-1), reached


class Navigation2D(PointFamily):
    """Goals uniform in the square [-0.5, 0.5]^2; horizon 100.

    The reward is the negative *distance*, as in the released code, not its square, as in the paper.
    """

    id = "navigation-2d"
    source = "Finn et al. 2017, section 5.3; cbfinn/maml_rl, point_env_randgoal"
    single = Navigation2DEnv
    space = ParameterSpace(
        Parameter("goal", Uniform(-0.5, 0.5), size=2, extrapolation=Uniform(-0.75, 0.75))
    )
    tensor_env = Navigation2DTensorEnv

    def optimal_return(self, task: Task) -> float:
        """Return the return of going straight, which is nearest to the goal at all times."""
        return self.straight_return(task)


class NavigationPEARLEnv(PointEnv):
    """A point with reward minus the distance; starts anywhere in [-1, 1]^2; never ends early."""

    env_id = "MetaRL/NavigationPEARL-v0"
    reach, horizon, start = 0.1, 20, 1.0

    def __init__(self, goal: Sequence[float] = (0.5, 0.5)):
        super().__init__(goal)

    def outcome(self, before: np.ndarray) -> tuple[float, bool]:
        """Return minus the distance, and False: the episode never ends early."""
        return -float(np.linalg.norm(self.position - self.goal)), False


class NavigationPEARLTensorEnv(PointTensorEnv):
    """:class:`NavigationPEARLEnv` for M x B points at once."""

    single = NavigationPEARLEnv

    def outcome(self, before: Tensor) -> tuple[Tensor, Tensor]:
        """Return minus the distances, and False: episodes never end early."""
        distance = torch.linalg.vector_norm(self.state - self.goal, dim=-1)
        return -distance, torch.zeros_like(distance, dtype=torch.bool)


class NavigationPEARL(PointFamily):
    """Goals and starts uniform in the square [-1, 1]^2; every episode has 20 steps.

    The task is the goal alone: the start differs from episode to episode.
    """

    id = "navigation-pearl"
    source = "Rakelly et al. 2019 (PEARL); katerakelly/oyster, point-robot"
    single = NavigationPEARLEnv
    space = ParameterSpace(
        Parameter("goal", Uniform(-1.0, 1.0), size=2, extrapolation=Uniform(-1.5, 1.5))
    )
    tensor_env = NavigationPEARLTensorEnv


register_points(Navigation2DEnv, NavigationPEARLEnv)
