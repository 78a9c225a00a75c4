"""Averages over tasks and seeds, and how far they can be trusted.

Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from meta_rl.errors import require

Statistic = Callable[[np.ndarray], np.ndarray]
"""Of values ``(*, n)``, over the last axis."""

DRAWS, CONFIDENCE = 2000, 0.95


class Estimate(NamedTuple):
    """A statistic and its bootstrap interval."""

    value: float
    low: float
    high: float


def mean(values: np.ndarray) -> np.ndarray:
    """The mean over the last axis."""
    return values.mean(-1)


def margin(values: np.ndarray) -> np.ndarray:
    """1.96 standard errors of the mean over the last axis, half of its normal 95 % interval.

    0 of a single value; not a number where the values are not finite, as after a diverged run.
    """
    count = values.shape[-1]
    if count == 1:
        return np.zeros(values.shape[:-1])
    with np.errstate(invalid="ignore"):
        return 1.96 * values.std(-1, ddof=1) / np.sqrt(count)


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """The mean of the middle half over the last axis: a quarter, rounded down, is cut at each end.

    Few outliers do not move it, as they do not move the median; it uses more of the values. It is
    what rliable computes (``scipy.stats.trim_mean(values, 0.25)``).
    """
    count = values.shape[-1]
    cut = count // 4
    return np.sort(values, -1)[..., cut : count - cut].mean(-1)


def stratified_bootstrap(
    scores: np.ndarray,
    statistic: Statistic = interquartile_mean,
    *,
    draws: int = DRAWS,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Estimate:
    """The statistic of all scores, and its percentile interval over tasks and seeds.

    Strata are runs. Each draw takes as many runs as there are, with replacement, and of each of
    them as many tasks as there are: *the same* resampled tasks of every run. For all runs met the
    same tasks, and a task that is hard is hard for all of them: drawn apart for each run, S runs on
    M tasks would count as S M independent tasks. (rliable takes its benchmark's tasks as given and
    resamples runs for each of them; here tasks are themselves drawn from a family.) With one run
    the interval is over tasks alone, with one task over runs alone.

    Args:
        scores: ``(S, M)``, of S runs (seeds) on the same M tasks; infinite where a task was lost.
        statistic: of one axis of values.
        draws: resamples.
        confidence: share of the draws inside the interval.
        seed: of the draws. Equal seeds resample alike, whatever the scores.

    Raises:
        InputError: if the scores are not a table, or a setting is out of range.
    """
    shaped = scores.ndim == 2 and scores.size > 0
    require(shaped, "scores", "(seeds, tasks), at least one of each", scores.shape)
    require(draws >= 1, "draws", "1 or more", draws)
    require(0 < confidence < 1, "confidence", "a share between 0 and 1", confidence)
    drawn = np.sort(resampled(scores, statistic, draws, seed))
    tail = (1 - confidence) / 2
    # Order statistics, not interpolated: the draws may be infinite.
    low, high = (drawn[round(q * (draws - 1))] for q in (tail, 1 - tail))
    return Estimate(float(statistic(scores.reshape(-1))), float(low), float(high))


def resampled(
    scores: np.ndarray, statistic: Statistic, draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """The statistic of every draw, ``(draws,)``; see :func:`stratified_bootstrap`.

    Equal seeds and numbers of tasks give the same tasks in every draw, so that what two contestants
    make of them can be compared draw by draw.
    """
    runs, tasks = scores.shape
    generator = np.random.default_rng(seed)
    of_tasks = generator.integers(tasks, size=(draws, 1, tasks))
    of_runs = generator.integers(runs, size=(draws, runs, 1))
    return statistic(scores[of_runs, of_tasks].reshape(draws, -1))
