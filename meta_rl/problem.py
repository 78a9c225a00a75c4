"""The protocol of a problem, in three parts.

A :class:`TaskSource` draws tasks and collects their data. :class:`Losses` has the losses and the
score of one task. :class:`Deployment` makes models of adapted parameters. A :class:`Problem` is all
three. Members with a body are optional.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor

from meta_rl.errors import InputError
from meta_rl.types import Params, Task, TaskFamily, TaskSpace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from meta_rl.animation import Animation

Kind = Literal["episodes", "regression", "classification"]
"""The kind of a task's data: episodes, or examples labelled with numbers or classes."""


class TaskSource(Protocol):
    """Draws tasks and collects their data."""

    @property
    def device(self) -> torch.device:
        """The device of the collected data."""
        ...

    @property
    def evaluated_at_once(self) -> int | None:
        """The number of tasks to evaluate at once, which bounds memory; None for all."""
        return None

    @property
    def environments(self) -> TaskFamily | None:
        """The family of environments; None if the tasks have no environments."""
        return None

    @property
    def task_space(self) -> TaskSpace | None:
        """The parameters that tasks are drawn from; None if they are drawn in another way."""
        return None

    @property
    def held_out_splits(self) -> tuple[str, ...]:
        """The splits of tasks that the final test draws from."""
        ...

    def sample_tasks(self, n: int, seed: int, split: str | None = None) -> list[Task]:
        """Draw n tasks of a split; tasks to train on when None."""
        ...

    def held_out_tasks(self, n: int, seed: int, final: bool = False) -> list[Task]:
        """Draw n tasks for evaluation while training, or for the final test."""
        ...

    def check_tasks(self, tasks: Iterable[Task]) -> list[Task]:
        """Return the tasks with each value as the family writes it.

        Raises:
            InputError: if a task does not fit the family.
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
            batches: this meta-batch's earlier batches, one per inner step.
            adapted: returns phi after ``len(batches)`` inner steps; call it if data depend on phi.
            seed: the meta-batch's seed.
            query: whether to collect the query batch, for the outer loss.
        """
        ...

    def ahead(self, tasks: int) -> int:
        """Return for how many iterations :meth:`draw_ahead` may draw; 0 if data depend on phi.

        Args:
            tasks: the number of tasks of an iteration.
        """
        return 0

    def draw_ahead(self, iterations: int, tasks: int, seed: int) -> list[Sequence[Task]]:
        """Draw the tasks of several iterations together, with their data.

        Returns:
            The tasks of each iteration, for :meth:`collect`, which then ignores its seed.
        """
        return [self.sample_tasks(tasks, seed) for _ in range(iterations)]

    def probe(
        self, tasks: Sequence[Task], batches: Sequence[Any], candidates: Params, seed: int
    ) -> tuple[Tensor, Any, int]:
        """Evaluate R candidates on every task, for adaptation without gradients.

        Args:
            tasks: M tasks.
            batches: this meta-batch's earlier batches, one per inner step.
            candidates: R candidates' parameters for each task, tensors ``(M, R, ...)``.
            seed: the meta-batch's seed.

        Returns:
            Fitness ``(M, R)``, higher is better; the support batch of each task's first candidate,
            leaves ``(M, ...)``; and the number of samples spent beyond that batch.

        Raises:
            InputError: if the problem does not support adaptation without gradients.
        """
        raise InputError(
            f"inner.method: expected 'gradient', since {type(self).__name__} has no method probe. "
            "Give it one, or adapt by gradient."
        )

    def learn(self, blocks: Sequence[tuple[int, Sequence[Any]]]) -> None:
        """Learn what the problem itself keeps, such as a value network, from an iteration's data.

        Called once an iteration, after the outer step; never to adapt or evaluate.

        Args:
            blocks: the seed and the batches (K supports and the query) of each block of tasks that
                this process holds; of one member, if the outer step has a population.
        """
        return

    def learned(self) -> Params:
        """Return the tensors that :meth:`learn` changes in place, for checkpoints.

        Those of the policy or network itself, such as running statistics, are not among them.
        """
        return {}

    def samples(self, batches: Sequence[Any]) -> int:
        """Return the environment steps or examples of the batches."""
        ...

    def resized(self, episodes: int | None) -> Problem:
        """Return the problem with another number of episodes (or shots) per inner step.

        The new problem has its own environments; close both. None keeps the number.
        """
        ...

    def close(self) -> None:
        """Free resources such as environments."""
        return


class Losses(Protocol):
    """Has the initial parameters, and one task's losses and score."""

    @property
    def kind(self) -> Kind:
        """The kind of a task's data."""
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
        """One task's loss ``(phi_k, support_k, query)`` for how it sampled support_k, or None."""
        return None

    def initial_parameters(self) -> Params:
        """Return theta at the start of meta-training."""
        ...

    def made_up_batch(self, params: Params) -> Any:
        """Return a small batch of zeros for two tasks, to check a network; leaves ``(2, ...)``.

        Args:
            params: two tasks' parameters, tensors ``(2, ...)``.
        """
        ...

    def inner_loss(self, params: Params, batch: Any) -> Tensor:
        """Return one task's inner loss on its support batch."""
        ...

    def loss(self, params: Params, batch: Any) -> Tensor:
        """Return one task's outer loss on its query batch."""
        ...

    def score(self, batches: Sequence[Any], k: int, adapted: Callable[[], Params]) -> Tensor:
        """Return each task's score after k inner steps: ``(M,)``.

        Args:
            batches: K support batches and the query batch.
            k: number of inner steps.
            adapted: returns phi after k inner steps.
        """
        ...

    def potential(self, query: Any, scores: Tensor) -> Tensor:
        """Return each task's learning potential ``(M,)``, by which prioritized sampling ranks it.

        Args:
            query: the query batch.
            scores: each task's score on it, ``(M,)``.
        """
        return -scores if self.maximizes else scores

    def success(self, batches: Sequence[Any], k: int) -> Tensor | None:
        """Return each task's success rate after k inner steps ``(M,)``: NaN where it is not told.

        None if the problem has no notion of success.

        Args:
            batches: K support batches and the query batch.
            k: number of inner steps.
        """
        return None

    def statistics(self, batch: Any) -> dict[str, Tensor | float]:
        """Return metrics of the query batch, by their TensorBoard tags."""
        return {}


class Deployment(Protocol):
    """Makes models and pictures of adapted parameters."""

    def variant(self, variant: Any) -> tuple[Problem, Task]:
        """Return the problem (on the variant's environment, if it is one) and the task to adapt to.

        Args:
            variant: a task of the family, or an environment or family with the same spaces.

        Raises:
            InputError: if the variant does not fit.
        """
        ...

    def deploy(self, params: Params, scores: tuple[float, ...], manifest: dict[str, Any]) -> Any:
        """Return a model with ``predict`` and ``save`` from one task's adapted parameters."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return the family and the spaces or shapes that a model depends on, as JSON values."""
        ...

    def pictures(
        self, task: Task, batches: Sequence[Any], path: Sequence[Params]
    ) -> dict[str, Figure | Animation]:
        """Return pictures of the adaptation to one task by name; empty if there are none.

        Args:
            task: the task adapted to.
            batches: the task's K supports and its query, leaves ``(1, ...)``.
            path: phi after 0..K inner steps, tensors ``(1, ...)``.
        """
        return {}


class Problem(TaskSource, Losses, Deployment, Protocol):
    """Everything that meta-learning needs from a problem."""
