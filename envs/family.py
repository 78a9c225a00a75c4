"""What every family of environments shares: sampling, checking and batched stepping."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch

from envs.general import GymVec
from envs.parameters import ParameterSpace
from envs.tensor import TensorEnv
from meta_rl.types import BatchedEnv, Task


class Family(ABC):
    """A distribution over environments with the same spaces.

    A subclass sets the attributes and writes :meth:`make_env`; all else follows. One whose dynamics
    are a few tensor operations also names its ``tensor_env``.
    """

    id: str
    horizon: int  # steps after which an episode is truncated
    observation_space: gym.Space
    action_space: gym.Space
    space: ParameterSpace
    tensor_env: type[TensorEnv] | None = None
    episodes_at_once: int | None = None  # B that can run in lockstep; None: any number

    def sample_tasks(self, n: int, seed: int) -> list[Task]:
        """Draw n tasks; equal seeds give equal tasks on every machine."""
        return self.space.sample(n, seed)

    def check_task(self, task: Mapping[str, Any]) -> Task:
        """The task with its numbers normalized.

        Raises:
            InputError: on an unknown, missing or out-of-range parameter.
        """
        return self.space.check(task)

    @abstractmethod
    def make_env(self, task: Task) -> gym.Env:
        """One standard Gymnasium environment of this task, with its time limit."""

    def make_vec(
        self, num_tasks: int, episodes: int, *, device: torch.device | str, dtype: torch.dtype
    ) -> BatchedEnv:
        """Lockstep stepping of ``num_tasks`` x ``episodes`` rows.

        By the tensor backend where the family has one, else by the general backend.
        """
        if self.tensor_env is None:
            return GymVec(self.make_env, num_tasks, episodes, device=device, dtype=dtype)
        return self.tensor_env(
            num_tasks, episodes, horizon=self.horizon, device=device, dtype=dtype
        )
