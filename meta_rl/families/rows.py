"""Step several single environments together, in this process or in a worker."""

from __future__ import annotations

import multiprocessing
import signal
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import batch_space

from meta_rl.errors import FOREIGN, InputError
from meta_rl.families.row import Row
from meta_rl.machine import console
from meta_rl.storage.reading import named, shortened
from meta_rl.types import Task


def made(make_env: Callable[[Task], gym.Env], task: Task) -> gym.Env:
    """Make a new environment of a task.

    Raises:
        InputError: if the environment cannot be made.
    """
    try:
        return make_env(task)
    except InputError:
        raise
    except FOREIGN as error:
        raise InputError(
            f"environment: cannot make one of task {dict(task)}: {named(error)}"
        ) from error


class Rows(gym.Env):
    """Several rows as one environment, so that a worker steps them all in one call.

    Its observation holds all that the rows return; its own episode never ends.
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
            # Ctrl-C reaches workers too, but the main process decides when they stop.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            console.install()
        self._make_env, self._start, self._count = make_env, start, count
        self._row_space = observation_space
        self.rows: list[Row] = []
        self._warned = False  # of success that is no flag
        flag = gym.spaces.MultiBinary(count)
        number = gym.spaces.Box(-np.inf, np.inf, (count,), np.float64)
        self.observation_space = gym.spaces.Dict(
            {
                "obs": batch_space(observation_space, count),
                "reward": number,
                "terminated": flag,
                "truncated": flag,
                "success": number,
            }
        )
        self.action_space = batch_space(action_space, count)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Start an episode in every row, with new environments if the tasks changed."""
        share = slice(self._start, self._start + self._count)
        assert options is not None
        if "tasks" in options:
            self._build(options["tasks"][share])
        seeds = options["seeds"][share]
        return self._answer([row.start(s) for row, s in zip(self.rows, seeds, strict=True)]), {}

    def step(self, action: Any) -> Any:
        """Step every row."""
        answers = [row.advance(a) for row, a in zip(self.rows, action, strict=True)]
        self._warn_of_no_flag()
        return self._answer(answers), 0.0, False, False, {}

    def close(self) -> None:
        """Close every row's environment."""
        for row in self.rows:
            row.close()

    def _build(self, tasks: list[Task]) -> None:
        self.close()
        self.rows = []
        self.rows = [Row(made(self._make_env, task), task) for task in tasks]
        if len({id(row.unwrapped) for row in self.rows}) < len(self.rows):
            raise InputError(
                f"environment: expected a new environment for each of {len(tasks)} rows, got "
                f"{shortened(self.rows[0].unwrapped)} more than once. Return a new one "
                "from every call."
            )

    def _warn_of_no_flag(self) -> None:
        got = next((row.no_flag for row in self.rows if row.no_flag), None)
        if got is not None and not self._warned:
            self._warned = True
            warnings.warn(
                f"environment: expected True or False (1 or 0), got {got}. It is not counted as "
                "success. Training goes on.",
                stacklevel=2,
            )

    def _answer(self, rows: list[tuple]) -> dict[str, np.ndarray]:
        obs, reward, terminated, truncated = zip(*rows, strict=True)
        return {
            "obs": np.asarray(obs, dtype=self._row_space.dtype),
            "reward": np.asarray(reward, dtype=np.float64),
            "terminated": np.asarray(terminated, dtype=np.int8),
            "truncated": np.asarray(truncated, dtype=np.int8),
            "success": np.asarray([row.success for row in self.rows]),
        }
