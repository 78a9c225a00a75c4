"""A family as an author writes it, with types: read by pyright in strict mode, and run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import meta_rl
from meta_rl.families import TensorEnv
from meta_rl.types import Task

Array = NDArray[np.float64]
Push = NDArray[np.float32]
Number = TypeVar("Number")


@dataclass(frozen=True)
class Physics(Generic[Number]):
    target: Number  # m
    wind: Number  # m a step


class Line(gym.Env[Array, Push]):
    observation_space = gym.spaces.Box(-100.0, 100.0, (1,), np.float64)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, target: float = 1.0, wind: float = 0.0):
        self.target, self.wind = target, wind
        self.state = np.zeros(1)

    def reset(
        self, *, seed: int | None = None, options: dict[str, object] | None = None
    ) -> tuple[Array, dict[str, object]]:
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-1.0, 1.0, 1)
        return self.state.copy(), {}

    def step(self, action: Push) -> tuple[Array, float, bool, bool, dict[str, object]]:
        self.state = self.state + action + self.wind
        return self.state.copy(), -abs(float(self.state[0]) - self.target), False, False, {}


class LineTensors(TensorEnv):
    physics: Physics[Tensor]

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        self.physics = self.columns(tasks, Physics[Tensor])

    def initial_state(self, generator: torch.Generator) -> Tensor:
        return self.uniform(-1.0, 1.0, 1, generator)

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor]:
        self.state = self.state + action.to(self.dtype) + self.physics.wind[..., None]
        reward = -(self.state[..., 0] - self.physics.target).abs()
        return reward, torch.zeros_like(reward, dtype=torch.bool)


class LineFamily(meta_rl.Family):
    id = "typed-line"
    horizon = 20
    observation_space = Line.observation_space
    action_space = Line.action_space
    space = meta_rl.ParameterSpace(
        meta_rl.Parameter("target", meta_rl.Uniform(-5.0, 5.0), "m"),
        meta_rl.Parameter("wind", meta_rl.Choice(0.0, 0.5), "m a step"),
    )
    tensor_env = LineTensors

    def make_env(self, task: Task, render_mode: str | None = None) -> gym.Env[Array, Push]:
        physics = self.read_task(task, Physics[float])
        return gym.wrappers.TimeLimit(Line(physics.target, physics.wind), self.horizon)


DECLARED = meta_rl.GymFamily(
    Line,
    meta_rl.Parameter("target", meta_rl.Uniform(-5.0, 5.0)),
    settings={"wind": 0.5},
    wrappers=[lambda env: gym.wrappers.TimeLimit(env, 10)],
    horizon=20,
    id="typed-declared",
)
