"""Make tables of the results, for the terminal and the page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from meta_rl.evaluation.curves import Curve, steps_to_reach
from meta_rl.evaluation.protocol import EvaluationPlan
from meta_rl.statistics import Estimate, crossed_interval, interquartile_mean, mean, worst_mean
from meta_rl.text_tables import Table, aligned


def scores(planned: EvaluationPlan, curves: Sequence[Curve]) -> Table:
    """Return one row per point of each curve: both budgets, averages, gain and success.

    The averages are the mean, the inter-quartile mean and the mean of the worst fifth (CVaR).
    Without success, if no curve has it.
    """
    unit, seed = planned.unit, planned.settings.seed
    told = any(curve.success is not None for curve in curves)
    head = ["", "seeds × tasks", f"{unit}: training", "inner steps", "adapting"]
    head += ["mean", "IQM", "worst 20 %", "gain (IQM)"]
    head += ["success (mean)"] if told else []
    rows, averages = [], (mean, interquartile_mean, worst_mean(planned.sign))
    for curve in curves:
        exact = curve.kind == "oracle" and curve.trained is None  # computed, not learned
        shape = "exact" if exact else "{} × {}".format(*curve.scores.shape[1:])
        for point, (k, budget) in enumerate(zip(curve.steps, curve.budget, strict=True)):
            cells = [curve.estimate(point, s, seed) for s in averages]
            gain = curve.gain(point, interquartile_mean, seed, planned.sign) if point else None
            rows.append([
                curve.name if point == 0 else "",
                shape if point == 0 else "",
                _count(curve.trained) if point == 0 else "",
                "–" if k is None else str(k),
                _count(None if curve.kind == "oracle" else budget),
                *map(interval, cells),
                interval(gain) if gain else "",
                *([_success(curve, point, seed)] if told else []),
            ])  # fmt: skip
    return head, rows


def unbeaten(curves: Sequence[Curve], sign: int) -> str:
    """Return which contestants no other beats clearly, after each number of inner steps.

    One beats another clearly if the interval of their difference on the same tasks,
    :func:`meta_rl.statistics.crossed_interval`, is on its side. With fewer seeds than the other, or
    one, or scores that are not finite, none does. Oracles and random weights do not count. Empty if
    there are no two contestants to compare.

    Args:
        curves: the contestants' curves on the same tasks.
        sign: 1 if higher scores are better, -1 if lower scores are.
    """
    rivals = [c for c in curves if c.kind in ("algorithm", "rival") and c.scores.shape[1] > 1]
    if len(rivals) < 2:
        return ""
    found: dict[str, list[int]] = {}
    for k in range(max(len(curve.steps) for curve in rivals)):
        there = {curve.name: sign * curve.scores[k] for curve in rivals if k < len(curve.steps)}
        left = [
            name
            for name, own in there.items()
            if not any(_beats(other, own) for other in there.values())
        ]
        found.setdefault(", ".join(left), []).append(k)
    told = [f"after {', '.join(map(str, steps))}: {names}" for names, steps in found.items()]
    return f"Not clearly beaten by any other, by number of inner steps: {'; '.join(told)}."


def _beats(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether scores ``(seeds, tasks)`` are clearly above others'."""
    known = one.shape == other.shape and bool(np.isfinite([one, other]).all())
    return known and crossed_interval(one - other).low > 0


def needed(planned: EvaluationPlan, curves: Sequence[Curve]) -> Table:
    """Return the steps that rivals need to reach the algorithms' scores after 1 and K steps."""
    against = [curve for curve in curves if curve.kind == "rival"]
    head = ["to reach the IQM of", "which took", *(curve.name for curve in against)]
    rows = []
    for algorithm in (curve for curve in curves if curve.kind == "algorithm"):
        for k in sorted({1, len(algorithm.steps) - 1}):
            given = (algorithm, k, planned.settings.seed, planned.sign)
            cells = [_steps(steps_to_reach(c, *given), float(c.budget[-1])) for c in against]
            reached = f"{algorithm.name} after {k} inner step{'s' if k > 1 else ''}"
            rows.append([reached, f"{algorithm.budget[k]:,.0f}", *cells])
    return head, rows


def same_tasks(curves: Sequence[Curve]) -> list[Curve]:
    """Return the curves of the rivals' split, on the rivals' tasks alone; [] without rivals."""
    of_rivals = [curve for curve in curves if curve.kind == "rival"]
    if not of_rivals:
        return []
    count, split = of_rivals[0].scores.shape[2], of_rivals[0].split
    return [curve.first(count) for curve in curves if curve.split == split]


def by_split(planned: EvaluationPlan, curves: Sequence[Curve]) -> Iterator[tuple[str, list[Curve]]]:
    """Yield every split with its curves, without rivals, which learn on few of its tasks."""
    for split in planned.tasks:
        yield split, [c for c in curves if c.split == split and c.kind != "rival"]


def plain(planned: EvaluationPlan, curves: Sequence[Curve]) -> str:
    """Return all tables as text."""
    parts, named = [], planned.problem.score_name
    for split, those in by_split(planned, curves):
        head = f"{named}, {len(planned.tasks[split])} held-out tasks, {split}; 95 % intervals"
        below = unbeaten(those, planned.sign)
        parts.append("\n".join(filter(None, [head, aligned(scores(planned, those)), below])))
    if limited := same_tasks(curves):
        count = limited[0].scores.shape[2]
        parts += [
            f"the same on the first {count} tasks alone\n{aligned(scores(planned, limited))}",
            f"{planned.unit} needed, same tasks\n{aligned(needed(planned, limited))}",
        ]
    return "\n\n".join(parts)


def interval(estimate: Estimate) -> str:
    """Format a value and its interval, with three digits of the largest number."""
    largest = max((abs(v) for v in estimate if math.isfinite(v)), default=0.0)
    digits = min(6, max(0, 2 - math.floor(math.log10(largest)))) if largest else 1
    value, *bounds = (_number(v, digits) for v in estimate)
    return f"{value} [{', '.join(bounds)}]"


def _count(steps: float | None) -> str:
    return "–" if steps is None else f"{steps:,.0f}"


def _success(curve: Curve, point: int, seed: int) -> str:
    """Format a point's mean success rate and its interval; a dash if it is not known."""
    if curve.success is None:
        return "–"
    value, low, high = curve.success_rate(point, seed)
    return f"{value:.0%} [{low:.0%}, {high:.0%}]"


def _number(value: float, digits: int) -> str:
    if not math.isfinite(value):
        return ("−" if value < 0 else "") + "∞"
    return f"{value:,.{digits}f}".replace("-", "−")


def _steps(estimate: Estimate, last: float) -> str:
    """Format budgets; an infinite budget is more than the last one tried."""
    texts = [f"{v:,.0f}" if math.isfinite(v) else f"more than {last:,.0f}" for v in estimate]
    return texts[0] if len(set(texts)) == 1 else f"{texts[0]} [{texts[1]}, {texts[2]}]"
