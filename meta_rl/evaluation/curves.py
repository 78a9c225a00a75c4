"""One contestant's scores on the held-out tasks of a split, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from meta_rl.statistics import (
    CONFIDENCE,
    DRAWS,
    Estimate,
    Statistic,
    interquartile_mean,
    resampled,
    stratified_bootstrap,
)

ROUNDING = 1e-9  # of a mean score: the last bits depend on how many were added, and in what order


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Scores of S seeds of one contestant on m tasks, at P points of its adaptation or learning."""

    name: str
    kind: Literal["algorithm", "random", "oracle", "rival"]
    split: str
    members: tuple[str, ...]
    """A name for each of the S seeds: its run, or its number."""
    steps: tuple[int | None, ...]
    """Inner steps k of each point; None for a rival where it has no counterpart."""
    budget: np.ndarray
    """Environment steps (or labelled examples) spent on a task until each point: ``(P,)``."""
    scores: np.ndarray
    """``(P, S, m)``; infinitely bad where adapting came to no finite end."""
    note: str = ""
    """What a reader has to know about it."""

    def first(self, tasks: int) -> Curve:
        """The same on the first tasks alone."""
        return replace(self, scores=self.scores[:, :, :tasks])

    def estimate(self, point: int, statistic: Statistic, seed: int) -> Estimate:
        """The statistic over tasks and seeds, with its interval."""
        return stratified_bootstrap(self.scores[point], statistic, seed=seed)

    def gain(self, point: int, statistic: Statistic, seed: int, sign: int) -> Estimate:
        """The statistic of what each task gained since the first point; above 0 is better."""
        with np.errstate(invalid="ignore"):
            gains = sign * (self.scores[point] - self.scores[0])
        lost = ~np.isfinite(self.scores[point])
        return stratified_bootstrap(np.where(lost, -np.inf, gains), statistic, seed=seed)


def steps_to_reach(
    rival: Curve, target: Curve, point: int, seed: int, sign: int, draws: int = DRAWS
) -> Estimate:
    """The budget at which a rival's inter-quartile mean first is what the target's is at a point.

    Of the rival's scored budgets, infinite if none is enough. In the interval both are resampled on
    the same tasks.

    Args:
        rival: on the same tasks as the target, budgets rising.
        target: whose score is to be reached.
        point: of the target.
        seed: of the draws.
        sign: 1 if higher scores are better, -1 if lower ones are.
        draws: resamples.
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
    """Whether scores are as good as the goal; means of equal scores may differ by rounding."""
    return sign * scores >= sign * goal - ROUNDING * np.abs(goal)


def _first(reached: np.ndarray, budget: np.ndarray) -> np.ndarray:
    """The first budget where each column of ``(P, n)`` is true; infinity where none is."""
    return np.where(reached.any(0), budget[reached.argmax(0)], np.inf)
