"""The general backend: any ``gymnasium.Env``, stepped through ``gymnasium.vector``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor

from meta_rl.errors import InputError, require
from meta_rl.types import Step, Task


class GymVec:
    """M tasks x B episodes of single environments, in this process, autoreset disabled.

    Environments are built when the tasks change. A row that finished stands still until the next
    reset of all.

    Args:
        make_env: a task to a new environment with Box observations.
        num_tasks: M.
        episodes: B.
        device: where observations and rewards go.
        dtype: theirs.
    """

    def __init__(
        self,
        make_env: Callable[[Task], gym.Env],
        num_tasks: int,
        episodes: int,
        *,
        device: torch.device | str,
        dtype: torch.dtype,
    ):
        self.rows = (num_tasks, episodes)
        self._make_env, self._device, self._dtype = make_env, device, dtype
        self._tasks: list[Task] = []
        self._vector: SyncVectorEnv | None = None

    @property
    def envs(self) -> list[gym.Env]:
        """The single environments, row by row: all episodes of the first task, then the next."""
        return list(self._vector.envs) if self._vector else []

    def reset(self, tasks: Sequence[Task], seed: int) -> Tensor:
        """Start every row with a seed of its own; returns obs ``(M, B, O)``.

        Raises:
            InputError: unless there are M tasks, and every row gets an environment of its own.
        """
        require(len(tasks) == self.rows[0], "tasks", f"{self.rows[0]} of them", len(tasks))
        if list(tasks) != self._tasks:
            self._build(list(tasks))
        seeds = np.random.SeedSequence(seed).generate_state(self.rows[0] * self.rows[1])
        obs, _ = self._open().reset(seed=[int(s) for s in seeds])
        return self._tensor(obs).flatten(2)

    def step(self, action: Tensor) -> Step:
        """Step every row."""
        vector = self._open()
        actions = action.cpu().numpy().reshape(vector.action_space.shape)
        obs, reward, terminated, truncated, _ = vector.step(
            actions.astype(vector.action_space.dtype, copy=False)
        )
        result = Step(
            self._tensor(obs).flatten(2),
            self._tensor(reward),
            torch.tensor(terminated, device=self._device).reshape(self.rows),
            torch.tensor(truncated, device=self._device).reshape(self.rows),
        )
        finished = terminated | truncated
        if finished.any():  # without a seed: these rows are to stand still, see _Row
            vector.reset(options={"reset_mask": finished})
        return result

    def close(self) -> None:
        """Close the single environments."""
        if self._vector is not None:
            self._vector.close()
            self._vector = None
        self._tasks = []

    def _build(self, tasks: list[Task]) -> None:
        self.close()
        rows = [_Row(self._make_env(task), task) for task in tasks for _ in range(self.rows[1])]
        if len({id(row.unwrapped) for row in rows}) < len(rows):
            raise InputError(
                f"environment: expected a new environment for each of {len(rows)} rows, got "
                f"{rows[0].unwrapped} more than once. Return a new one from every call."
            )
        self._vector = SyncVectorEnv(
            [lambda row=row: row for row in rows],
            copy=False,
            autoreset_mode=AutoresetMode.DISABLED,
        )
        self._tasks = tasks

    def _open(self) -> SyncVectorEnv:
        if self._vector is None:
            raise InputError("environment: step() before reset(); call reset(tasks, seed) first.")
        return self._vector

    def _tensor(self, values: np.ndarray) -> Tensor:
        # torch.tensor copies: the vector environment writes into the same array at every step.
        tensor = torch.tensor(values, dtype=self._dtype, device=self._device)
        return tensor.reshape(*self.rows, *values.shape[1:], *([1] if values.ndim == 0 else []))


class _Row(gym.Wrapper):
    """One row: stands still once it has finished, and says where an environment failed.

    Standing still begins with a reset without a seed (every real one has a seed).
    """

    def __init__(self, env: gym.Env, task: Task):
        super().__init__(env)
        self._task, self._time, self._seed = task, 0, None
        self._finished, self._last = False, None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self._finished = seed is None
        if self._finished:
            return self._last, {}
        self._time, self._seed = 0, seed
        try:
            self._last, _ = self.env.reset(seed=seed)
        except Exception as error:
            raise self._named(error, "reset") from error
        return self._last, {}

    def step(self, action: Any) -> Any:
        if self._finished:
            return self._last, 0.0, False, False, {}
        self._time += 1
        try:
            self._last, reward, terminated, truncated, _ = self.env.step(action)
        except Exception as error:
            raise self._named(error, f"step {self._time}") from error
        return self._last, reward, terminated, truncated, {}

    def _named(self, error: Exception, when: str) -> InputError:
        return InputError(
            f"environment: {self.env.unwrapped} raised {type(error).__name__}: {error} at {when} "
            f"of task {dict(self._task)}, seed {self._seed}. Mend the environment."
        )
