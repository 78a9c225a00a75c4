"""Two-link robots to swing up by the torque between their links."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from gymnasium.envs.classic_control import AcrobotEnv
from torch import Tensor

from meta_rl.families.distributions import Uniform
from meta_rl.families.parameters import Parameter, ParameterSpace
from meta_rl.families.tensor import TensorEnv
from meta_rl.types import Task

from .classic import DIRECTION, ClassicControl

GRAVITY, TIME_STEP, INERTIA = 9.8, 0.2, 1.0  # m/s^2, s, kg m^2 of either link
MAX_SPEED_1, MAX_SPEED_2 = 4 * math.pi, 9 * math.pi  # rad/s


class AcrobotTensorEnv(TensorEnv):
    """Gymnasium's Acrobot-v1 for M x B robots at once; state (angle 1, angle 2, their speeds).

    Angle 1 is 0 where the first link hangs down, angle 2 is relative to the first link.
    """

    length: Tensor  # each (M, 1)
    mass_1: Tensor
    mass_2: Tensor
    centre_1: Tensor
    centre_2: Tensor
    torque: Tensor  # signed: the torque of action 2

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Keep the tasks' physics."""
        names = ("length", "mass_1", "mass_2", "centre_1", "centre_2", "direction")
        self.length, self.mass_1, self.mass_2, self.centre_1, self.centre_2, self.torque = (
            self.column(tasks, name) for name in names
        )

    def initial_state(self, generator: torch.Generator) -> Tensor:
        """Draw states uniform in [-0.1, 0.1]^4: hanging, nearly at rest."""
        return self.uniform(-0.1, 0.1, 4, generator)

    def observe(self) -> Tensor:
        """Return cosine and sine of each angle, and the speeds."""
        first, second, speed_1, speed_2 = self.state.unbind(-1)
        each = [first.cos(), first.sin(), second.cos(), second.sin(), speed_1, speed_2]
        return torch.stack(each, -1)

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Take one fourth-order Runge-Kutta step; reward -1 until the tip is high enough."""
        torque = self.torque * (action.to(self.dtype) - 1)
        half = TIME_STEP / 2
        k1 = self.derivative(self.state, torque)
        k2 = self.derivative(self.state + half * k1, torque)
        k3 = self.derivative(self.state + half * k2, torque)
        k4 = self.derivative(self.state + TIME_STEP * k3, torque)
        moved = self.state + TIME_STEP / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        angles = torch.remainder(moved[..., :2] + math.pi, 2 * math.pi) - math.pi
        speed_1 = moved[..., 2:3].clamp(-MAX_SPEED_1, MAX_SPEED_1)
        speed_2 = moved[..., 3:4].clamp(-MAX_SPEED_2, MAX_SPEED_2)
        self.state = torch.cat([angles, speed_1, speed_2], -1)
        first, second = angles.unbind(-1)
        up = -first.cos() - (first + second).cos() > 1.0
        return up.to(self.dtype) - 1.0, up

    def derivative(self, state: Tensor, torque: Tensor) -> Tensor:
        """Return the state's time derivative (Sutton and Barto 1998, section 11.3)."""
        first, second, speed_1, speed_2 = state.unbind(-1)
        lever = self.mass_2 * self.length * self.centre_2
        second_inertia = self.mass_2 * self.centre_2**2 + INERTIA
        coupling = second_inertia + lever * second.cos()
        inertia = (self.mass_1 * self.centre_1**2 + INERTIA + self.mass_2 * self.length**2) + (
            second_inertia + 2 * lever * second.cos()
        )
        weight_2 = self.mass_2 * self.centre_2 * GRAVITY * (first + second).sin()
        moment = self.mass_1 * self.centre_1 + self.mass_2 * self.length
        weight = weight_2 + moment * GRAVITY * first.sin()
        spin = lever * second.sin()
        load = weight - spin * speed_2 * (speed_2 + 2 * speed_1)
        acceleration_2 = (torque + coupling / inertia * load - spin * speed_1**2 - weight_2) / (
            second_inertia - coupling**2 / inertia
        )
        acceleration_1 = -(coupling * acceleration_2 + load) / inertia
        return torch.stack([speed_1, speed_2, acceleration_1, acceleration_2], -1)


class Acrobot(ClassicControl):
    """The first link's length, both masses and centres of mass, and the direction differ.

    The horizon is 500, and the reward -1 a step until the tip is high enough. Gymnasium's dynamics
    and termination do not use the second link's length (only its picture does), and both links keep
    an inertia of 1. Without ``direction``, one policy would solve the whole family: a torque that
    follows the second joint's speed.
    """

    id = "acrobot"
    env_id = "Acrobot-v1"
    source = "Sutton 1996; Gymnasium's Acrobot-v1"
    horizon = 500
    observation_space = AcrobotEnv().observation_space
    action_space = AcrobotEnv().action_space
    space = ParameterSpace(
        Parameter("length", Uniform(0.75, 1.25), "m", extrapolation=Uniform(0.6, 1.5)),
        Parameter("mass_1", Uniform(0.75, 1.25), "kg", extrapolation=Uniform(0.5, 1.5)),
        Parameter("mass_2", Uniform(0.75, 1.25), "kg", extrapolation=Uniform(0.5, 1.5)),
        Parameter("centre_1", Uniform(0.4, 0.6), "m", extrapolation=Uniform(0.3, 0.6)),
        Parameter("centre_2", Uniform(0.4, 0.6), "m", extrapolation=Uniform(0.3, 0.7)),
        DIRECTION,
    )
    tensor_env = AcrobotTensorEnv

    def set_physics(self, env: Any, values: Mapping[str, Any]) -> None:
        """Set the physics attributes of Gymnasium's environment."""
        env.LINK_LENGTH_1 = values["length"]
        env.LINK_MASS_1, env.LINK_MASS_2 = values["mass_1"], values["mass_2"]
        env.LINK_COM_POS_1, env.LINK_COM_POS_2 = values["centre_1"], values["centre_2"]
        env.AVAIL_TORQUE = [-values["direction"], 0.0, values["direction"]]
