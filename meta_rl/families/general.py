"""The general backend: any ``gymnasium.Env``, stepped through ``gymnasium.vector``."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from meta_rl import console
from meta_rl.errors import FOREIGN, InputError, refuse_running_statistics, require
from meta_rl.families.main_module import require_guard
from meta_rl.families.row import Row
from meta_rl.storage.reading import named, shortened
from meta_rl.types import Step, Task

WORKER_TIMEOUT = 600.0
"""Seconds that workers may take for one step of their rows, or for making and resetting them."""
CLOSING = 1.0
"""Seconds that workers have for closing their environments, all together."""


class GymVec:
    """M tasks x B episodes of single environments, in this process or shared out over workers.

    Environments are built when the tasks change. A row that finished stands still until the next
    reset of all. The same seed gives the same episodes with any number of workers.

    Args:
        make_env: a task to a new environment with Box observations.
        num_tasks: M.
        episodes: B.
        device: where observations and rewards go.
        dtype: theirs.
        workers: processes at most, each with an equal share of the rows; 0 steps them all in this
            one, which is faster for cheap environments.
        timeout: seconds that workers may take for one step or reset; then they are killed.

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
        self._timeout, self._space = timeout, gym.Space()
        self._tasks: list[Task] = []
        self._warned = False  # that an observation was outside its space
        self._vector: gym.vector.VectorEnv | None = None

    @property
    def occupies_cores(self) -> bool:
        """Whether there are workers."""
        return self._workers > 0

    @property
    def envs(self) -> list[gym.Env]:
        """The single environments of this process, all episodes of a task after one another.

        Each has the ``info`` of its last step, until it is reset.
        """
        if not isinstance(self._vector, SyncVectorEnv):
            return []
        return [row for block in self._vector.envs for row in cast(_Block, block).rows]

    def reset(self, tasks: Sequence[Task], seed: int) -> Tensor:
        """Start every row with a seed of its own; returns obs ``(M, B, O)``.

        Raises:
            InputError: unless there are M tasks, and every row gets an environment of its own; or
                if one cannot be made or reset.
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
            InputError: if an environment raises, saying which task, step and seed; or if a worker
                dies or takes longer than the timeout. The workers are then ended, and the next
                reset starts new ones.
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
                _end(self._vector)
            else:
                self._vector.close()
            self._vector = None
        self._tasks = []

    def _open(self, task: Task) -> gym.vector.VectorEnv:
        sample = _made(self._make_env, task)
        refuse_running_statistics(sample)
        spaces = self._space, _ = (sample.observation_space, sample.action_space)
        sample.close()
        count = self.rows[0] * self.rows[1]
        # Shares are equal: of these rows, as many workers as divide them.
        self._workers = max((n for n in range(1, self._workers + 1) if count % n == 0), default=0)
        shares = np.array_split(range(count), self._workers or 1)
        blocks = [partial(_Block, self._make_env, int(s[0]), len(s), *spaces) for s in shares]
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
                "environment: workers cannot be started: "
                'a script needs `if __name__ == "__main__":`'
                " around what it does, and what makes environments must be importable: "
                f"{error!r}. Or step in this process: workers=0 (--speed.workers 0)."
            ) from None

    def _call(self, method: str, *arguments: Any, **named: Any) -> dict[str, np.ndarray]:
        """What ``reset`` or ``step`` of the vector environment observes."""
        vector = self._vector
        if not isinstance(vector, AsyncVectorEnv):
            return getattr(vector, method)(*arguments, **named)[0]
        with warnings.catch_warnings():
            # Gymnasium tells of a worker's end as warnings; it is told by the error below.
            warnings.filterwarnings("ignore", category=UserWarning, module="gymnasium")
            try:
                getattr(vector, f"{method}_async")(*arguments, **named)
                return getattr(vector, f"{method}_wait")(timeout=self._timeout)[0]
            except FOREIGN as error:
                self._vector, self._tasks = None, []
                raise _worker_fault(error, method, _end(vector), self._timeout) from error

    def _step(self, answer: dict[str, np.ndarray]) -> Step:
        def tensor(key: str, dtype: torch.dtype) -> Tensor:
            # torch.tensor copies: the vector environment writes into the same array every time.
            values = torch.tensor(answer[key], dtype=dtype, device=self._device)
            return values.reshape(*self.rows, *answer[key].shape[2:])

        self._warn_if_outside(answer["obs"])
        return Step(
            tensor("obs", self._dtype).reshape(*self.rows, -1),
            tensor("reward", self._dtype),
            tensor("terminated", torch.bool),
            tensor("truncated", torch.bool),
        )

    def _warn_if_outside(self, obs: np.ndarray) -> None:
        """Say once that an observation was outside its space, which happens in much-used ones."""
        space = self._space
        if self._warned or not isinstance(space, gym.spaces.Box):
            return
        outside = (obs < space.low) | (obs > space.high)
        if outside.any():
            self._warned = True
            worker, row, *entry = (int(i) for i in np.argwhere(outside)[0])
            task = self._tasks[(worker * obs.shape[1] + row) // self.rows[1]]
            warnings.warn(
                f"environment: an observation of task {dict(task)} has {obs[worker, row, *entry]:g}"
                f" as entry {entry}, outside its space {space}. Training goes on.",
                stacklevel=2,
            )


def _made(make_env: Callable[[Task], gym.Env], task: Task) -> gym.Env:
    """A new environment.

    Raises:
        InputError: if it cannot be made.
    """
    try:
        return make_env(task)
    except InputError:
        raise
    except FOREIGN as error:
        raise InputError(
            f"environment: cannot make one of task {dict(task)}: {named(error)}"
        ) from error


def _end(vector: AsyncVectorEnv) -> list[int]:
    """Have the workers close, or kill them; which had died, by their exit codes.

    ``AsyncVectorEnv.close`` waits for ever for one that hangs, and fails for one that has died.
    """
    for process in vector.processes:
        process.join(0.05)  # one that is dying
    died = [p.exitcode for p in vector.processes if p.exitcode is not None]
    for pipe in filter(None, vector.parent_pipes):
        with contextlib.suppress(OSError):  # of one that has died
            pipe.send(("close", None))
    end = time.monotonic() + CLOSING
    for process in vector.processes:
        process.join(max(0.0, end - time.monotonic()))
        process.kill()  # one that hangs; nothing, once it has ended
        process.join()
    # Only now: a worker whose pipe closes while it waits prints a traceback.
    for pipe in filter(None, vector.parent_pipes):
        pipe.close()
    vector.closed = True
    return died


def _worker_fault(error: BaseException, method: str, died: list[int], timeout: float) -> InputError:
    if isinstance(error, InputError):
        return error
    if isinstance(error, multiprocessing.TimeoutError):
        what = (
            f"workers gave no answer to {method} for {timeout:g} s and were killed. "
            "Mend the environment, or set the family's worker_timeout"
        )
    elif isinstance(error, EOFError | OSError):
        what = f"a worker died in {method}, with exit codes {died}"
    else:
        what = f"a worker failed: {named(error)}"
    return InputError(f"environment: {what}.")


class _Block(gym.Env):
    """A share of the rows as one environment, so that a worker steps them all at one call.

    What the rows return is its observation; it never ends by itself.
    """

    def __init__(
        self,
        make_env: Callable[[Task], gym.Env],
        start: int,
        count: int,
        observation_space: gym.Space,
        action_space: gym.Space,
    ):
        if multiprocessing.parent_process() is not None:
            # Ctrl-C reaches workers too; when to stop is the main process's to say.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            console.install()
        self._make_env, self._start, self._count = make_env, start, count
        self._row_space = observation_space
        self.rows: list[Row] = []
        flag = gym.spaces.MultiBinary(count)
        number = gym.spaces.Box(-np.inf, np.inf, (count,), np.float64)
        self.observation_space = gym.spaces.Dict(
            {
                "obs": batch_space(observation_space, count),
                "reward": number,
                "terminated": flag,
                "truncated": flag,
            }
        )
        self.action_space = batch_space(action_space, count)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        share = slice(self._start, self._start + self._count)
        assert options is not None
        if "tasks" in options:
            self._build(options["tasks"][share])
        seeds = options["seeds"][share]
        return self._answer([row.start(s) for row, s in zip(self.rows, seeds, strict=True)]), {}

    def step(self, action: Any) -> Any:
        answers = [row.advance(a) for row, a in zip(self.rows, action, strict=True)]
        return self._answer(answers), 0.0, False, False, {}

    def close(self) -> None:
        for row in self.rows:
            row.close()

    def _build(self, tasks: list[Task]) -> None:
        self.close()
        self.rows = []
        self.rows = [Row(_made(self._make_env, task), task) for task in tasks]
        if len({id(row.unwrapped) for row in self.rows}) < len(self.rows):
            raise InputError(
                f"environment: expected a new environment for each of {len(tasks)} rows, got "
                f"{shortened(self.rows[0].unwrapped)} more than once. Return a new one "
                "from every call."
            )

    def _answer(self, rows: list[tuple]) -> dict[str, np.ndarray]:
        obs, reward, terminated, truncated = zip(*rows, strict=True)
        return {
            "obs": np.asarray(obs, dtype=self._row_space.dtype),
            "reward": np.asarray(reward, dtype=np.float64),
            "terminated": np.asarray(terminated, dtype=np.int8),
            "truncated": np.asarray(truncated, dtype=np.int8),
        }
