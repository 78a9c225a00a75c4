"""A family whose observations tell the task: for an oracle, the upper bound of adapting."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Dict
from torch import Tensor

from meta_rl.errors import InputError
from meta_rl.families.choice import Choice
from meta_rl.families.distributions import ValueDistribution, values_to_try
from meta_rl.families.family import Family
from meta_rl.types import BatchedEnv, Step, Task, TaskFamily, Trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Writer = Callable[[Any], list[float]]
"""Writes one entry of a task's parameter as numbers."""


class Informed:
    """A family whose observations are Dicts of the plain observation and the task's numbers.

    Numbers are scaled so that the range of meta-training is [-1, 1]; of an unbounded distribution,
    the range between its quantiles 0.1 % and 99.9 %. A choice of words, truth values or None is
    one-hot, and all zeros for a value that only extrapolation has.

    Args:
        plain: the family.

    Raises:
        InputError: if the family's tasks have no parameters, or none that numbers can tell.
    """

    def __init__(self, plain: TaskFamily):
        if not isinstance(plain, Family) or not plain.space.parameters:
            raise InputError(
                "data.sees_task: expected a family with a space of task parameters, got "
                f"{plain.id}, which has none that the policy (--algorithm oracle) could see. "
                "Use another algorithm."
            )
        self.plain = plain
        self._writers = {p.name: _writer(p.name, p.distribution) for p in plain.space.parameters}
        size = len(self.told(plain.sample_tasks(1, 0)[0]))
        told = Box(-np.inf, np.inf, (size,), np.float32)
        self.id, self.observation_space = (
            plain.id,
            Dict({"observation": plain.observation_space, "task": told}),
        )
        self.action_space, self.episodes_at_once = plain.action_space, plain.episodes_at_once
        self.held_out_split = plain.held_out_split

    @property
    def horizon(self) -> int:
        """The steps after which an episode is truncated."""
        return self.plain.horizon

    @property
    def held_out_splits(self) -> tuple[str, ...]:
        """The splits that the final test draws from."""
        return self.plain.held_out_splits

    @property
    def parameters(self) -> Mapping[str, str]:
        """The range and unit of each parameter, by name."""
        return self.plain.parameters

    def told(self, task: Task) -> np.ndarray:
        """Return the numbers that tell a task, ``(P,)``."""
        numbers: list[float] = []
        for name, write in self._writers.items():
            value = task[name]
            for entry in value if isinstance(value, tuple) else (value,):
                numbers += write(entry)
        return np.array(numbers, np.float32)

    def optimal_return(self, task: Task) -> float | None:
        """Return the best policy's expected return on a task; None if unknown."""
        return self.plain.optimal_return(task)

    def sample_tasks(self, n: int, seed: int, split: str = "in-distribution") -> list[Task]:
        """Draw n tasks; the same as the plain family's."""
        return self.plain.sample_tasks(n, seed, split)

    def check_task(self, task: Mapping[str, Any]) -> Task:
        """Return the task with its values normalized; see the plain family."""
        return self.plain.check_task(task)

    def make_env(self, task: Task, render_mode: str | None = None) -> gym.Env:
        """Return an environment of the task whose observations tell it."""
        return _Telling(self.plain.make_env(task, render_mode), self.told(task), self)

    def picture(
        self, task: Task, before: Sequence[Trajectory], after: Sequence[Trajectory]
    ) -> Figure | None:
        """Draw episodes as the plain family does."""
        told = len(self.told(task))
        groups = [[t._replace(obs=t.obs[:, :-told]) for t in group] for group in (before, after)]
        return self.plain.picture(task, *groups)

    def make_vec(
        self,
        num_tasks: int,
        episodes: int,
        *,
        device: torch.device | str,
        dtype: torch.dtype,
        workers: int = 0,
    ) -> BatchedEnv:
        """Return the plain family's batched environment, whose observations tell the tasks."""
        env = self.plain.make_vec(num_tasks, episodes, device=device, dtype=dtype, workers=workers)
        return _TellingVec(env, self.told, device, dtype)


class _Telling(gym.ObservationWrapper):
    """Tells the task in each observation."""

    def __init__(self, env: gym.Env, told: np.ndarray, family: Informed):
        super().__init__(env)
        self.told, self.observation_space = told, family.observation_space

    def observation(self, observation: Any) -> dict[str, Any]:
        """Return the observation beside the task's numbers."""
        return {"observation": observation, "task": self.told}


class _TellingVec:
    """Tells every row its task in each observation.

    Args:
        env: the plain environment.
        told: returns the numbers that tell a task.
        device: device of the observations.
        dtype: floating-point type of the observations.
    """

    def __init__(
        self,
        env: BatchedEnv,
        told: Callable[[Task], np.ndarray],
        device: torch.device | str,
        dtype: torch.dtype,
    ):
        self.env, self._tell = env, told
        self._device, self._dtype = device, dtype

    @property
    def occupies_cores(self) -> bool:
        """Whether the environment steps on its own threads or processes."""
        return self.env.occupies_cores

    def reset(self, tasks: Sequence[Task], seed: int) -> Tensor:
        """Start new episodes; return observations ``(M, B, O + P)``."""
        told = torch.from_numpy(np.stack([self._tell(task) for task in tasks]))
        self._told = told.to(self._device, self._dtype)[:, None]  # (M, 1, P)
        return self._with_task(self.env.reset(tasks, seed))

    def step(self, action: Tensor) -> Step:
        """Apply the actions."""
        result = self.env.step(action)
        return result._replace(obs=self._with_task(result.obs))

    def close(self) -> None:
        """Close the plain environment."""
        self.env.close()

    def _with_task(self, obs: Tensor) -> Tensor:
        told = self._told.expand(-1, obs.shape[1], -1)
        return torch.cat([obs.to(self._dtype), told], -1)


def _writer(name: str, distribution: ValueDistribution) -> Writer:
    """Return the function that writes an entry of a parameter as numbers."""
    tried = values_to_try(distribution)
    if all(type(value) in (int, float) for value in tried):
        numbers: list[Any] = tried
        low, high = float(min(numbers)), float(max(numbers))
        half = (high - low) / 2 or 1.0
        return lambda entry: [(float(entry) - low) / half - 1.0 if high > low else 0.0]
    if isinstance(distribution, Choice):
        return lambda entry: [float(entry == value) for value in tried]
    raise InputError(
        f"data.sees_task: expected numbers or a Choice as values of the task parameter {name}, got "
        f"{distribution}, which the policy (--algorithm oracle) could not see."
    )
