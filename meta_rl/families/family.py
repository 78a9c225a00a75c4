"""What every family of environments shares: sampling, checking and batched stepping."""

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

    A subclass sets the attributes and writes :meth:`make_env`; all else follows. One whose dynamics
    are a few tensor operations also names its ``tensor_env``; one with a backend of its own
    overrides :meth:`make_vec`.
    """

    id: str
    source: str = ""  # paper and code that define it, for people
    horizon: int  # steps after which an episode is truncated
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    space: ParameterSpace
    tensor_env: type[TensorEnv] | None = None
    stochastic: bool = False  # whether steps draw random numbers, and not only resets
    episodes_at_once: int | None = None  # B that can run in lockstep; None: any number
    held_out_split: str = "in-distribution"  # which tasks evaluation draws
    worker_timeout: float = WORKER_TIMEOUT  # seconds that workers may take for one step or reset

    @property
    def summary(self) -> str:
        """One line for people: the docstring's first."""
        return (inspect.getdoc(type(self)) or self.id).splitlines()[0]

    @property
    def takes_workers(self) -> bool:
        """Whether it is stepped by single environments, which ``workers`` can share out."""
        return self.tensor_env is None

    @property
    def parameters(self) -> dict[str, str]:
        """What tasks differ in: name to range and unit."""
        return {p.name: f"{p.expected()} {p.unit}".strip() for p in self.space.parameters}

    def sample_tasks(self, n: int, seed: int, split: str = "in-distribution") -> list[Task]:
        """Draw n tasks; equal seeds give equal tasks on every machine.

        Raises:
            InputError: if the family declares no such split.
        """
        return self.space.sample(n, seed, split)

    def check_task(self, task: Mapping[str, Any]) -> Task:
        """The task with its values normalized.

        Raises:
            InputError: on an unknown, missing or impossible parameter.
        """
        return self.space.check(task)

    def read_task(self, task: Mapping[str, Any], kind: type[Kind]) -> Kind:
        """Return the task as a dataclass of yours, which type checkers know.

        Args:
            task: the task to read.
            kind: a dataclass with a field for each parameter.

        Raises:
            InputError: if the task does not fit, or the fields are named otherwise.
        """
        return as_dataclass(kind, self.check_task(task))

    @property
    def held_out_splits(self) -> tuple[str, ...]:
        """The splits that a final evaluation reports: the held-out one, and wider ranges if any."""
        wider = any(parameter.extrapolation for parameter in self.space.parameters)
        return tuple(dict.fromkeys([self.held_out_split, *(["extrapolation"] if wider else [])]))

    def optimal_return(self, task: Task) -> float | None:
        """Expected undiscounted return of the best policy that knows the task.

        None, as here, unless a family knows it exactly.
        """
        return None

    @abstractmethod
    def make_env(self, task: Task, render_mode: str | None = None) -> gym.Env:
        """One standard Gymnasium environment of this task, with its time limit.

        Args:
            task: of the family.
            render_mode: Gymnasium's; a family without pictures ignores it.
        """

    def picture(
        self, task: Task, before: Sequence[Trajectory], after: Sequence[Trajectory]
    ) -> Figure | None:
        """Episodes before and after adapting, drawn; None unless overridden."""
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
        """Lockstep stepping of ``num_tasks`` x ``episodes`` rows.

        By the tensor backend where the family has one, else by the general backend.
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
