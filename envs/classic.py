"""The base class of families over Gymnasium's classic control.

The single environments are Gymnasium's own; a task sets their attributes. ``direction`` is the sign
of the actuator, -1 for a motor wired the other way round. Actions that pump energy into one system
take it out of the other, so a policy has to find out which of the two it drives.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from meta_rl.families.choice import Choice
from meta_rl.families.family import Family
from meta_rl.families.parameters import Parameter
from meta_rl.families.rendering import prepare_pygame
from meta_rl.types import Task

DIRECTION = Parameter("direction", Choice(-1.0, 1.0))


class ClassicControl(Family):
    """A Gymnasium environment whose physics differ between tasks."""

    env_id: str  # the environment's Gymnasium id

    def make_env(self, task: Task, render_mode: str | None = None) -> gym.Env:
        """Return Gymnasium's own environment with the task's physics."""
        values = self.check_task(task)
        if render_mode == "rgb_array":
            prepare_pygame()
        env = gym.make(self.env_id, max_episode_steps=self.horizon, render_mode=render_mode)
        self.set_physics(env.unwrapped, values)
        return env

    @abstractmethod
    def set_physics(self, env: Any, values: Mapping[str, Any]) -> None:
        """Write the task's values into the attributes of Gymnasium's environment."""
