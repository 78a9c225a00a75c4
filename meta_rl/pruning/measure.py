"""Measure pruned learners: scores after adaptation and latencies, as a table and a curve."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from meta_rl import seeds
from meta_rl.inner.adaptation import adapt_to_tasks
from meta_rl.machine.threads import one_thread
from meta_rl.plots.pictures import encoded
from meta_rl.problems.adapted import AdaptedPolicy
from meta_rl.pruning import criteria as pruning
from meta_rl.pruning.smaller import hidden_layers
from meta_rl.runs.learner import MetaLearner
from meta_rl.statistics import margin
from meta_rl.storage import files
from meta_rl.text_tables import aligned

ROUNDS, CALLS = 11, {"predict": 50, "adapt": 3}


@dataclass(kw_only=True)
class Measured:
    """One learner's size, scores after 0..K inner steps, and latencies on one processor."""

    name: str
    units: list[int]  # units of each hidden layer
    parameters: int
    iteration: int
    scores: list[float]  # mean over held-out tasks
    margins: list[float]  # half of the mean's 95 % interval
    last: list[float]  # the score of each held-out task after K inner steps
    predict: float = float("nan")  # seconds of one predict() of one input, median
    adapt: float = float("nan")  # seconds of one inner step on collected data, median
    run: str = ""


def measure(learner: MetaLearner, name: str, tasks: int) -> Measured:
    """Measure a learner's size and scores; learners of one seed get the same held-out tasks."""
    config, layers = learner.config, hidden_layers(learner)
    steps = max(config.eval.steps, config.inner.steps)
    held_out = learner.held_out_tasks(tasks, final=True)
    scores = learner.evaluate(held_out, steps, seeds.derive(config.seed, seeds.EVALUATION, 2))
    return Measured(
        name=name,
        **pruning.sizes(layers, learner.meta.theta),
        iteration=learner.iteration,
        scores=scores.mean(1).tolist(),
        margins=margin(scores.numpy()).tolist(),
        last=scores[-1].tolist(),
    )


def time_in_turns(learners: Sequence[MetaLearner], measured: Sequence[Measured]) -> None:
    """Fill in latencies: medians of rounds in which learners take turns, to have the same noise.

    All run on one thread. ``predict`` takes one input. An inner step adapts to one task, on data
    collected before.
    """
    calls = [{"predict": _predict(one), "adapt": _inner_step(one)} for one in learners]
    seconds: list[dict[str, list[float]]] = [{kind: [] for kind in CALLS} for _ in learners]
    with one_thread():
        for round in range(ROUNDS + 1):
            for own, taken in zip(calls, seconds, strict=True):
                for kind, repeats in CALLS.items():
                    spent = _per_call(own[kind], repeats)
                    if round > 0:  # the first round only warms up
                        taken[kind].append(spent)
    for one, taken in zip(measured, seconds, strict=True):
        one.predict, one.adapt = (statistics.median(taken[kind]) for kind in CALLS)


def _predict(learner: MetaLearner) -> Callable[[], Any]:
    model = learner.problem.deploy(learner.meta.theta, (), {})
    if isinstance(model, AdaptedPolicy):
        zeros = np.zeros(model.obs_shape, np.float32)
        obs = zeros if model.space is None else model.space.sample()
        return lambda: model.predict(obs, deterministic=True)
    inputs = np.zeros((1, *model.input_shape), np.float32)
    return lambda: model.predict(inputs)


def _inner_step(learner: MetaLearner) -> Callable[[], Any]:
    given = (learner.problem, learner.inner, learner.deployed, learner.held_out_tasks(1))
    supports = adapt_to_tasks(*given, 1, seed=0).supports

    @torch.no_grad()
    def step() -> Any:
        return learner.inner.adapt(learner.deployed, supports, 1)

    return step


def _per_call(call: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def change(one: Measured, other: Measured) -> tuple[float, float]:
    """Return the gain of ``one`` over ``other`` in percent, and half of its 95 % interval.

    Scores are compared task by task, because a hard task is hard for both. The gain is not a number
    if the mean of ``other`` is 0.
    """
    whole = abs(np.mean(other.last)) or np.nan
    percent = 100 * np.subtract(one.last, other.last) / whole
    return float(percent.mean()), float(margin(percent))


def table(measured: Sequence[Measured], score_name: str) -> str:
    """Return a table for the terminal, with a line for each learner."""
    steps = len(measured[0].scores) - 1
    score = f"{score_name} after {steps}"
    head = ["", "units", "numbers", score, "change", "predict", "inner step"]
    rows = [
        [
            one.name,
            " ".join(map(str, one.units)),
            f"{one.parameters:,}",
            f"{one.scores[-1]:.4g} ± {one.margins[-1]:.2g}",
            "" if np.isnan(more) else f"{more:+.1f} % ± {half:.1f}",
            f"{1e6 * one.predict:.0f} us",
            f"{1e3 * one.adapt:.2f} ms",
        ]
        for one in measured
        for more, half in [change(one, measured[0])]
    ]
    return aligned((head, rows))


def curve(measured: Sequence[Measured], score_name: str) -> Figure:
    """Draw scores after adaptation, with their 95 % intervals, against each latency."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    latencies = (("predict", 1e6, "microseconds"), ("adapt", 1e3, "milliseconds"))
    titles = ("one predict()", "one inner step")
    for axes, (kind, scale, unit), title in zip(panels, latencies, titles, strict=True):
        for one in measured:
            at = scale * getattr(one, kind)
            axes.errorbar(at, one.scores[-1], one.margins[-1], marker="o", capsize=3)
            axes.annotate(one.name, (at, one.scores[-1]), (5, 5), textcoords="offset points")
        axes.set(xlabel=f"{title}, {unit}", xlim=(0, 1.3 * axes.dataLim.xmax))  # room for names
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(f"{score_name} after {len(measured[0].scores) - 1} inner steps")
    return figure


def record(folder: Path, measured: Sequence[Measured], settings: dict[str, Any], unit: str) -> None:
    """Write ``pruning.json`` and ``pruning.png``."""
    content = {"settings": settings, "score": unit, "measured": [asdict(one) for one in measured]}
    files.write_json(folder / "pruning.json", content)
    files.write(folder / "pruning.png", encoded(curve(measured, unit), dpi=120))
