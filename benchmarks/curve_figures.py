"""Draw the learning curves of the long runs: one panel for each preset, one band for each arm."""

from __future__ import annotations

import io
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator
from PIL import Image

from benchmarks.arms import Arm, by_preset
from benchmarks.equal_budgets import LABEL
from benchmarks.published import Published
from benchmarks.published_list import PUBLISHED
from meta_rl.config import EpisodesConfig
from meta_rl.plots.pictures import encoded

COLORS = (
    *("#2f7fd0", "#dd6b20", "#2f9e52", "#b0509e", "#a88600"),
    *("#1597a5", "#d6455a", "#7a74dd", "#8a6d55", "#7f8a94"),
)
"""Colors that are read on white and on black."""
INK = "#010203"
"""The color of axes and text, which stands for the page's own in SVG."""
GAP = 0.075
"""Least distance of two labels, as a fraction of the axis."""


@dataclass(frozen=True, kw_only=True)
class Band:
    """The learning curves of one arm's S seeds, at the same P numbers of environment steps.

    Args:
        title: the arm's name in its panel.
        steps: inner steps of meta-training, after which the scores are.
        samples: environment steps or examples of meta-training, ``(P,)``.
        scores: scores on the meta-batches after the last inner step, ``(S, P)``.
    """

    title: str
    steps: int
    samples: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Panel:
    """All curves of one preset.

    Args:
        name: the preset, and which of its runs.
        unit: what samples are.
        score: the name of the scores.
        bands: the finished arms.
        unfinished: the titles of the other arms.
        references: published results with the number of inner steps of each.
    """

    name: str
    unit: str
    score: str
    bands: tuple[Band, ...]
    unfinished: tuple[str, ...]
    references: tuple[tuple[Published, int | None], ...]


def panels(found: Sequence[Arm]) -> list[Panel]:
    """Return the panels of all arms: those of equal budgets have panels of their own."""
    result = []
    for preset, group in by_preset(found).items():
        equal = [arm for arm in group if arm.runs[0].label.endswith(LABEL)]
        rest = [arm for arm in group if arm not in equal]
        trained = [arm for arm in equal if not arm.runs[0].scratch]
        if rest:
            result.append(panel(preset, rest, [p for p in PUBLISHED if p.preset == preset]))
        if trained:
            result.append(panel(f"{preset}, equal budgets", trained, []))
    return result


def panel(name: str, group: Sequence[Arm], published: Sequence[Published]) -> Panel:
    """Return the panel of some arms of one preset."""
    titles = Counter(arm.title for arm in group)
    named = {
        f"{arm.title}, {arm.planned}" if titles[arm.title] > 1 else arm.title: arm for arm in group
    }
    named = {title.replace(f", {LABEL}", ""): arm for title, arm in named.items()}
    bands = tuple(band(title, arm) for title, arm in named.items() if arm.lines)
    episodes = isinstance(group[0].runs[0].config.data, EpisodesConfig)
    return Panel(
        name=name,
        unit="environment steps" if episodes else "examples",
        score=group[0].score_name,
        bands=bands,
        unfinished=tuple(title for title, arm in named.items() if not arm.lines),
        references=references(published, {band.steps for band in bands}),
    )


def band(title: str, arm: Arm) -> Band:
    """Return the curves of an arm's seeds, up to the end of the shortest."""
    curves = [line["curve"] for line in arm.lines]
    first = max(curve["samples"][0] for curve in curves)
    last = min(curve["samples"][-1] for curve in curves)
    samples = np.linspace(first, last, max(len(curve["samples"]) for curve in curves))
    scores = [
        np.interp(samples, curve["samples"], [after[-1] for after in curve["scores"]])
        for curve in curves
    ]
    steps = len(curves[0]["scores"][0]) - 1
    return Band(title=title, steps=steps, samples=samples, scores=np.stack(scores))


def references(
    published: Sequence[Published], trained: set[int]
) -> tuple[tuple[Published, int | None], ...]:
    """Return the published results to draw, after as many inner steps as the bands if known."""
    drawn = []
    for one in (p for p in published if p.drawn):
        after = [k for k in one.scores if k is None or (k in trained and k > 0)]
        drawn += [(one, k) for k in after or list(one.scores)[-1:]]
    return tuple(drawn)


def draw(axes: Axes, shown: Panel) -> None:
    """Draw a panel: means over seeds, their range, and published scores as dashed lines."""
    pale = 0.22 if len(shown.bands) < 5 else 0.12
    for one, color in zip(shown.bands, colors(shown), strict=True):
        axes.plot(one.samples, one.scores.mean(0), color=color, linewidth=1.6, label=one.title)
        if len(one.scores) > 1:
            low, high = one.scores.min(0), one.scores.max(0)
            axes.fill_between(one.samples, low, high, color=color, alpha=pale, linewidth=0)
    axes.set(xlabel=shown.unit, ylabel=shown.score)
    axes.set_xlim(left=0)
    if shown.score == "mean squared error":
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=INK, alpha=0.12, linewidth=0.6)
    for part in (*axes.spines.values(), axes.xaxis.label, axes.yaxis.label):
        part.set_color(INK)
    axes.tick_params(which="both", color=INK, labelcolor=INK)
    _draw_references(axes, shown)


def _draw_references(axes: Axes, shown: Panel) -> None:
    """Draw published scores, with labels beside the axes that do not overlap."""
    lines: dict[float, dict[str, None]] = {}
    for one, after in shown.references:
        lines.setdefault(one.scores[after], {})[f"{one.algorithm}{steps(after)}"] = None
    for value in lines:
        axes.axhline(value, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), alpha=0.6)
    axes.get_ylim()  # scales the axes to all that is drawn
    to_axes = axes.transScale + axes.transLimits
    heights = {value: float(to_axes.transform((0.0, value))[1]) for value in sorted(lines)}
    for (value, height), at in zip(heights.items(), spread([*heights.values()]), strict=True):
        text = f"{', '.join(lines[value])} {value:g}".replace("-", "\N{MINUS SIGN}")
        style = {"color": INK, "linewidth": 0.6, "clip_on": False, "alpha": 0.6}
        axes.plot([1.0, 1.02], [height, at], transform=axes.transAxes, **style)
        given = {"transform": axes.transAxes, "va": "center", "fontsize": "small"}
        axes.text(1.03, at, text, color=INK, **given)


def steps(after: int | None) -> str:
    """Return a number of inner steps in words that follow an algorithm's name."""
    return f", {after} step{'s' if after > 1 else ''}" if after else ""


def spread(heights: Sequence[float], gap: float = GAP) -> list[float]:
    """Return rising heights moved apart, so that neighbours differ by the gap or more.

    Neighbours that are too close are placed around their mean.
    """
    groups = [[height] for height in heights]
    at = 0
    while at < len(groups) - 1:
        upper, lower = _placed(groups[at + 1], gap)[0], _placed(groups[at], gap)[-1]
        if upper - lower < gap - 1e-9:
            groups[at : at + 2] = [groups[at] + groups[at + 1]]
            at = max(0, at - 1)
        else:
            at += 1
    return [place for group in groups for place in _placed(group, gap)]


def _placed(group: Sequence[float], gap: float) -> list[float]:
    middle = sum(group) / len(group)
    return [middle + gap * (i - (len(group) - 1) / 2) for i in range(len(group))]


def colors(shown: Panel) -> list[str]:
    """Return a color for each band."""
    return [COLORS[i % len(COLORS)] for i in range(len(shown.bands))]


def inline_svg(shown: Panel) -> str:
    """Return one panel as an SVG element, with the colors and the fonts of the page around it."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": shown.name, "font.size": 11}):
        figure = Figure(figsize=(4.9, 3.1), layout="constrained")
        draw(figure.add_subplot(), shown)
        drawn = encoded(figure, "svg", metadata={"Date": None}, transparent=True).decode()
    element = drawn[drawn.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    used = set(re.findall(r"#([mp][0-9a-f]+)\b", element))
    keep = re.compile(r' id="([^"]*)"')
    element = keep.sub(lambda m: m[0] if m[1] in used else "", element)
    return element.replace(INK, "currentColor")


def overview(shown: Sequence[Panel]) -> bytes:
    """Return one PNG of all panels with finished runs, in few colors, which keeps it small."""
    finished = [one for one in shown if one.bands]
    rows = math.ceil(len(finished) / 2)
    figure = Figure(figsize=(11, 3.2 * rows), layout="constrained")
    grid = figure.subplots(rows, 2, squeeze=False)
    for axes in grid.flat[len(finished) :]:
        axes.set_visible(False)
    for axes, one in zip(grid.flat, finished, strict=False):
        draw(axes, one)
        axes.set_title(one.name)
        axes.legend(fontsize="small", frameon=False)
    with Image.open(io.BytesIO(encoded(figure, dpi=70))) as picture:
        picture.convert("RGB").quantize(64).save(file := io.BytesIO(), "png", optimize=True)
    return file.getvalue()
