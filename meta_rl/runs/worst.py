"""Sampling of the worst tasks by the cross-entropy method.

Greenberg et al. 2023, "Train Hard, Fight Easy: Robust Meta Reinforcement Learning" (RoML).
"""

from __future__ import annotations

import math
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
from meta_rl.statistics import tail_mean
from meta_rl.storage import checkpoint
from meta_rl.types import Task, TaskSpace

ORIGINAL = 0.2
"""Fraction of a meta-batch that is always drawn uniformly (the paper's nu), rounded up to whole
tasks."""
ELITES = 0.2
"""Least fraction of a meta-batch that counts as its worst tasks (the paper's beta)."""
FEWEST, MOST = 10, 40
"""Numbers of the last elites that the distribution is fitted to; it is uniform before."""
KEPT = 0.5
"""Part of its old shape that the distribution keeps at each step."""
LIMIT = 20
"""Most entries of a task that can be fitted to so few tasks."""
EDGE, SHARPEST = 2.0**-40, 1e3  # of quantiles, and of the distribution's shape


class Elites(NamedTuple):
    """N tasks with low scores."""

    quantiles: np.ndarray  # (N, D), of each entry in the family's distribution
    weight: np.ndarray  # (N,), density of the family's distribution over that of sampling


class WorstTasks(TaskSampling):
    """Oversamples the tasks with the lowest scores, which raises the mean over the worst ones.

        a task is its D quantiles in [0, 1), where the family's distribution is uniform
        M tasks ~ nu Uniform + (1 - nu) prod_d Beta(a_d, b_d)
        w = 1 / (nu + (1 - nu) prod_d Beta(a_d, b_d)(quantile_d))    of each task
        q = the score that a fraction ``tail`` of the weight w is below
        elites = the tasks with scores below q, and at least ELITES of them
        (a_d, b_d) <- halfway to the Beta with the last elites' weighted mean and variance

    The outer step sees the tasks as they were drawn: weights would undo the oversampling. The paper
    weights uniform and other tasks apart; the weights of the mixture have the same expectation and
    never exceed 1 / nu. Its family of distributions has the mean alone as a parameter; with the
    variance, a Beta can also have both ends of a range at once. The paper compares tasks of several
    iterations; here each meta-batch has its own q, since scores rise while the policy learns.

    Raises:
        InputError: if the family's tasks are not drawn from independent parameters, or have too
            many entries, or there is only one task in a meta-batch.
    """

    def __init__(self, problem: Problem, config: Config):
        super().__init__(problem, config)
        self.space = _space(problem, config.family)
        entries = self.space.entries
        self.shape = np.ones((2, entries))  # a and b of each entry
        self._elites = Elites(np.zeros((0, entries)), np.zeros(0))
        self._drawn = np.zeros((0, entries))
        self._uniform = math.ceil(ORIGINAL * self.count)  # tasks of a meta-batch
        if self._uniform == self.count:
            raise InputError(
                f"data.tasks: expected 2 or more with --data.sampling worst, got {self.count}. One "
                "task of each iteration is drawn uniformly, so there would be no other."
            )

    def draw(self, iteration: int) -> list[Task]:
        """Return M tasks: some uniform, the others from the fitted distribution."""
        generator = np.random.default_rng(self.seed(iteration))
        size = self.count, self.space.entries
        drawn = generator.random(size)
        drawn[self._uniform :] = generator.beta(*self.shape, size=size)[self._uniform :]
        self._drawn = drawn.clip(EDGE, 1 - EDGE)
        return self.problem.check_tasks(self.space.at(self._drawn.tolist()))

    def learn(self, batch: MetaBatch, adaptation: Adaptation) -> dict[str, float]:
        """Move the distribution towards the tasks with the lowest scores."""
        scores: Any = adaptation.scores
        found = scores[-1].double().cpu().numpy()
        score = found if self.problem.maximizes else -found
        finite = np.isfinite(score)
        score = np.where(finite, score, score[finite].min(initial=0.0))  # diverged: among the worst
        uniform = self._uniform / self.count  # nu, rounded up to whole tasks
        weight = 1 / (uniform + (1 - uniform) * density(self._drawn, self.shape))
        self.observe(self._drawn, score, weight)
        sign = 1 if self.problem.maximizes else -1
        tail = tail_mean(score, weight, self.config.data.tail)
        return {
            "sampling/mean_score": sign * float((weight * score).sum() / weight.sum()),
            "sampling/tail_score": sign * tail,
            "sampling/effective_tasks": float(weight.sum() ** 2 / (weight**2).sum()),
        }

    def observe(self, quantiles: np.ndarray, score: np.ndarray, weight: np.ndarray) -> None:
        """Fit the distribution to the worst tasks of a meta-batch and of those before.

        Args:
            quantiles: the tasks, ``(M, D)``.
            score: their scores, ``(M,)``, higher is better.
            weight: density of the family's distribution over that of sampling, ``(M,)``.
        """
        worst = elites(score, weight, self.config.data.tail)
        found = Elites(quantiles[worst], weight[worst])
        joined = map(np.concatenate, zip(self._elites, found, strict=True))
        self._elites = last = Elites(*(value[-max(MOST, len(worst)) :] for value in joined))
        if len(last.weight) >= FEWEST:
            self.shape = KEPT * self.shape + (1 - KEPT) * fitted(*last)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the distribution and the recent tasks, as named tensors."""
        held = {"shape": self.shape, **self._elites._asdict()}
        return {name: torch.from_numpy(value.copy()) for name, value in held.items()}

    def load_state_dict(self, state: dict[str, Tensor], iteration: int) -> None:
        """Restore the result of :meth:`state_dict`."""
        own, count = self.state_dict(), len(state.get("weight", ()))
        like = {name: own[name].new_zeros(count, *own[name].shape[1:]) for name in Elites._fields}
        checkpoint.match_tensors({**own, **like}, state)
        checkpoint.require_finite(state)
        if not bool((state["shape"] > 0).all()):
            raise InputError("checkpoint: expected shapes above 0 of the task distribution.")
        self.shape = state["shape"].clone().numpy()
        self._elites = Elites(**{name: state[name].clone().numpy() for name in Elites._fields})


def elites(score: np.ndarray, weight: np.ndarray, tail: float) -> np.ndarray:
    """Return the places of the tasks with the tail of the weight, and at least ELITES of them."""
    order = np.argsort(score, kind="stable")
    share = np.cumsum(weight[order]) / weight.sum()
    return order[: max(int((share <= tail).sum()), math.ceil(ELITES * len(order)))]


def fitted(quantiles: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return a and b ``(2, D)`` of the Betas with the weighted mean and variance of each column."""
    share = (weight / weight.sum())[:, None]
    mean = (share * quantiles).sum(0)
    variance = (share * (quantiles - mean) ** 2).sum(0)
    concentration = (mean * (1 - mean) / np.maximum(variance, EDGE) - 1).clip(max=SHARPEST)
    return (np.stack([mean, 1 - mean]) * concentration).clip(1 / SHARPEST)


def density(quantiles: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Return the density ``(N,)`` of the product of Betas at rows of quantiles ``(N, D)``."""
    a, b = shape
    constant = sum(
        math.lgamma(x + y) - math.lgamma(x) - math.lgamma(y) for x, y in zip(a, b, strict=True)
    )
    logs = ((a - 1) * np.log(quantiles) + (b - 1) * np.log1p(-quantiles)).sum(1)
    return np.exp(np.minimum(constant + logs, 700.0))


def _space(problem: Problem, family: str) -> TaskSpace:
    space = problem.task_space
    if space is None:
        raise InputError(
            f"data.sampling: worst fits a distribution to the parameters of tasks, and {family} "
            "does not draw its tasks from independent parameters. Use prioritized."
        )
    if space.entries > LIMIT:
        raise InputError(
            f"data.sampling: worst expects tasks of at most {LIMIT} numbers, got {space.entries} "
            f"in {family}: too many to fit a distribution to. Use prioritized."
        )
    return space
