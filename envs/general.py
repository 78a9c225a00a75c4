"""The general backend: any ``gymnasium.Env``, stepped through ``gymnasium.vector``."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor

from envs.parameters import ParameterSpace
from meta_rl.errors import InputError
from meta_rl.types import Step, Task


class GymVec:
    """M tasks x B episodes of single environments, in this process, autoreset disabled.

    Environments are built when the tasks change. Rows that finished are reset and stepped on only
    because the vector environment steps all rows; the caller masks them.

    Args:
        make_env: a task to one environment with Box observations.
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
        """Start every row with a seed of its own; returns obs ``(M, B, O)``."""
        if list(tasks) != self._tasks:
            self.close()
            rows = [task for task in tasks for _ in range(self.rows[1])]
            self._vector = SyncVectorEnv(
                [lambda task=task: _Named(self._make_env(task), task) for task in rows],
                copy=False,
                autoreset_mode=AutoresetMode.DISABLED,
            )
            self._tasks = list(tasks)
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
        if finished.any():
            vector.reset(options={"reset_mask": finished})
        return result

    def close(self) -> None:
        """Close the single environments."""
        if self._vector is not None:
            self._vector.close()
            self._vector = None
        self._tasks = []

    def _open(self) -> SyncVectorEnv:
        if self._vector is None:
            raise InputError("environment: step() before reset(); call reset(tasks, seed) first.")
        return self._vector

    def _tensor(self, values: np.ndarray) -> Tensor:
        # torch.tensor copies: the vector environment writes into the same array at every step.
        tensor = torch.tensor(values, dtype=self._dtype, device=self._device)
        return tensor.reshape(*self.rows, *values.shape[1:], *([1] if values.ndim == 0 else []))


class GymFamily:
    """One environment as a family of a single task, ``{}``.

    Args:
        env: a registered id, a function that makes the environment, or an environment, of which
            every row gets a deep copy.
        kwargs: arguments for the constructor, with an id.
        horizon: steps after which an episode is truncated; the environment's own when None.

    Raises:
        InputError: if the id or the arguments are wrong, the spaces are not supported, the
            environment has no time limit and no horizon is given, or it cannot be copied.
    """

    space = ParameterSpace(())

    def __init__(
        self,
        env: str | gym.Env | Callable[[], gym.Env],
        kwargs: Mapping[str, Any] | None = None,
        horizon: int | None = None,
    ):
        self._make = _maker(env, dict(kwargs or {}))
        sample = self._make()
        spec = sample.spec
        self.id = spec.id if spec else type(sample.unwrapped).__name__
        limit = horizon or (spec.max_episode_steps if spec else None)
        if limit is None:
            raise InputError(
                f"environment: {self.id} has no time limit. Wrap it in "
                "gymnasium.wrappers.TimeLimit and register it so, or give GymFamily a horizon."
            )
        self._horizon_given = horizon
        self.horizon = int(limit)
        self.observation_space, self.action_space = sample.observation_space, sample.action_space
        sample.close()
        if not isinstance(self.observation_space, gym.spaces.Box):
            raise InputError(
                f"environment: expected Box observations, {self.id} has {self.observation_space}. "
                "Wrap it in gymnasium.wrappers.FlattenObservation."
            )

    def sample_tasks(self, n: int, seed: int) -> list[Task]:
        """N times the only task."""
        return [{} for _ in range(n)]

    def check_task(self, task: Task) -> Task:
        """The empty task; InputError on any parameter."""
        return self.space.check(task)

    def make_env(self, task: Task) -> gym.Env:
        """A new environment (or copy)."""
        self.check_task(task)
        env = self._make()
        if self._horizon_given is not None:
            return gym.wrappers.TimeLimit(env, self._horizon_given)
        return env

    def make_vec(
        self, num_tasks: int, episodes: int, *, device: torch.device | str, dtype: torch.dtype
    ) -> GymVec:
        """The general backend."""
        return GymVec(self.make_env, num_tasks, episodes, device=device, dtype=dtype)


class _Named(gym.Wrapper):
    """Says which task and step an environment failed at."""

    def __init__(self, env: gym.Env, task: Task):
        super().__init__(env)
        self._task, self._time, self._seed = task, 0, None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self._time, self._seed = 0, self._seed if seed is None else seed
        try:
            return self.env.reset(seed=seed, options=options)
        except Exception as error:
            raise self._named(error, "reset") from error

    def step(self, action: Any) -> Any:
        self._time += 1
        try:
            return self.env.step(action)
        except Exception as error:
            raise self._named(error, f"step {self._time}") from error

    def _named(self, error: Exception, when: str) -> InputError:
        return InputError(
            f"environment: {self.env.unwrapped} raised {type(error).__name__}: {error} at {when} "
            f"of task {dict(self._task)}, seed {self._seed}. Mend the environment."
        )


def _maker(env: Any, kwargs: dict[str, Any]) -> Callable[[], gym.Env]:
    """A function without arguments that gives a fresh environment."""
    if isinstance(env, str):
        return lambda: _make_registered(env, kwargs)
    if isinstance(env, gym.Env):
        return lambda: _copy(env)
    if callable(env):
        return env
    raise InputError(
        f"environment: expected a Gymnasium id, a gymnasium.Env or a function, got {env!r}."
    )


def _make_registered(env_id: str, kwargs: dict[str, Any]) -> gym.Env:
    try:
        return gym.make(env_id, disable_env_checker=True, **kwargs)
    except gym.error.Error as error:
        near = difflib.get_close_matches(env_id, gym.registry, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(f"environment: cannot make {env_id!r}: {error}{hint}") from error
    except (TypeError, ValueError, ImportError) as error:
        raise InputError(f"environment: cannot make {env_id!r} with {kwargs}: {error}") from error


def _copy(env: gym.Env) -> gym.Env:
    try:
        return copy.deepcopy(env)
    except Exception as error:
        raise InputError(
            f"environment: {env} cannot be copied ({type(error).__name__}: {error}). "
            "Give a function that makes it instead."
        ) from error
