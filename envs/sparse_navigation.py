"""Points that look for a goal in the plane, with a reward only near it or on the way to it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from meta_rl.families.choice import Choice
from meta_rl.families.distributions import Uniform
from meta_rl.families.parameters import Parameter, ParameterSpace
from meta_rl.types import Task

from .points import MARGIN, PointEnv, PointFamily, PointTensorEnv, register_points

START = 0.2  # navigation-corner: episodes start in [-0.2, 0.2]^2
SILENT = 0.5  # navigation-corner: no reward where |x| + |y| is below
RADIUS = 0.2  # navigation-semicircle: no reward further from the goal


class NavigationCornerEnv(PointEnv):
    """A point with reward for progress to the goal, but only where it is the nearest corner."""

    env_id = "MetaRL/NavigationCorner-v0"
    reach, horizon, start = 0.2, 100, START

    def __init__(self, goal: Sequence[float] = (2.0, 2.0)):
        super().__init__(goal)

    def outcome(self, before: np.ndarray) -> tuple[float, bool]:
        """Return the progress, or 0 near the origin and in other quadrants; never ends early."""
        # The goal is the nearest corner exactly where no coordinate has the other sign. Distances
        # to two equally near corners would differ by rounding.
        elsewhere = (self.position * self.goal < -MARGIN).any()
        if elsewhere or np.abs(self.position).sum() < SILENT - MARGIN:
            return 0.0, False
        progress = np.linalg.norm(before - self.goal) - np.linalg.norm(self.position - self.goal)
        return float(progress), False


class NavigationCornerTensorEnv(PointTensorEnv):
    """:class:`NavigationCornerEnv` for M x B points at once."""

    single = NavigationCornerEnv

    def outcome(self, before: Tensor) -> tuple[Tensor, Tensor]:
        """Return the progress, or 0 near the origin and in other quadrants; never ends early."""
        progress = torch.linalg.vector_norm(before - self.goal, dim=-1)
        progress = progress - torch.linalg.vector_norm(self.state - self.goal, dim=-1)
        here = (self.state * self.goal >= -MARGIN).all(-1)
        heard = here & (self.state.abs().sum(-1) >= SILENT - MARGIN)
        return progress * heard, torch.zeros_like(heard)


class NavigationCorner(PointFamily):
    """The goal is one of the corners (+-2, +-2); the reward is sparse; horizon 100.

    Only a walk away from the origin reveals the corner, so policies must learn to explore.
    """

    id = "navigation-corner"
    source = "Rothfuss et al. 2019 (ProMP); jonasrothfuss/ProMP, point_env_2d_corner"
    single = NavigationCornerEnv
    space = ParameterSpace(Parameter("goal", Choice(-2.0, 2.0), size=2))
    tensor_env = NavigationCornerTensorEnv


class NavigationSemicircleEnv(PointEnv):
    """A point with reward 1 minus the distance to a goal on the unit circle, or 0 beyond 0.2.

    Args:
        angle: the goal's angle, rad.
    """

    env_id = "MetaRL/NavigationSemicircle-v0"
    reach, horizon = 0.1, 20

    def __init__(self, angle: float = math.pi / 2):
        super().__init__((math.cos(angle), math.sin(angle)))

    def outcome(self, before: np.ndarray) -> tuple[float, bool]:
        """Return 1 minus the distance if the distance is at most 0.2, else 0; never ends early."""
        distance = float(np.linalg.norm(self.position - self.goal))
        return (1.0 - distance if distance <= RADIUS + MARGIN else 0.0), False


class NavigationSemicircleTensorEnv(PointTensorEnv):
    """:class:`NavigationSemicircleEnv` for M x B points at once."""

    single = NavigationSemicircleEnv

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Keep the tasks' goals."""
        angle = self.column(tasks, "angle")
        self.goal = torch.stack([angle.cos(), angle.sin()], -1)

    def outcome(self, before: Tensor) -> tuple[Tensor, Tensor]:
        """Return 1 minus the distance if the distance is at most 0.2, else 0; never ends early."""
        distance = torch.linalg.vector_norm(self.state - self.goal, dim=-1)
        near = distance <= RADIUS + MARGIN
        return (1.0 - distance) * near, torch.zeros_like(near)


class NavigationSemicircle(PointFamily):
    """Goals on the upper half of the unit circle; the reward is sparse; horizon 20.

    PEARL meta-trains on the distance and adapts on this reward; this family has no other reward.
    """

    id = "navigation-semicircle"
    source = "Rakelly et al. 2019 (PEARL); katerakelly/oyster, sparse-point-robot"
    single = NavigationSemicircleEnv
    space = ParameterSpace(
        Parameter("angle", Uniform(0.0, math.pi), "rad", extrapolation=Uniform(0.0, 2 * math.pi))
    )
    tensor_env = NavigationSemicircleTensorEnv

    def optimal_return(self, task: Task) -> float:
        """Return the return of going straight, which is nearest to the goal at all times."""
        return self.straight_return(task)


register_points(NavigationCornerEnv, NavigationSemicircleEnv)
