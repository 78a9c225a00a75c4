"""Mountain cars, too weak for their hill, with discrete or continuous actions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import torch
from gymnasium.envs.classic_control import Continuous_MountainCarEnv, MountainCarEnv
from torch import Tensor

from meta_rl.families.distributions import Uniform
from meta_rl.families.parameters import Parameter, ParameterSpace
from meta_rl.families.tensor import TensorEnv
from meta_rl.types import Task

from .classic import DIRECTION, ClassicControl

LEFT, RIGHT, MAX_SPEED = -1.2, 0.6, 0.07  # both cars: walls and speed limit
FLAG, FLAG_CONTINUOUS, SLOPE = 0.5, 0.45, 0.0025
ENERGY = 100.0  # mountain-car-energy's reward for climbing the hill


class MountainCarTensorEnv(TensorEnv):
    """Gymnasium's MountainCar-v0 for M x B cars at once; state (position, speed)."""

    force: Tensor  # each (M, 1); signed: the push of action 2
    gravity: Tensor

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Keep the tasks' physics."""
        self.force = self.column(tasks, "force") * self.column(tasks, "direction")
        self.gravity = self.column(tasks, "gravity")

    def initial_state(self, generator: torch.Generator) -> Tensor:
        """Draw positions uniform in [-0.6, -0.4], at rest."""
        position = self.uniform(-0.6, -0.4, 1, generator)
        return torch.cat([position, torch.zeros_like(position)], -1)

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Move the cars; the reward is -1 a step until the flag."""
        position, speed = self.state.unbind(-1)
        push = (action.to(self.dtype) - 1) * self.force
        self.state = roll(position, speed + push - self.gravity * (3 * position).cos())
        return -torch.ones_like(push), self.state[..., 0] >= FLAG


class MountainCar(ClassicControl):
    """The engine's force, gravity and the direction differ; horizon 200; -1 a step until the flag.

    No force in the range climbs the hill without a run-up. Without ``direction``, one policy would
    solve the whole family: push the way the car rolls.
    """

    id = "mountain-car"
    env_id = "MountainCar-v0"
    source = "Moore 1990; Gymnasium's MountainCar-v0"
    horizon = 200
    observation_space = MountainCarEnv().observation_space
    action_space = MountainCarEnv().action_space
    space = ParameterSpace(
        Parameter("force", Uniform(0.0009, 0.0015), extrapolation=Uniform(0.0007, 0.0018)),
        Parameter("gravity", Uniform(0.002, 0.003), extrapolation=Uniform(0.0018, 0.0035)),
        DIRECTION,
    )
    tensor_env = MountainCarTensorEnv

    def set_physics(self, env: Any, values: Mapping[str, Any]) -> None:
        """Set the physics attributes of Gymnasium's environment."""
        env.force, env.gravity = values["force"] * values["direction"], values["gravity"]


class EnergyReward(gym.Wrapper):
    """Adds the car's gain in energy to the reward of MountainCar-v0."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step, and add the energy gained to the reward."""
        before = self._energy()
        observation, reward, terminated, truncated, info = self.env.step(action)
        gain = self._energy() - before
        return observation, float(reward) + ENERGY * gain, terminated, truncated, info

    def _energy(self) -> float:
        car: Any = self.env.unwrapped
        position, speed = car.state
        return float(energy(math.sin(3 * position), speed, car.gravity))


class MountainCarEnergyTensorEnv(MountainCarTensorEnv):
    """MountainCar-v0 with :class:`EnergyReward` for M x B cars at once."""

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Move the cars; the reward is -1 a step until the flag, plus the gain in energy."""
        before = self._energy()
        reward, reached = super().advance(action)
        return reward + ENERGY * (self._energy() - before), reached

    def _energy(self) -> Tensor:
        position, speed = self.state.unbind(-1)
        return energy((3 * position).sin(), speed, self.gravity)


class MountainCarEnergy(MountainCar):
    """``mountain-car`` with another reward: -1 a step plus 100 times the gain in energy.

    Energy is potential plus kinetic, as a fraction of the energy to climb the hill from its foot.
    An untrained policy never reaches the flag in 200 steps, so in ``mountain-car`` all returns are
    equal and there is nothing to learn from. Over an episode the gains add up to the final energy
    less the initial energy (a potential, as in Ng, Harada and Russell 1999, but undiscounted).
    """

    id = "mountain-car-energy"
    source = "Moore 1990; Gymnasium's MountainCar-v0, reward shaped as described"
    tensor_env = MountainCarEnergyTensorEnv

    def make_env(self, task: Task, render_mode: str | None = None) -> gym.Env:
        """Return MountainCar-v0 with the task's physics and the gain in energy in its reward."""
        return EnergyReward(super().make_env(task, render_mode))


def energy(sine: Any, speed: Any, gravity: Any) -> Any:
    """Return mechanical energy as a fraction of the hill's; ``sine`` is ``sin(3 * position)``.

    Gravity pulls with ``-gravity cos(3 x)``, whose potential is ``gravity sin(3 x) / 3``.
    """
    return sine / 2 + 3 * speed**2 / (4 * gravity)


class MountainCarContinuousTensorEnv(MountainCarTensorEnv):
    """Gymnasium's MountainCarContinuous-v0 for M x B cars at once; state (position, speed).

    Gymnasium keeps this car's state in float32. So this class rounds at the same places, whatever
    the dtype; otherwise the two would differ by 1e-5 at the end of an episode.
    """

    power: Tensor  # (M, 1), signed

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Keep the engines' power."""
        power = self.column(tasks, "power") * self.column(tasks, "direction")
        self.power = power.float()

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Move the cars; the reward is 100 at the flag, less a tenth of the squared action."""
        position, speed = self.state.unbind(-1)
        thrust = action[..., 0].to(self.dtype)
        # At the first step, Gymnasium's state is still float64.
        triple = 3 * position if self._time == 1 else (3 * position).float()
        slope = (SLOPE * triple.double().cos()).float()
        push = thrust.float().clamp(-1.0, 1.0) * self.power - slope
        self.state = roll(position, (speed + push).float()).float().to(self.dtype)
        reached = self.state[..., 0].float() >= FLAG_CONTINUOUS
        return 100.0 * reached - 0.1 * thrust**2, reached


class MountainCarContinuous(ClassicControl):
    """The engine's power and direction differ; horizon 999.

    The reward is 100 at the flag, less a tenth of every squared action. Gravity is no parameter,
    because Gymnasium's step has it as a literal; more gravity would act as less power and slower
    time. Without ``direction``, one policy would solve the whole family: push the way the car
    rolls.
    """

    id = "mountain-car-continuous"
    env_id = "MountainCarContinuous-v0"
    source = "Moore 1990; Gymnasium's MountainCarContinuous-v0"
    horizon = 999
    observation_space = Continuous_MountainCarEnv().observation_space
    action_space = Continuous_MountainCarEnv().action_space
    space = ParameterSpace(
        Parameter("power", Uniform(0.001, 0.002), extrapolation=Uniform(0.0007, 0.0025)),
        DIRECTION,
    )
    tensor_env = MountainCarContinuousTensorEnv

    def set_physics(self, env: Any, values: Mapping[str, Any]) -> None:
        """Set the physics attributes of Gymnasium's environment."""
        env.power = values["power"] * values["direction"]


def roll(position: Tensor, speed: Tensor) -> Tensor:
    """Return a mountain car's next state from its position and its unlimited speed.

    The left wall stops the car; the flag comes before the right wall.
    """
    speed = speed.clamp(-MAX_SPEED, MAX_SPEED)
    position = (position + speed).clamp(LEFT, RIGHT)
    stopped = (position <= LEFT) & (speed < 0)
    return torch.stack([position, speed.masked_fill(stopped, 0.0).to(position.dtype)], -1)
