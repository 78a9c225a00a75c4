"""Draw the paths of points to a goal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from meta_rl.types import Trajectory

SHOWN = 5  # episodes before and after


def paths_figure(
    goal: np.ndarray, before: Sequence[Trajectory], after: Sequence[Trajectory], reach: float
) -> Figure:
    """Draw the first episodes before adapting in grey and after it in colour; the goal is a star.

    Args:
        goal: the goal's position ``(2,)``.
        before: episodes before adapting, whose observations are positions.
        after: episodes after adapting.
        reach: the largest move along each axis, to which actions are clipped.
    """
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot()
    for episodes, colour, label in ((before, "0.6", "before"), (after, "tab:blue", "after")):
        for i, episode in enumerate(episodes[:SHOWN]):
            last = episode.obs[-1] + np.clip(episode.action[-1], -reach, reach)
            x, y = np.vstack([episode.obs, last]).T
            name = f"{label} adapting" if i == 0 else None
            axes.plot(x, y, color=colour, linewidth=1.2, alpha=0.8, label=name)
            axes.plot(x[0], y[0], "o", color=colour, markersize=4)
            axes.plot(x[-1], y[-1], "s", color=colour, markersize=5)
    axes.plot(*goal, "*", color="tab:red", markersize=16, label="goal", zorder=3)
    axes.set(xlabel="x", ylabel="y", title="o start, square: end of the episode")
    axes.set_aspect("equal", "datalim")
    axes.grid(alpha=0.3)
    axes.legend(loc="best", fontsize=8)
    return figure
