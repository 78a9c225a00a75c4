"""The general backend: step any ``gymnasium.Env`` through ``gymnasium.vector``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from torch import Tensor

from meta_rl.errors import FOREIGN, InputError, refuse_running_statistics, require
from meta_rl.families.main_module import require_guard
from meta_rl.families.row import close
from meta_rl.families.rows import Rows, made
from meta_rl.families.workers import end_workers, worker_fault
from meta_rl.problems.observations import flat_space, tensor_type
from meta_rl.types import Step, Task

WORKER_TIMEOUT = 600.0
"""Seconds allowed to workers for one step of their rows, or for making and resetting them."""


class GymVec:
    """Steps M tasks x B episodes of single environments, in this process or in workers.

    Environments are built when the tasks change. A finished row stands still until the next reset
    of all rows. The same seed gives the same episodes with any number of workers.

    Args:
        make_env: a function from a task to a new environment.
        num_tasks: M, the number of tasks.
        episodes: B, the number of episodes per task.
        device: the device of observations and rewards.
        dtype: the type of observations and rewards.
        workers: the largest number of worker processes; each steps equally many rows. 0 steps all
            rows in this process, which is faster for cheap environments.
        timeout: seconds that workers may take for one step or reset, before they are killed.

    Raises:
        InputError: if ``workers`` is negative, or ``timeout`` is not above 0.
    """

    def __init__(
        self,
        make_env: Callable[[Task], gym.Env],
        num_tasks: int,
        episodes: int,
        *,
        device: torch.device | str,
        dtype: torch.dtype,
        workers: int = 0,
        timeout: float = WORKER_TIMEOUT,
    ):
        require(workers >= 0, "workers", "0 or more", workers)
        require(timeout > 0, "timeout", "seconds above 0", timeout)
        self.rows = (num_tasks, episodes)
        self._make_env, self._device, self._dtype = make_env, device, dtype
        self._workers = min(workers, num_tasks * episodes)
        self._timeout, self._space, self._obs_dtype = timeout, gym.Space(), dtype
        self._tasks: list[Task] = []
        self._warned: set[str] = set()  # the kinds of warning given so far
        self._vector: gym.vector.VectorEnv | None = None

    @property
    def occupies_cores(self) -> bool:
        """Return whether workers step the rows."""
        return self._workers > 0

    @property
    def envs(self) -> list[gym.Env]:
        """Return the single environments, all episodes of a task in a row.

        Empty if workers step them, and before the first reset. Each has the ``info`` of its last
        step, until it is reset.
        """
        if not isinstance(self._vector, SyncVectorEnv):
            return []
        return [row for block in self._vector.envs for row in cast(Rows, block).rows]

    def reset(self, tasks: Sequence[Task], seed: int) -> Tensor:
        """Start every row with a seed of its own; return observations ``(M, B, O)``.

        Raises:
            InputError: unless there are M tasks and every row gets an environment of its own; or
                if an environment cannot be made or reset.
        """
        require(len(tasks) == self.rows[0], "tasks", f"{self.rows[0]} of them", len(tasks))
        if self._vector is None:
            self._vector = self._open(tasks[0])
        seeds = np.random.SeedSequence(seed).generate_state(self.rows[0] * self.rows[1])
        options: dict[str, Any] = {"seeds": [int(s) for s in seeds]}
        if list(tasks) != self._tasks:
            options["tasks"] = [task for task in tasks for _ in range(self.rows[1])]
        self._tasks = []
        answer = self._call("reset", options=options)
        self._tasks = list(tasks)
        return self._step(answer).obs

    def step(self, action: Tensor) -> Step:
        """Step every row.

        Raises:
            InputError: if an environment raises, naming its task, step and seed; or if a worker
                dies or exceeds the timeout. Then all workers are ended, and the next reset starts
                new ones.
        """
        if self._vector is None:
            raise InputError("environment: step() before reset(); call reset(tasks, seed) first.")
        space = self._vector.action_space
        actions = action.cpu().numpy().reshape(space.shape).astype(space.dtype, copy=False)
        return self._step(self._call("step", actions))

    def close(self) -> None:
        """Close the single environments and end the workers."""
        if self._vector is not None:
            if isinstance(self._vector, AsyncVectorEnv):
                end_workers(self._vector)
            else:
                self._vector.close()
            self._vector = None
        self._tasks = []

    def _open(self, task: Task) -> gym.vector.VectorEnv:
        sample = made(self._make_env, task)
        refuse_running_statistics(sample)
        spaces = self._space, _ = flat_space(sample.observation_space), sample.action_space
        self._obs_dtype = tensor_type(sample.observation_space, self._dtype)
        close(sample)
        count = self.rows[0] * self.rows[1]
        # Workers get equally many rows, so their number must divide the rows.
        self._workers = max((n for n in range(1, self._workers + 1) if count % n == 0), default=0)
        shares = np.array_split(range(count), self._workers or 1)
        blocks = [partial(Rows, self._make_env, int(s[0]), len(s), *spaces) for s in shares]
        if not self._workers:
            return SyncVectorEnv(blocks, copy=False, autoreset_mode=AutoresetMode.DISABLED)
        require_guard()
        try:
            # Forking a process that runs torch's threads can hang.
            return AsyncVectorEnv(
                blocks, copy=False, context="spawn", autoreset_mode=AutoresetMode.DISABLED
            )
        except (EOFError, OSError) as error:
            raise InputError(
                f"environment: workers cannot be started: {error!r}. "
                'Put the script\'s code under `if __name__ == "__main__":`'
                " and make environments by an importable function. "
                "Or step in this process: workers=0 (--speed.workers 0)."
            ) from None

    def _call(self, method: str, *arguments: Any, **named: Any) -> dict[str, np.ndarray]:
        """Call ``reset`` or ``step`` of the vector environment; return its observation."""
        vector = self._vector
        if not isinstance(vector, AsyncVectorEnv):
            return getattr(vector, method)(*arguments, **named)[0]
        with warnings.catch_warnings():
            # Gymnasium warns of a worker's end; the error below says more.
            warnings.filterwarnings("ignore", category=UserWarning, module="gymnasium")
            try:
                getattr(vector, f"{method}_async")(*arguments, **named)
                return getattr(vector, f"{method}_wait")(timeout=self._timeout)[0]
            except FOREIGN as error:
                self._vector, self._tasks = None, []
                raise worker_fault(error, method, end_workers(vector), self._timeout) from error

    def _step(self, answer: dict[str, np.ndarray]) -> Step:
        def tensor(key: str, dtype: torch.dtype) -> Tensor:
            # torch.tensor copies: the vector environment writes into the same array every time.
            values = torch.tensor(answer[key], dtype=dtype, device=self._device)
            return values.reshape(*self.rows, *answer[key].shape[2:])

        obs = tensor("obs", self._obs_dtype)
        if self._obs_dtype != torch.uint8:  # no byte is outside its space
            self._warn_if_outside(answer["obs"])
            self._warn_if_rounded(answer["obs"], obs)
        told = not np.isnan(answer["success"]).all()
        return Step(
            obs.reshape(*self.rows, -1),
            tensor("reward", self._dtype),
            tensor("terminated", torch.bool),
            tensor("truncated", torch.bool),
            tensor("success", self._dtype) if told else None,
        )

    def _warn_if_outside(self, obs: np.ndarray) -> None:
        """Warn once of an observation outside its space; well-known environments return some."""
        space = self._space
        if isinstance(space, gym.spaces.Box) and "outside" not in self._warned:
            outside = (obs < space.low) | (obs > space.high)
            self._warn("outside", obs, outside, f"outside its space {space}")

    def _warn_if_rounded(self, obs: np.ndarray, held: Tensor) -> None:
        """Warn once of whole numbers that the dtype rounds, so that neighbours become equal."""
        if obs.dtype.kind not in "iu" or obs.dtype.itemsize < 4 or "rounded" in self._warned:
            return
        kept = held.cpu().numpy().reshape(obs.shape).astype(np.float64)
        told = f"which {self._dtype} rounds: neighbours become equal. Wrap it to be smaller"
        self._warn("rounded", obs, kept != obs, told)

    def _warn(self, what: str, obs: np.ndarray, where: np.ndarray, told: str) -> None:
        """Warn of the first entry at which ``where`` is true, if any."""
        if not where.any():
            return
        self._warned.add(what)
        worker, row, *entry = (int(i) for i in np.argwhere(where)[0])
        task = self._tasks[(worker * obs.shape[1] + row) // self.rows[1]]
        value = obs[worker, row, *entry]
        shown = value if obs.dtype.kind in "iu" else f"{value:g}"
        warnings.warn(
            f"environment: an observation of task {dict(task)} has {shown} as entry {entry}, "
            f"{told}. Training goes on.",
            stacklevel=3,
        )
