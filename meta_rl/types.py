"""The vocabulary of the framework: shapes, values and the protocols the packages meet at.

Shapes, everywhere in the code and its docstrings:

    M  tasks in a meta-batch      B  episodes per task      T  time steps of an episode
    O  observation size           A  action size            K  inner (adaptation) steps
    N  ways (classes)             S  shots per class        P  parameters of one network

``theta`` are the meta-learned parameters, ``phi`` the adapted ones: every tensor of ``phi`` has a
leading M. ``support`` is data adapted on, ``query`` the data the outer loss is taken on.
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
"""Named tensors of one network, or with a leading M, of M networks."""

Value = float | int | str | None | tuple[float, ...]
"""A task parameter's value: a number, a word, True or False, None, or a vector of numbers."""

Task = Mapping[str, Value]
"""One member of a family as a plain value: parameter name to its value."""


class MetaParameters(NamedTuple):
    """Everything the outer loop learns."""

    theta: Params  # the network's initialization
    rule: Params  # the inner update rule's own parameters (step sizes); empty when they are fixed


class Distribution(Protocol):
    """A policy's output: a NamedTuple of tensors, so that it passes through ``torch.vmap``.

    ``*`` stands for any leading axes, such as ``(M, B, T)``.
    """

    def sample(self, generator: Generator) -> Tensor:
        """Actions ``(*, A)`` (float) or ``(*,)`` (discrete, int64)."""
        ...

    def mode(self) -> Tensor:
        """The most likely actions, shaped like those of :meth:`sample`."""
        ...

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-probability of each action, summed over action dimensions: ``(*,)``."""
        ...

    def entropy(self) -> Tensor:
        """Entropy in nats: ``(*,)``."""
        ...

    def kl(self, other: Any) -> Tensor:
        """KL(self || other) in nats: ``(*,)``."""
        ...

    def fisher(self, tangent: Any) -> Any:
        """The Fisher information of the distribution's own parameters times a tangent."""
        ...


class Policy(nn.Module):
    """A module from observations ``(*, O)`` to a :class:`Distribution` over its own actions."""

    def env_action(self, action: Tensor) -> Tensor:
        """The distribution's actions in the environment's units, inside its action space."""
        raise NotImplementedError


class Episodes(NamedTuple):
    """B episodes of each of M tasks, padded to the longest; padding has ``mask == 0``.

    Objectives see one task of it, without the leading M.
    """

    obs: Tensor  # (M, B, T, O)
    action: Tensor  # (M, B, T, A), or (M, B, T) for discrete actions
    reward: Tensor  # (M, B, T), 0 where masked
    mask: Tensor  # (M, B, T), 1.0 while the episode runs
    log_prob: Tensor  # (M, B, T), of the behaviour policy
    behaviour: Any  # Distribution of the behaviour policy, leaves (M, B, T, ...)
    advantage: Tensor  # (M, B, T), normalized per task, 0 where masked
    credit: Tensor  # (M, B), for the support data; see returns.credit


class Step(NamedTuple):
    """What one lockstep step of M x B rows returns; rows that have finished are to be ignored."""

    obs: Tensor  # (M, B, O)
    reward: Tensor  # (M, B)
    terminated: Tensor  # (M, B) bool: the task itself ended the episode
    truncated: Tensor  # (M, B) bool: the horizon ended it


class Trajectory(NamedTuple):
    """One episode, for looking at."""

    obs: np.ndarray  # (T, O)
    action: np.ndarray  # (T, A) or (T,), in the environment's units


class BatchedEnv(Protocol):
    """Steps M tasks x B episodes in lockstep; every row runs one episode per :meth:`reset`.

    Rows never reset by themselves. What a row returns after it terminated or was truncated is
    meaningless (but finite), and the caller masks it.
    """

    @property
    def occupies_cores(self) -> bool:
        """Whether it steps on threads or processes of its own."""
        ...

    def reset(self, tasks: Sequence[Task], seed: int) -> Tensor:
        """Start B fresh episodes of each of the M tasks; returns obs ``(M, B, O)``."""
        ...

    def step(self, action: Tensor) -> Step:
        """Apply ``(M, B, A)`` float or ``(M, B)`` int64 actions, in the action space's units."""
        ...

    def close(self) -> None:
        """Free what the environments hold; a second call does nothing."""
        ...


class TaskFamily(Protocol):
    """A distribution over tasks that share their observation and action spaces."""

    id: str
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    horizon: int  # steps after which an episode is truncated
    episodes_at_once: int | None  # B that a batched environment can have; None: any number
    held_out_split: str  # which tasks evaluation draws while training

    @property
    def held_out_splits(self) -> tuple[str, ...]:
        """The splits that the final test draws from."""
        ...

    @property
    def parameters(self) -> Mapping[str, str]:
        """What tasks differ in: name to range and unit, for people and for checkpoints."""
        ...

    def optimal_return(self, task: Task) -> float | None:
        """Return the best policy's expected return on a task; None where it is not known."""
        ...

    def sample_tasks(self, n: int, seed: int, split: str = "in-distribution") -> list[Task]:
        """Draw n tasks; the same seed gives the same tasks on every machine."""
        ...

    def check_task(self, task: Task) -> Task:
        """The task with its numbers normalized; InputError on an unknown or out-of-range one."""
        ...

    def make_env(self, task: Task, render_mode: str | None = None) -> gym.Env:
        """One standard Gymnasium environment of this task, with its time limit.

        Args:
            task: of the family.
            render_mode: Gymnasium's, such as ``rgb_array``; environments that have no pictures, and
                those of a person's own that exist already, stay as they are.
        """
        ...

    def picture(
        self, task: Task, before: Sequence[Trajectory], after: Sequence[Trajectory]
    ) -> Figure | None:
        """Episodes before and after adapting to the task, drawn; None where that shows nothing."""
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
        """A batched environment of ``num_tasks`` x ``episodes`` rows.

        Args:
            num_tasks: M.
            episodes: B.
            device: where observations and rewards are.
            dtype: theirs.
            workers: processes that step single environments; 0 for this process. Backends that
                need none ignore it.
        """
        ...
