"""Pendulums to swing up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from gymnasium.envs.classic_control import PendulumEnv
from torch import Tensor

from meta_rl.families.distributions import Uniform
from meta_rl.families.parameters import Parameter, ParameterSpace
from meta_rl.families.tensor import TensorEnv
from meta_rl.families.typed import as_dataclass
from meta_rl.types import Task

from .classic import DIRECTION, ClassicControl

TIME_STEP, MAX_SPEED, MAX_TORQUE = 0.05, 8.0, 2.0  # s, rad/s, N m

Number = TypeVar("Number")


@dataclass(frozen=True)
class PendulumPhysics(Generic[Number]):
    """The physics of one pendulum as numbers, or of many as tensors."""

    gravity: Number  # m/s^2
    mass: Number  # kg
    length: Number  # m
    direction: Number  # -1 or 1


class PendulumTensorEnv(TensorEnv):
    """Gymnasium's Pendulum-v1 for M x B pendulums at once; state (angle, angle'), 0 upright."""

    pull: Tensor  # each (M, 1): angular acceleration by gravity when level, 1/s^2
    gain: Tensor  # angular acceleration by a torque of 1 N m, signed, 1/s^2

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Keep the tasks' physics."""
        physics = self.columns(tasks, PendulumPhysics[Tensor])
        self.pull = 3 * physics.gravity / (2 * physics.length)
        self.gain = 3 / (physics.mass * physics.direction * physics.length**2)

    def initial_state(self, generator: torch.Generator) -> Tensor:
        """Draw any angle, and a speed uniform in [-1, 1]."""
        scale = torch.tensor([math.pi, 1.0], dtype=self.dtype, device=self.device)
        return scale * self.uniform(-1.0, 1.0, 2, generator)

    def observe(self) -> Tensor:
        """Return cosine and sine of the angle, and the angular speed."""
        angle, speed = self.state.unbind(-1)
        return torch.stack([angle.cos(), angle.sin(), speed], -1)

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Take one semi-implicit Euler step; the reward depends on the state before the step."""
        angle, speed = self.state.unbind(-1)
        torque = action[..., 0].clamp(-MAX_TORQUE, MAX_TORQUE)
        wrapped = torch.remainder(angle + math.pi, 2 * math.pi) - math.pi
        cost = wrapped**2 + 0.1 * speed**2 + 0.001 * torque**2
        speed = speed + (self.pull * angle.sin() + self.gain * torque) * TIME_STEP
        speed = speed.clamp(-MAX_SPEED, MAX_SPEED)
        self.state = torch.stack([angle + speed * TIME_STEP, speed], -1)
        return -cost, torch.zeros_like(cost, dtype=torch.bool)


class Pendulum(ClassicControl):
    """Gravity, mass, length and the direction of the torque differ; horizon 200.

    The range of masses is that of RLlib's PendulumMass. Without ``direction`` one feedback law
    swings up the whole family, and adapting could improve only its gains.
    """

    id = "pendulum"
    env_id = "Pendulum-v1"
    source = "Gymnasium's Pendulum-v1; ray-project/ray, rllib pendulum_mass"
    horizon = 200
    observation_space = PendulumEnv().observation_space
    action_space = PendulumEnv().action_space
    space = ParameterSpace(
        Parameter("gravity", Uniform(7.0, 13.0), "m/s^2", extrapolation=Uniform(4.0, 16.0)),
        Parameter("mass", Uniform(0.5, 2.0), "kg", extrapolation=Uniform(0.3, 2.5)),
        Parameter("length", Uniform(0.7, 1.3), "m", extrapolation=Uniform(0.5, 1.5)),
        DIRECTION,
    )
    tensor_env = PendulumTensorEnv

    def set_physics(self, env: Any, values: Mapping[str, Any]) -> None:
        """Set the physics attributes of Gymnasium's environment."""
        physics = as_dataclass(PendulumPhysics[float], values)
        env.g, env.l = physics.gravity, physics.length
        # The mass only divides the torque, so a negative mass reverses the torque. With a Python
        # float, NumPy would compute with the float32 action in single precision.
        env.m = np.float64(physics.mass * physics.direction)
