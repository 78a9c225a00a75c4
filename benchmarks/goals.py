"""Train and evaluate on a goal environment with Dict observations whose controls are turned.

    python -m benchmarks.goals goals --seeds 3 --steps 1

Every episode has a goal that the observation tells. What it does not tell is the task: the angle by
which pushes are turned.
"""

from __future__ import annotations

import dataclasses

import gymnasium as gym
import numpy as np

from benchmarks import learning
from benchmarks.experiments import UNTRAINED, inner
from meta_rl import GymFamily, Parameter, Uniform, preset, register
from meta_rl.config import Config, EpisodesConfig

NEAR = 0.15
"""The distance to the goal below which an episode succeeds."""


class TurnedControls(gym.Env):
    """Push a point to a goal in the plane, while pushes are turned by an angle.

    The reward is minus the distance to the goal.
    """

    observation_space = gym.spaces.Dict(
        {
            name: gym.spaces.Box(-4.0, 4.0, (2,), np.float32)
            for name in ("achieved_goal", "desired_goal", "observation")
        }
    )
    action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, turn: float = 0.0):
        self.turn = turn

    def reset(self, *, seed=None, options=None):
        """Start in the middle, with a goal at a distance of 1."""
        super().reset(seed=seed)
        angle = self.np_random.uniform(0, 2 * np.pi)
        self.goal = np.array([np.cos(angle), np.sin(angle)])
        self.position, self.speed = np.zeros(2), np.zeros(2)
        return self._observed(), {}

    def step(self, action):
        """Move by a quarter of the turned push."""
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        self.speed = 0.25 * np.array([[cos, -sin], [sin, cos]]) @ np.clip(action, -1, 1)
        self.position = self.position + self.speed
        distance = float(np.linalg.norm(self.position - self.goal))
        info = {"is_success": distance < NEAR}
        return self._observed(), -distance, False, False, info

    def _observed(self):
        seen = {"observation": self.speed, "achieved_goal": self.position}
        return {k: np.float32(v) for k, v in {**seen, "desired_goal": self.goal}.items()}


def arms() -> dict[str, Config]:
    """Register the family; return the experiment's arms by name."""
    turn = Parameter("turn", Uniform(-1.5, 1.5), "rad")
    register(GymFamily(TurnedControls, turn, horizon=10, id="turned-controls"), replace=True)
    config = preset("turned-controls")
    data = EpisodesConfig(tasks=10, episodes=10)
    config = dataclasses.replace(inner(config, step_size=0.3), data=data, iterations=200)
    return {"maml": config, UNTRAINED: config}


if __name__ == "__main__":
    learning.main({"goals": arms()})
