"""Draw the report's figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from meta_rl.evaluation.curves import Curve
from meta_rl.evaluation.protocol import EvaluationPlan
from meta_rl.evaluation.tables import by_split, same_tasks
from meta_rl.naming import figure_text
from meta_rl.statistics import interquartile_mean

LINES = {"algorithm": "-", "random": "--", "oracle": ":", "rival": "-."}
MARKS = {"algorithm": "o", "random": "s", "oracle": "", "rival": "^"}


def figures(planned: EvaluationPlan, curves: Sequence[Curve]) -> dict[str, tuple[Figure, str]]:
    """Return every figure with its caption, by name."""
    several = len(planned.algorithms) > 1
    middle = "Inter-quartile mean with 95 % interval"
    drawn = {
        "adaptation": (adaptation(planned, curves), f"{middle} after 0..K inner steps."),
    }
    limited = same_tasks(curves)
    if limited or several:
        split = limited[0].split if limited else next(iter(planned.tasks))
        shown = limited or [c for c in curves if c.split == split]
        caption = f"{middle} at equal {planned.unit}, {shown[0].scores.shape[2]} tasks, {split}."
        drawn["budget"] = (budget(planned, shown), caption)
    drawn["tasks"] = (
        tasks(planned, curves),
        "Every task of every seed: score before adaptation and after the last inner step. "
        f"Points {'above' if planned.sign > 0 else 'below'} the diagonal gained.",
    )
    return drawn


def adaptation(planned: EvaluationPlan, curves: Sequence[Curve]) -> Figure:
    """Draw scores against inner steps, a panel for each split."""
    figure, panels = _panels(planned)
    for axes, (split, those) in zip(panels, by_split(planned, curves), strict=True):
        for curve in those:
            at = np.array([k or 0 for k in curve.steps], float)
            _draw(axes, planned, curve, at, _color(curve, curves))
        axes.set(xlabel="inner steps", ylabel=planned.problem.score_name, title=split)
        axes.set_xticks(range(planned.steps + 1))
    _legend(figure, panels)
    return figure


def budget(planned: EvaluationPlan, curves: Sequence[Curve], order: Sequence[str] = ()) -> Figure:
    """Draw scores against the budget spent on a task; logarithmic if budgets differ much.

    A score holds until the next inner step is complete, so lines are steps.

    Args:
        planned: what was evaluated.
        curves: the curves to draw.
        order: names in the order of their colors, for figures of which some lack a curve.
    """
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.add_subplot()
    spent = [value for c in curves for value in c.budget if value > 0]
    for curve in curves:
        _draw(axes, planned, curve, curve.budget, _color(curve, curves, order), steps=True)
    if max(spent, default=1.0) > 5 * min(spent, default=1.0):
        axes.set_xscale("symlog", linthresh=min(spent))
    axes.set(xlabel=f"{planned.unit} spent on the task", ylabel=planned.problem.score_name)
    axes.set_xlim(left=0)
    axes.minorticks_off()
    _legend(figure, [axes])
    return figure


def tasks(planned: EvaluationPlan, curves: Sequence[Curve]) -> Figure:
    """Draw every task's score before and after adaptation, a panel for each split."""
    figure, panels = _panels(planned)
    for axes, (split, those) in zip(panels, by_split(planned, curves), strict=True):
        shown = [curve for curve in those if curve.kind == "algorithm"]
        ends = [np.stack([c.scores[0].ravel(), c.scores[-1].ravel()]) for c in shown]
        for (before, after), curve in zip(ends, shown, strict=True):
            color = _color(curve, curves)
            axes.scatter(before, after, s=14, alpha=0.7, color=color, label=figure_text(curve.name))
        everything = np.concatenate([e.ravel() for e in ends])
        finite = everything[np.isfinite(everything)]
        limits = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
        axes.plot(limits, limits, color="0.6", linewidth=1, zorder=0)
        name = planned.problem.score_name
        axes.set(xlabel=f"{name} before", ylabel=f"{name} after", title=split)
    _legend(figure, panels)
    return figure


def _panels(planned: EvaluationPlan) -> tuple[Figure, list[Axes]]:
    count = len(planned.tasks)
    figure = Figure(figsize=(5 * count + 1, 4.2), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _draw(
    axes: Axes,
    planned: EvaluationPlan,
    curve: Curve,
    at: np.ndarray,
    color: str,
    *,
    steps: bool = False,
) -> None:
    """Draw a curve as a line or as steps, with its band, or an oracle as a horizontal line."""
    points = range(len(curve.steps))
    seed = planned.settings.seed
    found = np.array([curve.estimate(p, interquartile_mean, seed) for p in points])
    middle, low, high = np.where(np.isfinite(found), found, np.nan).T
    style: dict[str, Any] = {"color": color, "linestyle": LINES[curve.kind]}
    label = figure_text(curve.name)
    if curve.kind == "oracle":
        axes.axhline(middle[0], label=label, **style)
        return
    where = "post" if steps else None
    style["drawstyle"] = "steps-post" if steps else "default"
    axes.fill_between(at, low, high, alpha=0.18, color=color, linewidth=0, step=where)
    axes.plot(at, middle, label=label, marker=MARKS[curve.kind], markersize=4, **style)


def _color(curve: Curve, curves: Sequence[Curve], order: Sequence[str] = ()) -> str:
    """Return a curve's color in every figure; random weights get their algorithm's color."""
    if curve.kind == "oracle":
        return "black"
    kinds = ("random",) if curve.kind == "random" else ("algorithm", "rival")
    names = list(dict.fromkeys([*order, *(c.name for c in curves if c.kind in kinds)]))
    return f"C{names.index(curve.name) % 10}"


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    for axes in panels:
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    columns = min(len(labels), 3 if len(panels) > 1 else 2)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
