"""What a learner asks of a problem, split by who asks.

A :class:`TaskSource` has tasks and collects their data, :class:`Losses` are taken on them, and
:class:`Deployment` makes a model of what was adapted. A :class:`Problem` is all three. The members
that have a body are optional.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor

from meta_rl.errors import InputError
from meta_rl.types import Params, Task, TaskFamily

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from meta_rl.animation import Animation

Kind = Literal["episodes", "regression", "classification"]
"""What a task's data are: episodes with rewards, or examples labelled with numbers or classes."""


class TaskSource(Protocol):
    """Where tasks come from, and each task's data."""

    @property
    def device(self) -> torch.device:
        """The device of everything collected."""
        ...

    @property
    def evaluated_at_once(self) -> int | None:
        """The number of tasks that fit into memory when nothing is learned; None: any."""
        return None

    @property
    def environments(self) -> TaskFamily | None:
        """The family of environments; None for tasks that have none."""
        return None

    @property
    def held_out_splits(self) -> tuple[str, ...]:
        """The splits of tasks that the final test draws from."""
        ...

    def sample_tasks(self, n: int, seed: int, split: str | None = None) -> list[Task]:
        """Draw n tasks to train on, or of another split."""
        ...

    def held_out_tasks(self, n: int, seed: int, final: bool = False) -> list[Task]:
        """Draw n tasks to evaluate on while training, or for the test at its end."""
        ...

    def check_tasks(self, tasks: Iterable[Task]) -> list[Task]:
        """Return the tasks with their values normalized.

        Raises:
            InputError: if one does not fit the family.
        """
        ...

    def collect(
        self,
        tasks: Sequence[Task],
        batches: Sequence[Any],
        adapted: Callable[[], Params],
        seed: int,
        query: bool,
    ) -> Any:
        """Collect the next batch of every task, leaves ``(M, ...)``.

        Args:
            tasks: M tasks.
            batches: the batches collected before in this meta-batch, one per inner step.
            adapted: returns phi after ``len(batches)`` steps; call it if the data depend on it.
            seed: the meta-batch's seed.
            query: whether this is the batch for the outer loss.
        """
        ...

    def probe(
        self, tasks: Sequence[Task], batches: Sequence[Any], candidates: Params, seed: int
    ) -> tuple[Tensor, Any, int]:
        """Try R parameters on every task, for adapting without gradients.

        Args:
            tasks: M tasks.
            batches: the batches collected before in this meta-batch, one per inner step.
            candidates: tensors ``(M, R, ...)``.
            seed: the meta-batch's seed.

        Returns:
            Fitness ``(M, R)``, higher is better; the support batch of each task's first candidate,
            leaves ``(M, ...)``; and how many samples were spent beyond that batch.

        Raises:
            InputError: if the problem cannot be adapted to without gradients.
        """
        raise InputError(
            f"inner.method: expected 'gradient', since {type(self).__name__} has no method probe. "
            "Give it one, or adapt by gradient."
        )

    def samples(self, batches: Sequence[Any]) -> int:
        """Count the environment steps or examples that these batches cost."""
        ...

    def resized(self, episodes: int | None) -> Problem:
        """Return the problem with another number of episodes (or shots) per inner step.

        It has environments of its own; close both. With None it is as it was.
        """
        ...

    def close(self) -> None:
        """Free what is held."""
        return


class Losses(Protocol):
    """What is learned: parameters, the losses of one task, and its score."""

    @property
    def kind(self) -> Kind:
        """What a task's data are."""
        ...

    @property
    def score_name(self) -> str:
        """The score's name in logs and tables, such as ``return``."""
        ...

    @property
    def maximizes(self) -> bool:
        """Whether a higher score is better."""
        ...

    @property
    def exploration_loss(self) -> Callable[[Params, Any, Any], Tensor] | None:
        """The loss ``(phi_k, support_k, query)`` of how one task's support was sampled, or None."""
        return None

    def initial_parameters(self) -> Params:
        """Return theta as it is at the start of meta-training."""
        ...

    def made_up_batch(self, params: Params) -> Any:
        """Return a small batch of two tasks, of zeros, to try a network on; leaves ``(2, ...)``.

        Args:
            params: two tasks' parameters, tensors ``(2, ...)``.
        """
        ...

    def inner_loss(self, params: Params, batch: Any) -> Tensor:
        """Return the loss that one task's inner step descends, on its support batch."""
        ...

    def loss(self, params: Params, batch: Any) -> Tensor:
        """Return the outer loss of one task's parameters on its query batch."""
        ...

    def score(self, batches: Sequence[Any], k: int, adapted: Callable[[], Params]) -> Tensor:
        """Return how good each task is after k inner steps: ``(M,)``.

        Args:
            batches: K support batches and the query batch.
            k: inner steps.
            adapted: returns phi after k inner steps.
        """
        ...

    def statistics(self, batch: Any) -> dict[str, Tensor | float]:
        """Return numbers worth watching about the query batch, by their name in TensorBoard."""
        return {}


class Deployment(Protocol):
    """What becomes of an adapted policy or network."""

    def variant(self, variant: Any) -> tuple[Problem, Task]:
        """Return the problem on another environment, or as it is, and the task meant there.

        Args:
            variant: a task of the family, or an environment or family with the same spaces.

        Raises:
            InputError: if the variant does not fit.
        """
        ...

    def deploy(self, params: Params, scores: tuple[float, ...], manifest: dict[str, Any]) -> Any:
        """Make a model with ``predict`` and ``save`` of one task's adapted parameters."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what a policy depends on, as JSON values: family and spaces."""
        ...

    def pictures(
        self, task: Task, batches: Sequence[Any], path: Sequence[Params]
    ) -> dict[str, Figure | Animation]:
        """Draw what adapting does to one task; pictures by name, or none.

        Args:
            task: the task.
            batches: its K supports and its query, leaves ``(1, ...)``.
            path: its phi after 0..K inner steps, tensors ``(1, ...)``.
        """
        return {}


class Problem(TaskSource, Losses, Deployment, Protocol):
    """Everything that meta-learning needs to know of what is learned."""
