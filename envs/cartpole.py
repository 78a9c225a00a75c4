"""CartPole with other physics in every task (Barto, Sutton and Anderson 1983, as in Gymnasium)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from torch import Tensor

from envs.family import Family
from envs.parameters import Choice, Parameter, ParameterSpace, Uniform
from envs.tensor import TensorEnv
from meta_rl.types import Task

MASS_CART, MASS_POLE, TAU = 1.0, 0.1, 0.02  # kg, kg, s
X_LIMIT, ANGLE_LIMIT = 2.4, 12 * 2 * math.pi / 360  # m, rad


class CartPoleTensorEnv(TensorEnv):
    """Gymnasium's CartPole-v1 for M x B carts at once; state (x, x', angle, angle')."""

    gravity: Tensor  # each (M, 1)
    length: Tensor
    force: Tensor  # signed: what action 1 pushes with

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Keep the physics."""
        self.gravity, self.length = (self.column(tasks, name) for name in ("gravity", "length"))
        self.force = self.column(tasks, "force") * self.column(tasks, "direction")

    def initial_state(self, generator: torch.Generator) -> Tensor:
        """Uniform in [-0.05, 0.05]^4."""
        unit = torch.rand(*self.rows, 4, generator=generator, dtype=self.dtype, device=self.device)
        return 0.1 * unit - 0.05

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """One Euler step (Florian 2005, equations 23 and 24, without friction)."""
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


class CartPole(Family):
    """Gravity, half the pole's length, the push and its direction differ; horizon 200.

    The reward is 1 a step. ``direction`` is -1 where action 1 pushes to the left, as a motor wired
    the other way round would: without it one policy balances the whole family (measured: a mean of
    199.7 of 200 steps before any adaptation) and there is nothing to adapt to.
    """

    id = "cartpole"
    source = "Barto, Sutton and Anderson 1983; Gymnasium's CartPole-v1"
    horizon = 200
    observation_space = CartPoleEnv().observation_space
    action_space = CartPoleEnv().action_space
    space = ParameterSpace(
        Parameter("gravity", Uniform(5.0, 20.0), "m/s^2", extrapolation=Uniform(2.0, 30.0)),
        Parameter("length", Uniform(0.25, 1.5), "m", extrapolation=Uniform(0.15, 2.0)),
        Parameter("force", Uniform(5.0, 15.0), "N", extrapolation=Uniform(3.0, 20.0)),
        Parameter("direction", Choice(-1.0, 1.0)),
    )
    tensor_env = CartPoleTensorEnv

    def make_env(self, task: Task) -> gym.Env:
        """Gymnasium's own CartPole-v1 with this physics."""
        values: Any = self.check_task(task)
        env = gym.make("CartPole-v1", max_episode_steps=self.horizon)
        cart: Any = env.unwrapped
        cart.gravity, cart.length, force, direction = (
            values[name] for name in ("gravity", "length", "force", "direction")
        )
        cart.force_mag = force * direction
        # Gymnasium derives this in its constructor: a new length alone would have half an effect.
        cart.polemass_length = cart.masspole * cart.length
        return env
