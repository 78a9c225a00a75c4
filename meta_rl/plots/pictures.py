"""Draw adaptation curves, and tasks before and after adapting."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from meta_rl.statistics import margin


def encoded(figure: Figure, kind: str = "png", **how: Any) -> bytes:
    """Return a figure as the bytes of a picture file.

    Args:
        figure: the figure to encode.
        kind: the file's kind, ``png`` or ``svg``.
        how: other arguments of ``Figure.savefig``, such as ``dpi``.
    """
    figure.savefig(file := io.BytesIO(), format=kind, **how)
    return file.getvalue()


def adaptation_figure(scores: Tensor, score_name: str) -> Figure:
    """Draw the mean score after each inner step, its 95 % interval, and every task in grey.

    The interval is 1.96 standard errors over the M tasks.
    """
    values = scores.cpu().double().numpy()  # (K + 1, M)
    steps, count = np.arange(values.shape[0]), values.shape[1]
    mean, half = values.mean(1), margin(values)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, values, color="0.8", linewidth=0.8, zorder=1)
    axes.fill_between(steps, mean - half, mean + half, alpha=0.3, zorder=2)
    axes.plot(steps, mean, marker="o", linewidth=2, zorder=3, label=f"mean of {count} tasks")
    axes.set(xlabel="inner steps", ylabel=score_name, xticks=steps, title="Adaptation")
    axes.legend(loc="best")
    return figure


def episode_figure(
    support: tuple[Tensor, Tensor], query: tuple[Tensor, Tensor], before: Tensor, after: Tensor
) -> Figure:
    """Draw one task of image classes, a row per class: support images, then query images.

    A query image is framed green if it is classified correctly after adaptation, otherwise red.
    Its title shows the classes predicted before and after.

    Args:
        support: images ``(N * S, C, H, W)`` in [0, 1] and their classes ``(N * S,)``.
        query: other images and their classes, in the same form.
        before: classes predicted for the query without adapting.
        after: classes predicted for the query after the last inner step.
    """
    shown = 8  # query images of a class
    y = query[1].cpu()
    classes = sorted({int(c) for c in support[1]})
    shots = max(int((support[1] == c).sum()) for c in classes)
    columns = shots + min(shown, max(int((y == c).sum()) for c in classes))
    size = (0.75 * columns, 0.85 * len(classes) + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(classes), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for row, c in zip(grid, classes, strict=True):
        for axes, image in zip(row, support[0][support[1] == c], strict=False):
            _show(axes, image)
            axes.set_title(f"class {c}", fontsize=7, pad=2)
        of_class = (y == c).nonzero()[:shown, 0]
        for axes, number in zip(row[shots:], of_class, strict=False):
            right = int(after[number]) == c
            _show(axes, query[0][number], "tab:green" if right else "tab:red")
            axes.set_title(f"{int(before[number])} → {int(after[number])}", fontsize=7, pad=2)
    share = [float((p.cpu() == y).float().mean()) for p in (before, after)]
    title = f"accuracy {share[0]:.2f} → {share[1]:.2f}; left: support, right: query"
    figure.suptitle(title, fontsize=8)
    return figure


def regression_figure(
    support: tuple[Tensor, Tensor],
    query: tuple[Tensor, Tensor],
    x: Tensor,
    before: Tensor,
    after: Tensor,
) -> Figure:
    """Draw a function of one number: its examples, and predictions before and after adapting.

    Args:
        support: x ``(S, 1)`` and y ``(S, 1)`` of the support examples.
        query: x and y of the query examples.
        x: where to predict, ``(n, 1)``.
        before: predictions without adapting, ``(n, 1)``.
        after: predictions after the last inner step, ``(n, 1)``.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    at = x[:, 0].cpu()
    axes.plot(at, before[:, 0].cpu(), color="0.6", label="before adapting")
    axes.plot(at, after[:, 0].cpu(), color="tab:blue", label="after adapting")
    axes.plot(*(v[:, 0].cpu() for v in query), "x", color="0.2", label="query")
    axes.plot(*(v[:, 0].cpu() for v in support), "o", color="tab:red", label="support")
    axes.set(xlabel="x", ylabel="y")
    axes.legend(loc="best", fontsize=8)
    return figure


def _show(axes: Axes, image: Tensor, frame: str = "none") -> None:
    axes.imshow(image.float().cpu().permute(1, 2, 0).numpy(), cmap="gray_r", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.set_axis_on()
    for spine in axes.spines.values():
        spine.set(color=frame, linewidth=2)
