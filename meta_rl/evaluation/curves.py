"""One contestant's scores on the held-out tasks of a split, and their statistics."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from meta_rl.statistics import (
    CONFIDENCE,
    DRAWS,
    Estimate,
    Statistic,
    interquartile_mean,
    mean,
    resampled,
    stratified_bootstrap,
)

ROUNDING = 1e-9  # relative tolerance of mean scores: their last bits depend on the summing order


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Scores of S seeds of one contestant on m tasks, at P points of its adaptation or learning."""

    name: str
    kind: Literal["algorithm", "random", "oracle", "rival"]
    split: str
    members: tuple[str, ...]
    """A name for each of the S seeds: its run, or its number."""
    steps: tuple[int | None, ...]
    """Inner steps k of each point; None for a rival's point without a counterpart."""
    budget: np.ndarray
    """Environment steps (or labelled examples) spent on a task until each point: ``(P,)``, the mean
    of tasks and seeds."""
    scores: np.ndarray
    """``(P, S, m)``; infinitely bad if adapting diverged."""
    spent: np.ndarray | None = None
    """The budget of each task alone, ``(P, m)``; None if it is not known."""
    success: np.ndarray | None = None
    """Success rates of the same episodes, ``(P, S, m)``; None if they are not known."""
    trained: float | None = None
    """Environment steps (or labelled examples) of meta-training, the mean of the seeds; None if it
    has no meaning."""
    note: str = ""
    """A note for the report's reader."""

    def first(self, tasks: int) -> Curve:
        """Return the curve on only the first tasks."""
        success = None if self.success is None else self.success[:, :, :tasks]
        spent = None if self.spent is None else self.spent[:, :tasks]
        budget = self.budget if spent is None else spent.mean(1)
        scores = self.scores[:, :, :tasks]
        return replace(self, scores=scores, success=success, budget=budget, spent=spent)

    def estimate(self, point: int, statistic: Statistic, seed: int) -> Estimate:
        """Return a point's statistic over tasks and seeds, with its interval."""
        return stratified_bootstrap(self.scores[point], statistic, seed=seed)

    def success_rate(self, point: int, seed: int) -> Estimate:
        """Return a point's mean success rate over tasks and seeds, with its interval.

        Only for a curve with ``success``.
        """
        rates: Any = self.success
        return stratified_bootstrap(rates[point], mean, seed=seed)

    def gain(self, point: int, statistic: Statistic, seed: int, sign: int) -> Estimate:
        """Return the statistic of each task's gain since the first point; above 0 is better."""
        with np.errstate(invalid="ignore"):
            gains = sign * (self.scores[point] - self.scores[0])
        lost = ~np.isfinite(self.scores[point])
        return stratified_bootstrap(np.where(lost, -np.inf, gains), statistic, seed=seed)


def steps_to_reach(
    rival: Curve, target: Curve, point: int, seed: int, sign: int, draws: int = DRAWS
) -> Estimate:
    """Return the first scored budget at which a rival's inter-quartile mean reaches the target's.

    The budget is infinite if no scored budget is enough. For the interval, rival and target are
    resampled on the same tasks.

    Args:
        rival: the rival's curve on the target's tasks, with rising budgets.
        target: the curve with the score to reach.
        point: the target's point to reach.
        seed: seed of the resampling.
        sign: 1 if higher scores are better, -1 if lower scores are.
        draws: number of resamples.
    """
    goal = resampled(target.scores[point], interquartile_mean, draws, seed)
    reached = [
        _reaches(resampled(scores, interquartile_mean, draws, seed), goal, sign)
        for scores in rival.scores
    ]
    needed = np.sort(_first(np.stack(reached), rival.budget))
    whole = float(interquartile_mean(target.scores[point].reshape(-1)))
    once = [_reaches(interquartile_mean(s.reshape(-1)), whole, sign) for s in rival.scores]
    tail = (1 - CONFIDENCE) / 2
    low, high = (float(needed[round(q * (draws - 1))]) for q in (tail, 1 - tail))
    return Estimate(float(_first(np.array(once)[:, None], rival.budget)[0]), low, high)


def _reaches(scores: np.ndarray, goal: np.ndarray | float, sign: int) -> np.ndarray:
    """Return whether scores are at least as good as the goal, up to rounding."""
    return sign * scores >= sign * goal - ROUNDING * np.abs(goal)


def _first(reached: np.ndarray, budget: np.ndarray) -> np.ndarray:
    """Return each column's first budget where ``(P, n)`` is true; infinity if it never is."""
    return np.where(reached.any(0), budget[reached.argmax(0)], np.inf)
