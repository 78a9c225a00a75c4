"""Choose the tasks of each iteration."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from meta_rl import seeds
from meta_rl.config import Config
from meta_rl.inner.adaptation import Adaptation
from meta_rl.inner.meta_batch import MetaBatch
from meta_rl.problem import Problem
from meta_rl.storage import checkpoint
from meta_rl.types import Task


class TaskSampling(ABC):
    """Chooses the tasks of each iteration, and learns from how they went.

    All processes choose the same tasks.

    Args:
        problem: the problem, which draws tasks of the family's distribution.
        config: the run's settings.
    """

    learns = True
    """Whether :meth:`learn` needs the scores of every iteration."""

    def __init__(self, problem: Problem, config: Config):
        self.problem, self.config, self.count = problem, config, config.data.tasks

    @abstractmethod
    def draw(self, iteration: int) -> Sequence[Task]:
        """Return the M tasks of an iteration. What this object keeps does not change."""

    @abstractmethod
    def learn(self, batch: MetaBatch, adaptation: Adaptation) -> dict[str, float]:
        """Learn from the iteration of the last :meth:`draw`, and return metrics.

        Args:
            batch: the iteration's meta-batch.
            adaptation: the adaptation to its tasks, with scores.
        """

    def uniform(self, iteration: int) -> list[Task]:
        """Draw M tasks of the family's distribution."""
        seed = seeds.derive(self.config.seed, seeds.TASKS, iteration)
        return self.problem.sample_tasks(self.count, seed)

    def seed(self, iteration: int) -> int:
        """Return the seed of an iteration's choices."""
        return seeds.derive(self.config.seed, seeds.SAMPLING, iteration)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state kept between iterations, as named tensors; none unless overridden."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor], iteration: int) -> None:
        """Restore the result of :meth:`state_dict`.

        Args:
            state: the named tensors.
            iteration: the number of iterations when they were kept.

        Raises:
            InputError: if the state belongs to other settings.
        """
        checkpoint.match_tensors({}, state)


class UniformTasks(TaskSampling):
    """Draws the tasks of every iteration from the family's distribution.

    With compiled programs, examples are drawn for a hundred iterations at once, with one seed: then
    drawing takes less time than learning.
    """

    learns = False

    def __init__(self, problem: Problem, config: Config):
        super().__init__(problem, config)
        compiled = config.speed.program == "compiled"
        self._ahead: Any = problem if compiled and hasattr(problem, "draw_ahead") else None
        self._together = self._ahead.ahead(self.count) if self._ahead else 0
        self._number, self._drawn = -1, []

    def draw(self, iteration: int) -> Sequence[Task]:
        """Return M tasks of the family's distribution."""
        if not self._together:
            return self.uniform(iteration)
        number, place = divmod(iteration, self._together)
        if self._number != number:
            seed = seeds.derive(self.config.seed, seeds.TASKS, number)
            self._drawn = self._ahead.draw_ahead(self._together, self.count, seed)
            self._number = number
        return self._drawn[place]

    def learn(self, batch: MetaBatch, adaptation: Adaptation) -> dict[str, float]:
        """Return no metrics: nothing is learned."""
        return {}
