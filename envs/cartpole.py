"""Carts with a pole to balance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from gymnasium.envs.classic_control import CartPoleEnv
from torch import Tensor

from meta_rl.families.distributions import Uniform
from meta_rl.families.parameters import Parameter, ParameterSpace
from meta_rl.families.tensor import TensorEnv
from meta_rl.types import Task

from .classic import DIRECTION, ClassicControl

MASS_CART, MASS_POLE, TAU = 1.0, 0.1, 0.02  # kg, kg, s
X_LIMIT, ANGLE_LIMIT = 2.4, 12 * 2 * math.pi / 360  # m, rad


class CartPoleTensorEnv(TensorEnv):
    """Gymnasium's CartPole-v1 for M x B carts at once; state (x, x', angle, angle')."""

    gravity: Tensor  # each (M, 1)
    length: Tensor
    force: Tensor  # signed: the push of action 1

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Keep the tasks' physics."""
        self.gravity, self.length = (self.column(tasks, name) for name in ("gravity", "length"))
        self.force = self.column(tasks, "force") * self.column(tasks, "direction")

    def initial_state(self, generator: torch.Generator) -> Tensor:
        """Draw states uniform in [-0.05, 0.05]^4."""
        return self.uniform(-0.05, 0.05, 4, generator)

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Take one Euler step (Florian 2005, equations 23 and 24, without friction)."""
        x, x_dot, angle, angle_dot = self.state.unbind(-1)
        force = self.force * (2 * action.to(self.dtype) - 1)
        cosine, sine = angle.cos(), angle.sin()
        total_mass = MASS_CART + MASS_POLE
        mass_length = MASS_POLE * self.length
        push = (force + mass_length * angle_dot**2 * sine) / total_mass
        angle_acceleration = (self.gravity * sine - cosine * push) / (
            self.length * (4.0 / 3.0 - MASS_POLE * cosine**2 / total_mass)
        )
        acceleration = push - mass_length * angle_acceleration * cosine / total_mass
        # The derivative (x', x'', angle', angle'') moves all four at once.
        derivative = torch.stack([x_dot, acceleration, angle_dot, angle_acceleration], -1)
        # The clamp never touches a running row; it keeps rows that fell long ago finite.
        self.state = (self.state + TAU * derivative).clamp(-100.0, 100.0)
        fell = (self.state[..., 0].abs() > X_LIMIT) | (self.state[..., 2].abs() > ANGLE_LIMIT)
        return torch.ones_like(x), fell


class CartPole(ClassicControl):
    """Gravity, half the pole's length, the push and its direction differ; horizon 200.

    The reward is 1 a step. With ``direction`` -1, action 1 pushes to the left, as a motor wired the
    other way round would. Without ``direction`` one policy balances the whole family. With it, one
    policy trained on all tasks still can (docs/benchmarks/learning.md): the cart's drift under the
    first pushes reveals the direction. So adapting is one way to balance here, not the only one.
    """

    id = "cartpole"
    env_id = "CartPole-v1"
    source = "Barto, Sutton and Anderson 1983; Gymnasium's CartPole-v1"
    horizon = 200
    observation_space = CartPoleEnv().observation_space
    action_space = CartPoleEnv().action_space
    space = ParameterSpace(
        Parameter("gravity", Uniform(5.0, 20.0), "m/s^2", extrapolation=Uniform(2.0, 30.0)),
        Parameter("length", Uniform(0.25, 1.5), "m", extrapolation=Uniform(0.15, 2.0)),
        Parameter("force", Uniform(5.0, 15.0), "N", extrapolation=Uniform(3.0, 20.0)),
        DIRECTION,
    )
    tensor_env = CartPoleTensorEnv

    def set_physics(self, env: Any, values: Mapping[str, Any]) -> None:
        """Set the physics attributes of Gymnasium's environment."""
        env.gravity, env.length, force, direction = (
            values[name] for name in ("gravity", "length", "force", "direction")
        )
        env.force_mag = force * direction
        # Gymnasium derives this in its constructor, so a new length alone would act only in part.
        env.polemass_length = env.masspole * env.length
