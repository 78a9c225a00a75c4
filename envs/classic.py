"""Gymnasium's classic control with other physics in every task.

The single environments are Gymnasium's own; a task sets their attributes. ``direction`` is the sign
of the actuator, -1 for a motor that is wired the other way round: what pumps energy into one system
takes it out of the other, so that a policy has to find out which of the two it drives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.classic_control import (
    AcrobotEnv,
    CartPoleEnv,
    Continuous_MountainCarEnv,
    MountainCarEnv,
    PendulumEnv,
)
from torch import Tensor

from envs.family import Family
from envs.parameters import Choice, Parameter, ParameterSpace, Uniform
from envs.tensor import TensorEnv
from meta_rl.types import Task

MASS_CART, MASS_POLE, TAU = 1.0, 0.1, 0.02  # kg, kg, s
X_LIMIT, ANGLE_LIMIT = 2.4, 12 * 2 * math.pi / 360  # m, rad

SWING_TIME, MAX_SWING, MAX_TORQUE = 0.05, 8.0, 2.0  # pendulum: s, rad/s, N m

ACROBOT_GRAVITY, ACROBOT_TIME, INERTIA = 9.8, 0.2, 1.0  # m/s^2, s, kg m^2 of either link
MAX_SPIN_1, MAX_SPIN_2 = 4 * math.pi, 9 * math.pi  # rad/s

LEFT, RIGHT, MAX_SPEED = -1.2, 0.6, 0.07  # both mountain cars: walls and speed limit
FLAG, FLAG_CONTINUOUS, SLOPE = 0.5, 0.45, 0.0025


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
        return self.uniform(-0.05, 0.05, 4, generator)

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
    the other way round would. Without it one policy balances the whole family at once. With it one
    trained on all tasks still can (docs/benchmarks.md): where the cart drifts to under a policy's
    first pushes tells it the direction. Adapting is a way to balance here, not the only one.
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


class PendulumTensorEnv(TensorEnv):
    """Gymnasium's Pendulum-v1 for M x B pendulums at once; state (angle, angle'), 0 upright."""

    pull: Tensor  # each (M, 1): angular acceleration by gravity when level, 1/s^2
    gain: Tensor  # and by a torque of 1 N m, signed

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Keep the physics."""
        names = ("gravity", "mass", "length", "direction")
        gravity, mass, length, direction = (self.column(tasks, name) for name in names)
        self.pull = 3 * gravity / (2 * length)
        self.gain = 3 / (mass * direction * length**2)

    def initial_state(self, generator: torch.Generator) -> Tensor:
        """Any angle, speed uniform in [-1, 1]."""
        scale = torch.tensor([math.pi, 1.0], dtype=self.dtype, device=self.device)
        return scale * self.uniform(-1.0, 1.0, 2, generator)

    def observe(self) -> Tensor:
        """Cosine and sine of the angle, and its speed."""
        angle, speed = self.state.unbind(-1)
        return torch.stack([angle.cos(), angle.sin(), speed], -1)

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """One semi-implicit Euler step; the cost is of the state before it."""
        angle, speed = self.state.unbind(-1)
        torque = action[..., 0].clamp(-MAX_TORQUE, MAX_TORQUE)
        wrapped = torch.remainder(angle + math.pi, 2 * math.pi) - math.pi
        cost = wrapped**2 + 0.1 * speed**2 + 0.001 * torque**2
        speed = speed + (self.pull * angle.sin() + self.gain * torque) * SWING_TIME
        speed = speed.clamp(-MAX_SWING, MAX_SWING)
        self.state = torch.stack([angle + speed * SWING_TIME, speed], -1)
        return -cost, torch.zeros_like(cost, dtype=torch.bool)


class Pendulum(Family):
    """Gravity, mass, length and the direction of the torque differ; horizon 200.

    The masses are those of RLlib's PendulumMass. Without ``direction`` one feedback law swings up
    the whole family and only its gains could be better.
    """

    id = "pendulum"
    source = "Gymnasium's Pendulum-v1; ray-project/ray, rllib pendulum_mass"
    horizon = 200
    observation_space = PendulumEnv().observation_space
    action_space = PendulumEnv().action_space
    space = ParameterSpace(
        Parameter("gravity", Uniform(7.0, 13.0), "m/s^2", extrapolation=Uniform(4.0, 16.0)),
        Parameter("mass", Uniform(0.5, 2.0), "kg", extrapolation=Uniform(0.3, 2.5)),
        Parameter("length", Uniform(0.7, 1.3), "m", extrapolation=Uniform(0.5, 1.5)),
        Parameter("direction", Choice(-1.0, 1.0)),
    )
    tensor_env = PendulumTensorEnv

    def make_env(self, task: Task) -> gym.Env:
        """Gymnasium's own Pendulum-v1 with this physics."""
        values: Any = self.check_task(task)
        env = gym.make("Pendulum-v1", max_episode_steps=self.horizon)
        pendulum: Any = env.unwrapped
        pendulum.g, pendulum.l = values["gravity"], values["length"]
        # The mass only divides the torque, so that its sign is the torque's. Left a Python float,
        # NumPy would multiply it with the float32 action in single precision.
        pendulum.m = np.float64(values["mass"] * values["direction"])
        return env


class AcrobotTensorEnv(TensorEnv):
    """Gymnasium's Acrobot-v1 for M x B robots at once; state (angle 1, angle 2, their speeds).

    Angle 1 is 0 where the first link hangs down, angle 2 is relative to the first link.
    """

    length: Tensor  # each (M, 1)
    mass_1: Tensor
    mass_2: Tensor
    centre_1: Tensor
    centre_2: Tensor
    torque: Tensor  # signed: what action 2 applies

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Keep the physics."""
        names = ("length", "mass_1", "mass_2", "centre_1", "centre_2", "direction")
        self.length, self.mass_1, self.mass_2, self.centre_1, self.centre_2, self.torque = (
            self.column(tasks, name) for name in names
        )

    def initial_state(self, generator: torch.Generator) -> Tensor:
        """Uniform in [-0.1, 0.1]^4: hanging, nearly at rest."""
        return self.uniform(-0.1, 0.1, 4, generator)

    def observe(self) -> Tensor:
        """Cosine and sine of each angle, and the speeds."""
        first, second, speed_1, speed_2 = self.state.unbind(-1)
        each = [first.cos(), first.sin(), second.cos(), second.sin(), speed_1, speed_2]
        return torch.stack(each, -1)

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """One fourth-order Runge-Kutta step; -1 until the tip is high enough."""
        torque = self.torque * (action.to(self.dtype) - 1)
        half = ACROBOT_TIME / 2
        k1 = self.derivative(self.state, torque)
        k2 = self.derivative(self.state + half * k1, torque)
        k3 = self.derivative(self.state + half * k2, torque)
        k4 = self.derivative(self.state + ACROBOT_TIME * k3, torque)
        moved = self.state + ACROBOT_TIME / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        angles = torch.remainder(moved[..., :2] + math.pi, 2 * math.pi) - math.pi
        speed_1 = moved[..., 2:3].clamp(-MAX_SPIN_1, MAX_SPIN_1)
        speed_2 = moved[..., 3:4].clamp(-MAX_SPIN_2, MAX_SPIN_2)
        self.state = torch.cat([angles, speed_1, speed_2], -1)
        first, second = angles.unbind(-1)
        up = -first.cos() - (first + second).cos() > 1.0
        return up.to(self.dtype) - 1.0, up

    def derivative(self, state: Tensor, torque: Tensor) -> Tensor:
        """The state's derivative (Sutton and Barto 1998, section 11.3)."""
        first, second, speed_1, speed_2 = state.unbind(-1)
        lever = self.mass_2 * self.length * self.centre_2
        second_inertia = self.mass_2 * self.centre_2**2 + INERTIA
        coupling = second_inertia + lever * second.cos()
        inertia = (self.mass_1 * self.centre_1**2 + INERTIA + self.mass_2 * self.length**2) + (
            second_inertia + 2 * lever * second.cos()
        )
        weight_2 = self.mass_2 * self.centre_2 * ACROBOT_GRAVITY * (first + second).sin()
        moment = self.mass_1 * self.centre_1 + self.mass_2 * self.length
        weight = weight_2 + moment * ACROBOT_GRAVITY * first.sin()
        spin = lever * second.sin()
        load = weight - spin * speed_2 * (speed_2 + 2 * speed_1)
        acceleration_2 = (torque + coupling / inertia * load - spin * speed_1**2 - weight_2) / (
            second_inertia - coupling**2 / inertia
        )
        acceleration_1 = -(coupling * acceleration_2 + load) / inertia
        return torch.stack([speed_1, speed_2, acceleration_1, acceleration_2], -1)


class Acrobot(Family):
    """The first link's length, both masses and centres of mass, and the direction differ.

    Horizon 500; -1 a step until the tip is high enough. Gymnasium's dynamics and termination do not
    use the second link's length (only its picture does), and both links keep an inertia of 1.
    Without ``direction``, a torque that follows the second joint's speed solves the whole family.
    """

    id = "acrobot"
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
        Parameter("direction", Choice(-1.0, 1.0)),
    )
    tensor_env = AcrobotTensorEnv

    def make_env(self, task: Task) -> gym.Env:
        """Gymnasium's own Acrobot-v1 with this physics."""
        values: Any = self.check_task(task)
        env = gym.make("Acrobot-v1", max_episode_steps=self.horizon)
        robot: Any = env.unwrapped
        robot.LINK_LENGTH_1 = values["length"]
        robot.LINK_MASS_1, robot.LINK_MASS_2 = values["mass_1"], values["mass_2"]
        robot.LINK_COM_POS_1, robot.LINK_COM_POS_2 = values["centre_1"], values["centre_2"]
        robot.AVAIL_TORQUE = [-values["direction"], 0.0, values["direction"]]
        return env


class MountainCarTensorEnv(TensorEnv):
    """Gymnasium's MountainCar-v0 for M x B cars at once; state (position, speed)."""

    force: Tensor  # each (M, 1); signed: what action 2 pushes with
    gravity: Tensor

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Keep the physics."""
        self.force = self.column(tasks, "force") * self.column(tasks, "direction")
        self.gravity = self.column(tasks, "gravity")

    def initial_state(self, generator: torch.Generator) -> Tensor:
        """Position uniform in [-0.6, -0.4], at rest."""
        position = self.uniform(-0.6, -0.4, 1, generator)
        return torch.cat([position, torch.zeros_like(position)], -1)

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Roll; -1 a step until the flag."""
        position, speed = self.state.unbind(-1)
        push = (action.to(self.dtype) - 1) * self.force
        self.state = roll(position, speed + push - self.gravity * (3 * position).cos())
        return -torch.ones_like(push), self.state[..., 0] >= FLAG


class MountainCar(Family):
    """The engine's force, gravity and the direction differ; horizon 200; -1 a step until the flag.

    No force here climbs the hill without a run-up. Without ``direction``, pushing the way the car
    rolls solves the whole family.
    """

    id = "mountain-car"
    source = "Moore 1990; Gymnasium's MountainCar-v0"
    horizon = 200
    observation_space = MountainCarEnv().observation_space
    action_space = MountainCarEnv().action_space
    space = ParameterSpace(
        Parameter("force", Uniform(0.0009, 0.0015), extrapolation=Uniform(0.0007, 0.0018)),
        Parameter("gravity", Uniform(0.002, 0.003), extrapolation=Uniform(0.0018, 0.0035)),
        Parameter("direction", Choice(-1.0, 1.0)),
    )
    tensor_env = MountainCarTensorEnv

    def make_env(self, task: Task) -> gym.Env:
        """Gymnasium's own MountainCar-v0 with this physics."""
        values: Any = self.check_task(task)
        env = gym.make("MountainCar-v0", max_episode_steps=self.horizon)
        car: Any = env.unwrapped
        car.force, car.gravity = values["force"] * values["direction"], values["gravity"]
        return env


class MountainCarContinuousTensorEnv(MountainCarTensorEnv):
    """Gymnasium's MountainCarContinuous-v0 for M x B cars at once; state (position, speed).

    Gymnasium keeps this car's state in float32. So is it here, rounded at the same places whatever
    the dtype; otherwise the two would be 1e-5 apart at the end of an episode.
    """

    power: Tensor  # (M, 1), signed

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Keep the engine's power."""
        power = self.column(tasks, "power") * self.column(tasks, "direction")
        self.power = power.float()

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Roll; 100 at the flag, less a tenth of the squared action."""
        position, speed = self.state.unbind(-1)
        thrust = action[..., 0].to(self.dtype)
        # Where an episode starts, Gymnasium's state is still float64.
        triple = 3 * position if self._time == 1 else (3 * position).float()
        slope = (SLOPE * triple.double().cos()).float()
        push = thrust.float().clamp(-1.0, 1.0) * self.power - slope
        self.state = roll(position, (speed + push).float()).float().to(self.dtype)
        reached = self.state[..., 0].float() >= FLAG_CONTINUOUS
        return 100.0 * reached - 0.1 * thrust**2, reached


class MountainCarContinuous(Family):
    """The engine's power and direction differ; horizon 999.

    100 at the flag, less a tenth of every squared action. Gymnasium's gravity is a literal in its
    step, hence no parameter; more of it would act as less power and slower time. Without
    ``direction``, pushing the way the car rolls solves the whole family.
    """

    id = "mountain-car-continuous"
    source = "Moore 1990; Gymnasium's MountainCarContinuous-v0"
    horizon = 999
    observation_space = Continuous_MountainCarEnv().observation_space
    action_space = Continuous_MountainCarEnv().action_space
    space = ParameterSpace(
        Parameter("power", Uniform(0.001, 0.002), extrapolation=Uniform(0.0007, 0.0025)),
        Parameter("direction", Choice(-1.0, 1.0)),
    )
    tensor_env = MountainCarContinuousTensorEnv

    def make_env(self, task: Task) -> gym.Env:
        """Gymnasium's own MountainCarContinuous-v0 with this power."""
        values: Any = self.check_task(task)
        env = gym.make("MountainCarContinuous-v0", max_episode_steps=self.horizon)
        car: Any = env.unwrapped
        car.power = values["power"] * values["direction"]
        return env


def roll(position: Tensor, speed: Tensor) -> Tensor:
    """Both mountain cars' next state from where they are and their speed before its limit.

    The left wall stops the car; the flag comes before the right one.
    """
    speed = speed.clamp(-MAX_SPEED, MAX_SPEED)
    position = (position + speed).clamp(LEFT, RIGHT)
    stopped = (position <= LEFT) & (speed < 0)
    return torch.stack([position, speed.masked_fill(stopped, 0.0).to(position.dtype)], -1)
