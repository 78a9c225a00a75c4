"""CartPole with other physics in every task (Barto, Sutton and Anderson 1983, as in Gymnasium)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import gymnasium as gym
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from torch import Tensor

from envs.parameters import Parameter, ParameterSpace
from envs.tensor import TensorEnv
from meta_rl.types import Task

MASS_CART, MASS_POLE, TAU = 1.0, 0.1, 0.02  # kg, kg, s
X_LIMIT, ANGLE_LIMIT = 2.4, 12 * 2 * math.pi / 360  # m, rad


class CartPoleTensorEnv(TensorEnv):
    """Gymnasium's CartPole-v1 for M x B carts at once; state (x, x', angle, angle')."""

    gravity: Tensor  # each (M, 1)
    length: Tensor
    force: Tensor

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Keep the physics."""
        self.gravity, self.length, self.force = (
            self.column(tasks, name) for name in ("gravity", "length", "force")
        )

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


class CartPole:
    """Gravity, half the pole's length and the push differ; horizon 200, reward 1 a step."""

    id = "cartpole"
    horizon = 200
    observation_space = CartPoleEnv().observation_space
    action_space = CartPoleEnv().action_space
    space = ParameterSpace(
        (
            Parameter(name="gravity", low=5.0, high=20.0, unit="m/s^2"),
            Parameter(name="length", low=0.25, high=1.5, unit="m"),
            Parameter(name="force", low=5.0, high=15.0, unit="N"),
        )
    )

    def sample_tasks(self, n: int, seed: int) -> list[Task]:
        """Draw n physics."""
        return self.space.sample(n, seed)

    def check_task(self, task: Task) -> Task:
        """The task with its numbers normalized; InputError on one that does not fit."""
        return self.space.check(task)

    def make_env(self, task: Task) -> gym.Env:
        """Gymnasium's own CartPole-v1 with this physics."""
        values = self.check_task(task)
        env = gym.make("CartPole-v1", max_episode_steps=self.horizon)
        cart = env.unwrapped
        assert isinstance(cart, CartPoleEnv)
        cart.gravity, cart.length, cart.force_mag = (
            values[name] for name in ("gravity", "length", "force")
        )
        # Gymnasium derives this in its constructor: a new length alone would have half an effect.
        cart.polemass_length = cart.masspole * cart.length
        return env

    def make_vec(
        self, num_tasks: int, episodes: int, *, device: torch.device | str, dtype: torch.dtype
    ) -> TensorEnv:
        """The tensor backend."""
        return CartPoleTensorEnv(
            num_tasks, episodes, horizon=self.horizon, device=device, dtype=dtype
        )
