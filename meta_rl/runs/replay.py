"""Prioritized sampling of tasks.

Jiang et al. 2021, "Prioritized Level Replay".
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from meta_rl.config import Config
from meta_rl.errors import InputError
from meta_rl.inner.adaptation import Adaptation
from meta_rl.inner.meta_batch import MetaBatch
from meta_rl.problem import Problem
from meta_rl.runs.sampling import TaskSampling
from meta_rl.storage import checkpoint
from meta_rl.types import Task

Origin = tuple[int, int]
"""The iteration that first drew a task, and the task's place in its meta-batch."""


class Kept(NamedTuple):
    """What is known of N tasks kept for replay."""

    origin: np.ndarray  # (N, 2), see Origin
    score: np.ndarray  # (N,), the learning potential when last played
    last: np.ndarray  # (N,), the iteration that last played it


class TaskReplay(TaskSampling):
    """Replays tasks that the policy can learn from, in place of some of the new ones.

        for each of the M tasks: new with probability 1 - replay, else one of those kept, by
            P = (1 - staleness) P_score + staleness P_age           see replay_probabilities
        score of each task played = mean |GAE| on its query data    problem.potential

    The score is the paper's value loss (L1): with a linear baseline, whose values are fitted to
    each task, it is what they leave unexplained. Supervised tasks have their loss as the score. A
    meta-batch holds a task at most once, so that a small temperature does not fill it with copies.
    The paper has a fixed set of levels; here tasks are drawn without end, and the ``capacity``
    with the largest P are kept.
    """

    def __init__(self, problem: Problem, config: Config):
        super().__init__(problem, config)
        self._kept = Kept(np.zeros((0, 2), np.int64), np.zeros(0), np.zeros(0, np.int64))
        self._tasks: dict[Origin, Task] = {}  # of what is kept; drawn again after a restart
        self._played: list[Origin] = []
        self._now = 0

    def draw(self, iteration: int) -> list[Task]:
        """Return M tasks, some of them replayed."""
        tasks, self._now = self.uniform(iteration), iteration
        generator = np.random.default_rng(self.seed(iteration))
        places = np.flatnonzero(generator.random(self.count) < self.config.data.replay)
        chosen = self._order(generator)[: len(places)]
        self._played = [(iteration, place) for place in range(self.count)]
        for place, row in zip(places, chosen, strict=False):  # fewer may be kept
            origin: Any = tuple(self._kept.origin[row].tolist())
            self._played[place] = origin
            tasks[place] = self._task(origin)
        self._tasks |= dict(zip(self._played, tasks, strict=True))
        return tasks

    def learn(self, batch: MetaBatch, adaptation: Adaptation) -> dict[str, float]:
        """Score the tasks played, and keep those most worth a replay."""
        score = batch.potentials(adaptation).double().cpu().numpy()
        score = np.where(np.isfinite(score), score, 0.0)  # a task that diverges teaches nothing
        played = Kept(np.array(self._played), score, np.full(self.count, self._now))
        again = {origin for origin in self._played if origin[0] < self._now}
        origins = [tuple(origin) for origin in self._kept.origin.tolist()]
        others = _rows(self._kept, np.array([origin not in again for origin in origins], bool))
        self._keep(Kept(*map(np.concatenate, zip(others, played, strict=True))))
        chance = self._probabilities(self._now + 1)
        return {
            "sampling/mean_score": float(self._kept.score.mean()),
            "sampling/effective_tasks": float(1 / (chance**2).sum()),
            "sampling/replayed": len(again) / self.count,
        }

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tasks kept, as named tensors."""
        return {name: torch.from_numpy(v.copy()) for name, v in self._kept._asdict().items()}

    def load_state_dict(self, state: dict[str, Tensor], iteration: int) -> None:
        """Restore the result of :meth:`state_dict`."""
        count = len(state.get("score", ()))
        own = {name: v.new_zeros(count, *v.shape[1:]) for name, v in self.state_dict().items()}
        checkpoint.match_tensors(own, state)
        checkpoint.require_finite(state)
        (first, place), last = state["origin"].T, state["last"]
        drawn = (first >= 0) & (place >= 0) & (place < self.count)
        drawn &= (first <= last) & (last < iteration)
        if not bool(drawn.all()) or len(state["origin"].unique(dim=0)) < count:
            raise InputError("checkpoint: expected tasks to replay that the run has drawn.")
        self._kept = Kept(**{name: state[name].clone().numpy() for name in Kept._fields})
        self._tasks, self._played = {}, []

    def _order(self, generator: np.random.Generator) -> np.ndarray:
        """Return all tasks kept, drawn one after another without replacement: Gumbel's method."""
        noise = generator.gumbel(size=len(self._kept.score))
        with np.errstate(divide="ignore"):
            return np.argsort(-np.log(self._probabilities(self._now)) - noise, kind="stable")

    def _probabilities(self, now: int) -> np.ndarray:
        data, kept = self.config.data, self._kept
        return replay_probabilities(kept.score, kept.last, now, data.temperature, data.staleness)

    def _keep(self, kept: Kept) -> None:
        """Keep the tasks with the largest probability of a replay, in the order of ``kept``."""
        self._kept = kept
        chances = self._probabilities(int(kept.last.max()) + 1)
        best = np.argsort(-chances, kind="stable")[: self.config.data.capacity]
        self._kept = _rows(kept, np.sort(best))
        origins: Any = map(tuple, self._kept.origin.tolist())
        self._tasks = {origin: self._task(origin) for origin in origins}

    def _task(self, origin: Origin) -> Task:
        if origin not in self._tasks:
            iteration, place = origin
            return self.uniform(iteration)[place]
        return self._tasks[origin]


def replay_probabilities(
    score: np.ndarray, last: np.ndarray, now: int, temperature: float, staleness: float
) -> np.ndarray:
    """Return the probability that each task is the next to be replayed, ``(N,)``.

    Jiang et al. 2021, equations 1 to 4: ``P = (1 - rho) P_S + rho P_C``, with
    ``P_S ~ rank(score)^(-1 / beta)``, where the highest score has rank 1, and ``P_C ~ now - last``.

    Args:
        score: each task's score.
        last: when each task was last played.
        now: the time of the replay, after all of ``last``.
        temperature: beta.
        staleness: rho.
    """
    rank = np.empty(len(score))
    rank[np.argsort(-score, kind="stable")] = np.arange(1, len(score) + 1)
    by_score, by_age = rank ** (-1 / temperature), (now - last).astype(float)
    return (1 - staleness) * _normalized(by_score) + staleness * _normalized(by_age)


def _normalized(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum() if len(weights) else weights


def _rows(kept: Kept, rows: np.ndarray) -> Kept:
    return Kept(*(value[rows] for value in kept))
