"""The base class of environment families: sampling and checking tasks, batched stepping."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import torch

from meta_rl.families.general import WORKER_TIMEOUT, GymVec
from meta_rl.families.parameters import ParameterSpace
from meta_rl.families.tensor import TensorEnv
from meta_rl.families.typed import Kind, as_dataclass
from meta_rl.types import BatchedEnv, Task, Trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Family(ABC):
    """A distribution over environments with the same spaces.

    A subclass sets the attributes and writes :meth:`make_env`; all else follows. If its dynamics
    are a few tensor operations, it also sets ``tensor_env``. If it has a backend of its own, it
    overrides :meth:`make_vec`.
    """

    id: str
    source: str = ""  # the defining paper and code, for people
    horizon: int  # steps after which an episode is truncated
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    space: ParameterSpace
    tensor_env: type[TensorEnv] | None = None
    stochastic: bool = False  # whether steps draw random numbers, not only resets
    episodes_at_once: int | None = None  # the largest B in lockstep; None: any number
    held_out_split: str = "in-distribution"  # the split that evaluation draws from
    worker_timeout: float = WORKER_TIMEOUT  # seconds allowed to workers for a step or reset

    @property
    def summary(self) -> str:
        """Return one line for people: the first line of the docstring."""
        return (inspect.getdoc(type(self)) or self.id).splitlines()[0]

    @property
    def takes_workers(self) -> bool:
        """Return whether ``workers`` can divide the family's environments among processes."""
        return self.tensor_env is None

    @property
    def parameters(self) -> dict[str, str]:
        """Return the range and unit of each parameter, by name."""
        return {p.name: f"{p.expected()} {p.unit}".strip() for p in self.space.parameters}

    def sample_tasks(self, n: int, seed: int, split: str = "in-distribution") -> list[Task]:
        """Draw n tasks; equal seeds give equal tasks on every machine.

        Raises:
            InputError: if the family declares no such split.
        """
        return self.space.sample(n, seed, split)

    def check_task(self, task: Mapping[str, Any]) -> Task:
        """Return the task with its values normalized.

        Raises:
            InputError: if a parameter is unknown, missing or impossible.
        """
        return self.space.check(task)

    def read_task(self, task: Mapping[str, Any], kind: type[Kind]) -> Kind:
        """Return the task as an instance of your dataclass, so that type checkers know its fields.

        Args:
            task: the task to read.
            kind: a dataclass with a field for each parameter.

        Raises:
            InputError: if the task does not fit, or the fields' names differ from the parameters'.
        """
        return as_dataclass(kind, self.check_task(task))

    @property
    def held_out_splits(self) -> tuple[str, ...]:
        """Return the splits of a final evaluation: the held-out one, and extrapolation if any."""
        wider = any(parameter.extrapolation for parameter in self.space.parameters)
        return tuple(dict.fromkeys([self.held_out_split, *(["extrapolation"] if wider else [])]))

    def optimal_return(self, task: Task) -> float | None:
        """Return the expected undiscounted return of the best policy that knows the task.

        None, as here, unless a family knows it exactly.
        """
        return None

    @abstractmethod
    def make_env(self, task: Task, render_mode: str | None = None) -> gym.Env:
        """Return a standard Gymnasium environment of the task, with its time limit.

        Args:
            task: the task to make an environment of.
            render_mode: Gymnasium's render mode; a family that cannot render ignores it.
        """

    def picture(
        self, task: Task, before: Sequence[Trajectory], after: Sequence[Trajectory]
    ) -> Figure | None:
        """Draw episodes before and after adapting; None unless overridden."""
        return None

    def make_vec(
        self,
        num_tasks: int,
        episodes: int,
        *,
        device: torch.device | str,
        dtype: torch.dtype,
        workers: int = 0,
    ) -> BatchedEnv:
        """Return an environment that steps ``num_tasks`` x ``episodes`` rows in lockstep.

        It is the tensor backend if the family has one, else the general backend.
        """
        if self.tensor_env is None:
            return GymVec(
                self.make_env,
                num_tasks,
                episodes,
                device=device,
                dtype=dtype,
                workers=workers,
                timeout=self.worker_timeout,
            )
        return self.tensor_env(
            num_tasks, episodes, horizon=self.horizon, device=device, dtype=dtype
        )
