"""Averages over tasks and seeds, and their confidence intervals.

Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from meta_rl.errors import require

Statistic = Callable[[np.ndarray], np.ndarray]
"""A statistic of values ``(*, n)`` over the last axis."""

DRAWS, CONFIDENCE = 2000, 0.95


class Estimate(NamedTuple):
    """A statistic and its interval."""

    value: float
    low: float
    high: float


def mean(values: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis."""
    return values.mean(-1)


def margin(values: np.ndarray) -> np.ndarray:
    """Return 1.96 standard errors of the mean over the last axis: half the normal 95 % interval.

    It is 0 for a single value. Of several values it is NaN if one is not finite.
    """
    count = values.shape[-1]
    if count == 1:
        return np.zeros(values.shape[:-1])
    with np.errstate(invalid="ignore"):
        return 1.96 * values.std(-1, ddof=1) / np.sqrt(count)


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Return the mean of the middle half over the last axis; a quarter is cut at each end.

    The quarter is rounded down. Like the median, it is robust to few outliers; it uses more of the
    values. rliable computes the same (``scipy.stats.trim_mean(values, 0.25)``). It is NaN if a
    value is.
    """
    count = values.shape[-1]
    cut, ordered = count // 4, np.sort(values, -1)
    middle = ordered[..., cut : count - cut].mean(-1)
    return np.where(np.isnan(ordered[..., -1]), np.nan, middle)


def worst_mean(sign: int, fraction: float = 0.2) -> Statistic:
    """Return the statistic of the mean of the worst values (CVaR); a part of one counts in part.

    It is NaN if a value is, as a mean is: sorting puts NaN among the highest.

    Args:
        sign: 1 if higher values are better, -1 if lower values are.
        fraction: the fraction of the values that are the worst.
    """

    def statistic(values: np.ndarray) -> np.ndarray:
        ordered = np.sort(sign * values, -1)
        size = fraction * values.shape[-1]
        counted = np.clip(size - np.arange(math.ceil(size)), 0.0, 1.0)
        worst = sign * (ordered[..., : len(counted)] * counted).sum(-1) / size
        return np.where(np.isnan(ordered[..., -1]), np.nan, worst)

    return statistic


def tail_mean(values: np.ndarray, weights: np.ndarray, fraction: float) -> float:
    """Return the weighted mean of the lowest values, which have this fraction of the weight.

    It is the conditional value at risk, CVaR (Rockafellar and Uryasev 2000). The value at the edge
    counts with the part of its weight that is needed.

    Args:
        values: finite values, ``(n,)``.
        weights: weights of 0 or more, ``(n,)``.
        fraction: fraction of the weight, above 0 and at most 1.
    """
    order = np.argsort(values, kind="stable")
    share = weights[order] / weights.sum()
    before = np.cumsum(share) - share
    counted = np.clip(fraction - before, 0.0, share)
    return float((values[order] * counted).sum() / counted.sum())


def stratified_bootstrap(
    scores: np.ndarray,
    statistic: Statistic = interquartile_mean,
    *,
    draws: int = DRAWS,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Estimate:
    """Return the statistic of all scores, and its percentile interval over tasks and seeds.

    Each draw resamples S runs and M tasks with replacement, *the same* tasks for every run. All
    runs saw the same tasks, and a hard task is hard for all of them: with other tasks for each run,
    S runs on M tasks would count as S M independent tasks. (rliable fixes its benchmark's tasks and
    resamples runs for each task; here tasks are drawn from a family.) With one run, the interval is
    over tasks alone; with one task, over runs alone.

    Args:
        scores: scores of S runs (seeds) on the same M tasks, ``(S, M)``; infinite if a task failed.
        statistic: the statistic, over one axis of values.
        draws: number of resamples.
        confidence: fraction of the draws inside the interval.
        seed: seed of the draws. Equal seeds resample alike for any scores.

    Raises:
        InputError: if the scores are not a table, or a setting is out of range.
    """
    shaped = scores.ndim == 2 and scores.size > 0
    require(shaped, "scores", "(seeds, tasks), at least one of each", scores.shape)
    require(draws >= 1, "draws", "1 or more", draws)
    require(0 < confidence < 1, "confidence", "a fraction between 0 and 1", confidence)
    drawn = np.sort(resampled(scores, statistic, draws, seed))
    tail = (1 - confidence) / 2
    # Order statistics without interpolation: the draws may be infinite.
    low, high = (drawn[round(q * (draws - 1))] for q in (tail, 1 - tail))
    return Estimate(float(statistic(scores.reshape(-1))), float(low), float(high))


def crossed_interval(values: np.ndarray, confidence: float = CONFIDENCE) -> Estimate:
    """Return the mean of all values and its t interval, for new seeds and new tasks.

    It is for the differences of two algorithms: what a task does to both cancels, and what is left
    differs mostly between seeds, of which there are few. Then resampling gives an interval that is
    far too narrow. Student's intervals of the seeds' means and of the tasks' means are added in
    squares (Howe 1974). Both hold what is random in one value, so the interval is a little wide.

    Args:
        values: finite values of S seeds on the same M tasks, ``(S, M)``, two seeds or more.
        confidence: fraction of such intervals that hold the truth.

    Raises:
        InputError: if there are fewer than two seeds, or a value is not finite.
    """
    enough = values.ndim == 2 and len(values) > 1 and values.size > 0
    require(enough, "values", "(seeds, tasks), two seeds or more", values.shape)
    require(bool(np.isfinite(values).all()), "values", "finite numbers", "others")
    middle, squares = float(values.mean()), 0.0
    for means in (values.mean(1), values.mean(0)):
        if (count := len(means)) > 1:
            error = float(means.var(ddof=1)) / count
            squares += t_quantile(count - 1, confidence) ** 2 * error
    half = math.sqrt(squares)
    return Estimate(middle, middle - half, middle + half)


def difference_interval(values: np.ndarray) -> Estimate:
    """Return the mean difference and its interval, for new seeds and tasks where that is possible.

    With one seed, or a difference that is not finite, the interval is a bootstrap's.

    Args:
        values: differences of S seeds on the same M tasks, ``(S, M)``.
    """
    if len(values) > 1 and np.isfinite(values).all():
        return crossed_interval(values)
    return stratified_bootstrap(values, mean)


def t_quantile(freedom: float, confidence: float = CONFIDENCE) -> float:
    """Return t so that Student's variable is within ``-t`` to ``t`` with this probability.

    With ``x = sqrt(freedom) tan a``, the density of ``a`` is proportional to
    ``cos(a) ** (freedom - 1)``, which is summed on a fine grid.

    Args:
        freedom: degrees of freedom, 1 or more.
        confidence: the probability, between 0 and 1.
    """
    edges = np.linspace(0, math.pi / 2, 100_001)
    inside = np.cos((edges[1:] + edges[:-1]) / 2) ** (freedom - 1)
    share = np.concatenate([[0.0], np.cumsum(inside)]) / inside.sum()
    return math.sqrt(freedom) * math.tan(np.interp(confidence, share, edges))


def resampled(
    scores: np.ndarray, statistic: Statistic, draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """Return the statistic of every draw, ``(draws,)``; see :func:`stratified_bootstrap`.

    Equal seeds and numbers of tasks give the same tasks in every draw, so two algorithms can be
    compared draw by draw.
    """
    runs, tasks = scores.shape
    generator = np.random.default_rng(seed)
    of_tasks = generator.integers(tasks, size=(draws, 1, tasks))
    of_runs = generator.integers(runs, size=(draws, runs, 1))
    return statistic(scores[of_runs, of_tasks].reshape(draws, -1))
