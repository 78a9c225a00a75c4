"""The framework's shapes, values, and the protocols between its packages.

Shapes, everywhere in the code and its docstrings:

    M  tasks in a meta-batch      B  episodes per task      T  time steps of an episode
    O  observation size           A  action size            K  inner (adaptation) steps
    N  ways (classes)             S  shots per class        P  parameters of one network

``theta`` are the meta-learned parameters, ``phi`` the adapted parameters: every tensor of ``phi``
has a leading M. ``support`` is the data to adapt on, ``query`` the data of the outer loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
import torch
from torch import Generator, Tensor, nn

from meta_rl.errors import InputError as InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Params = dict[str, Tensor]
"""Named tensors of one network, or of M networks with a leading M."""

Value = float | int | str | None | tuple[float, ...]
"""A task parameter's value: a number, a word, True or False, None, or a vector of numbers."""

Task = Mapping[str, Value]
"""One task of a family: parameter name to value."""


class MetaParameters(NamedTuple):
    """Everything that the outer loop learns."""

    theta: Params  # the network's initialization
    rule: Params  # the inner update rule's learned tensors (step sizes); empty if none is learned


class Distribution(Protocol):
    """A policy's output: a NamedTuple of tensors, so that it passes through ``torch.vmap``.

    ``*`` stands for any leading axes, such as ``(M, B, T)``.
    """

    def sample(self, generator: Generator) -> Tensor:
        """Sample actions ``(*, A)`` (float) or ``(*,)`` (discrete, int64)."""
        ...

    def mode(self) -> Tensor:
        """Return the most likely actions, shaped like those of :meth:`sample`."""
        ...

    def log_prob(self, action: Tensor) -> Tensor:
        """Return each action's log-probability, summed over action dimensions: ``(*,)``."""
        ...

    def entropy(self) -> Tensor:
        """Return the entropy in nats: ``(*,)``."""
        ...

    def kl(self, other: Any) -> Tensor:
        """Return KL(self || other) in nats: ``(*,)``."""
        ...

    def fisher(self, tangent: Any) -> Any:
        """Return the Fisher information of the distribution's parameters times a tangent."""
        ...


class Policy(nn.Module):
    """A module from observations ``(*, O)`` to a :class:`Distribution` over actions."""

    def env_action(self, action: Tensor) -> Tensor:
        """Return the actions in the environment's units, inside its action space."""
        raise NotImplementedError


class Episodes(NamedTuple):
    """B episodes of each of M tasks, padded to the longest; padding has ``mask == 0``.

    Losses see the episodes of one task, without the leading M.
    """

    obs: Tensor  # (M, B, T, O)
    action: Tensor  # (M, B, T, A), or (M, B, T) for discrete actions
    reward: Tensor  # (M, B, T), 0 where masked
    mask: Tensor  # (M, B, T), 1.0 while the episode runs
    log_prob: Tensor  # (M, B, T), under the behaviour policy
    behaviour: Any  # Distribution of the behaviour policy, leaves (M, B, T, ...)
    advantage: Tensor  # (M, B, T), normalized per task, 0 where masked
    credit: Tensor  # (M, B), see returns.credit
    success: Tensor  # (M, B), see problems.success


class Step(NamedTuple):
    """The result of one lockstep step of M x B rows; ignore rows that have finished."""

    obs: Tensor  # (M, B, O)
    reward: Tensor  # (M, B)
    terminated: Tensor  # (M, B) bool: the task itself ended the episode
    truncated: Tensor  # (M, B) bool: the horizon ended it
    success: Tensor | None = None  # (M, B): 1, 0 or NaN (not told); None if no row tells it


class Trajectory(NamedTuple):
    """One episode, for pictures."""

    obs: np.ndarray  # (T, O)
    action: np.ndarray  # (T, A) or (T,), in the environment's units


class BatchedEnv(Protocol):
    """Steps M tasks x B episodes in lockstep; every row runs one episode per :meth:`reset`.

    Rows never reset by themselves. After a row terminated or was truncated, its results are
    meaningless (but finite), and the caller masks them.
    """

    @property
    def occupies_cores(self) -> bool:
        """Whether the environment steps on its own threads or processes."""
        ...

    def reset(self, tasks: Sequence[Task], seed: int) -> Tensor:
        """Start B new episodes of each of the M tasks and return obs ``(M, B, O)``."""
        ...

    def step(self, action: Tensor) -> Step:
        """Apply ``(M, B, A)`` float or ``(M, B)`` int64 actions, in the action space's units."""
        ...

    def close(self) -> None:
        """Close the environments; a second call does nothing."""
        ...


class TaskSpace(Protocol):
    """The parameters that tasks differ in, which are drawn independently."""

    @property
    def entries(self) -> int:
        """The number of entries of all parameters."""
        ...

    def at(self, quantiles: Sequence[Sequence[float]]) -> list[Task]:
        """Return the tasks at quantiles in [0, 1), one row of all entries for each task."""
        ...

    def sample(self, n: int, seed: int) -> list[Task]:
        """Draw n tasks: those at uniform quantiles."""
        ...


class TaskFamily(Protocol):
    """A distribution over tasks that share their observation and action spaces."""

    id: str
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    horizon: int  # steps after which an episode is truncated
    episodes_at_once: int | None  # largest B of a batched environment; None: any number
    held_out_split: str  # split for evaluation while training

    @property
    def held_out_splits(self) -> tuple[str, ...]:
        """The splits that the final test draws from."""
        ...

    @property
    def parameters(self) -> Mapping[str, str]:
        """The parameters that tasks differ in: name to range and unit, as text."""
        ...

    def optimal_return(self, task: Task) -> float | None:
        """Return the best policy's expected return on a task; None if unknown."""
        ...

    def sample_tasks(self, n: int, seed: int, split: str = "in-distribution") -> list[Task]:
        """Draw n tasks; the same seed gives the same tasks on every machine."""
        ...

    def check_task(self, task: Task) -> Task:
        """Return the task with its numbers normalized.

        Raises:
            InputError: if the task is unknown or out of range.
        """
        ...

    def make_env(self, task: Task, render_mode: str | None = None) -> gym.Env:
        """Return a standard Gymnasium environment of the task, with its time limit.

        Args:
            task: the family's task to make.
            render_mode: Gymnasium's render mode, such as ``rgb_array``. It has no effect on
                environments without pictures and on a user's existing environment object.
        """
        ...

    def picture(
        self, task: Task, before: Sequence[Trajectory], after: Sequence[Trajectory]
    ) -> Figure | None:
        """Draw episodes before and after adaptation; return None if there is nothing to see."""
        ...

    def make_vec(
        self,
        num_tasks: int,
        episodes: int,
        *,
        device: torch.device | str,
        dtype: torch.dtype,
        workers: int = 0,
    ) -> BatchedEnv:
        """Return a batched environment of ``num_tasks`` x ``episodes`` rows.

        Args:
            num_tasks: M tasks.
            episodes: B episodes per task.
            device: device of observations and rewards.
            dtype: floating-point type of observations and rewards.
            workers: processes that step single environments; 0 for this process. Backends without
                single environments ignore it.
        """
        ...
