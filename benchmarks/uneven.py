"""A family whose observation has entries of different sizes, for what normalization changes."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from torch import Tensor

from meta_rl import envs
from meta_rl.families import register
from meta_rl.types import Task

UNITS = (1000.0, 1.0)


class UnevenTensorEnv(envs.navigation.NavigationPEARLTensorEnv):
    """Points that see x in millimetres and y in metres."""

    def observe(self) -> Tensor:
        """Return the positions in these units."""
        return self.state * self.state.new_tensor(UNITS)


class UnevenNavigation(envs.navigation.NavigationPEARL):
    """``navigation-pearl``, whose policy sees x in millimetres and y in metres."""

    id = "navigation-uneven"
    tensor_env = UnevenTensorEnv

    def __init__(self):
        super().__init__()
        box: Any = self.observation_space
        units = np.array(UNITS, np.float32)
        self.observation_space = gym.spaces.Box(box.low * units, box.high * units)

    def make_env(self, task: Task, render_mode: str | None = None) -> gym.Env:
        """Return a standard environment, with the observation in these units."""
        env = super().make_env(task, render_mode)
        units = np.array(UNITS, np.float32)
        return gym.wrappers.TransformObservation(
            env, lambda position: position * units, self.observation_space
        )


register(UnevenNavigation())
