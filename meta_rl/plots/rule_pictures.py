"""Draw the learned update rule of the inner loop: step sizes, schedules, mixtures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from meta_rl.config import InnerConfig
from meta_rl.inner import schedules
from meta_rl.naming import figure_text, part_of
from meta_rl.types import Params

History = Sequence[tuple[int, Mapping[str, np.ndarray]]]
"""Pairs of an iteration and the rule's numbers then: by name one number, or one per inner step."""

WEIGHT = "choice."


def means(shown: Params, config: InnerConfig) -> dict[str, np.ndarray]:
    """Return the mean of each of the rule's tensors, ``(1,)`` or one per inner step.

    Args:
        shown: the tensors that ``Rule.step_sizes`` returns.
        config: the inner loop's settings.
    """
    found = {}
    for name, value in shown.items():
        by_step = config.per_step and value.ndim > 0 and "step_size" in name
        rows = value.flatten(1) if by_step and value.ndim > 1 else value.reshape(-1, 1)
        found[name] = (rows if by_step else value.reshape(1, -1)).mean(1).cpu().double().numpy()
    return found


def rule_figure(history: History, config: InnerConfig, learned: Params) -> Figure:
    """Draw step sizes over training and by inner step, mixture weights and the learned schedule.

    Step sizes by inner step are the latest, multiplied by a fixed schedule. They are drawn only if
    inner steps differ.

    Args:
        history: the numbers of :func:`means`, the latest last; one entry or more.
        config: the inner loop's settings.
        learned: the rule's current tensors.
    """
    latest = history[-1][1]
    panels: list[Callable[[Axes], None]] = [lambda axes: _over_training(axes, history)]
    if config.steps > 1 and (config.per_step or config.schedule not in ("constant", "learned")):
        panels.append(lambda axes: _by_step(axes, latest, config))
    if any(name.startswith(WEIGHT) for name in latest):
        panels.append(lambda axes: _weights(axes, history))
    if config.schedule == "learned":
        best = max(_weights_of(latest), default=None, key=lambda one: one[1])
        network = part_of(best[0], learned) if best else learned
        panels.append(lambda axes: _response(axes, network, config.steps))
    figure = Figure(figsize=(5.5 * len(panels), 4), layout="constrained")
    for axes, draw in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        draw(axes)
    return figure


def _over_training(axes: Axes, history: History) -> None:
    """Draw step sizes over training: a colour for each tensor, paler for later inner steps."""
    iterations = [iteration for iteration, _ in history]
    names = _step_sizes(history[-1][1])
    for i, name in enumerate(names):
        lines = np.array([shown[name] for _, shown in history])  # (iterations, steps)
        for k in range(lines.shape[1]):
            label = _short(name) + (", later inner steps paler" if lines.shape[1] > 1 else "")
            label = label if k == 0 else None
            strength = 1 - 0.7 * k / lines.shape[1]
            axes.plot(iterations, lines[:, k], color=f"C{i % 10}", alpha=strength, label=label)
    everything = np.concatenate([shown[name] for _, shown in history for name in names])
    if everything.min() > 0 and everything.max() > 3 * everything.min():
        axes.set_yscale("log")
    axes.set(xlabel="iteration", ylabel="mean step size", title="step sizes over training")
    axes.legend(fontsize=7, loc="best")


def _by_step(axes: Axes, latest: Mapping[str, np.ndarray], config: InnerConfig) -> None:
    """Draw the latest step sizes: a row for each tensor, a column for each inner step."""
    names = _step_sizes(latest)
    factors = np.array([schedules.factor(config, k) for k in range(config.steps)])
    table = np.array([np.broadcast_to(latest[name], config.steps) * factors for name in names])
    axes.imshow(table, aspect="auto", cmap="Blues")
    middle = (table.min() + table.max()) / 2
    for (row, k), value in np.ndenumerate(table):
        colour = "white" if value > middle else "black"
        axes.text(k, row, f"{value:.2g}", ha="center", va="center", color=colour, fontsize=7)
    axes.set(xticks=range(config.steps), xlabel="inner step", title="step size now")
    axes.set_yticks(range(len(names)), [_short(name) for name in names], fontsize=7)


def _weights(axes: Axes, history: History) -> None:
    """Draw the weights of a mixture's rules over training."""
    iterations = [iteration for iteration, _ in history]
    names = [name for name, _ in _weights_of(history[-1][1])]
    shares = [[float(shown[WEIGHT + name][0]) for _, shown in history] for name in names]
    axes.stackplot(iterations, shares, labels=names, alpha=0.8)
    axes.set(xlabel="iteration", ylabel="weight", ylim=(0, 1), title="mixture of rules")
    axes.legend(fontsize=7, loc="best")


def _response(axes: Axes, network: Params, steps: int) -> None:
    """Draw a learned schedule's outputs at every inner step, by the size of the gradient.

    The loss is 0, and the tensor's entries have root mean square 0.1.
    """
    sizes = np.logspace(-4, 1, 50)
    like = network["schedule.0.bias"].detach()
    network = {name: value.detach() for name, value in network.items()}
    for k in range(steps):
        outputs = [
            schedules.learned(
                network, k, steps, like.new_zeros(()), {"": like.new_full((1,), 0.1)},
                {"": like.new_full((1,), size)},
            )[""]
            for size in sizes
        ]  # fmt: skip
        multiplier, decay = torch.stack([torch.stack(pair) for pair in outputs], 1).cpu().numpy()
        axes.plot(sizes, multiplier, color=f"C{k % 10}", label=f"step {k}: multiplier")
        axes.plot(sizes, decay, color=f"C{k % 10}", linestyle=":", label=f"step {k}: decay")
    axes.set(xscale="log", xlabel="root mean square of the gradient", title="learned schedule")
    axes.legend(fontsize=7, loc="best")


def _step_sizes(shown: Mapping[str, np.ndarray]) -> list[str]:
    return [name for name in shown if "step_size" in name]


def _weights_of(shown: Mapping[str, np.ndarray]) -> list[tuple[str, float]]:
    chosen = [name for name in shown if name.startswith(WEIGHT)]
    return [(name.removeprefix(WEIGHT), float(shown[name][0])) for name in chosen]


def _short(name: str) -> str:
    """Return ``hidden.0.weight`` for ``step_size.hidden.0.weight``, ``adam`` for its step size."""
    parts = (part for part in name.split(".") if part != "step_size")
    return figure_text(".".join(parts)) or "all"
