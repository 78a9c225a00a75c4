"""The metrics of one iteration, by their TensorBoard tags."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from meta_rl.inner.meta_batch import MetaBatch
from meta_rl.machine import parallel
from meta_rl.outer.step import Outcome
from meta_rl.problem import Problem
from meta_rl.problems.success import counted

Metrics = dict[str, float]


def iteration_metrics(problem: Problem, outcome: Outcome) -> Metrics:
    """Return the metrics of one iteration's outer step and data.

    Args:
        problem: the problem to learn, before it learns from the data.
        outcome: the outer step's outcome, whose adaptation has scores.
    """
    adaptation: Any = outcome.adaptation
    return {
        **{key: float(value) for key, value in outcome.metrics.items()},
        **_statistics(problem, adaptation.query),
        **_summary(problem, adaptation.scores.mean(1)),
        **_success(adaptation.success),
    }


def time_metrics(batch: MetaBatch, samples: int, seconds: float) -> Metrics:
    """Return the metrics of one iteration's duration.

    Args:
        batch: the iteration's meta-batch.
        samples: environment steps or examples of the iteration, over all processes.
        seconds: duration of the iteration.
    """
    return {
        "time/seconds_collect": batch.seconds,
        "time/seconds_outer": seconds - batch.seconds,
        "time/seconds_iteration": seconds,
        "time/fps": samples / seconds,
        "time/fps_collect": samples / max(batch.seconds, 1e-9),
    }


def _statistics(problem: Problem, query: Any) -> Metrics:
    """Return the problem's statistics of the query batch, averaged over its blocks if any."""
    blocks = [problem.statistics(block) for _, block in parallel.blocks_of([], query)]
    if len(blocks) == parallel.ranks() == 1 or not blocks[0]:
        return {name: float(value) for name, value in blocks[0].items()}
    held = [[torch.tensor([float(v) for v in block.values()])] for block in blocks]
    mean = parallel.add(held)[0] / (len(blocks) * parallel.ranks())
    return dict(zip(blocks[0], mean.tolist(), strict=True))


def _summary(problem: Problem, scores: Tensor) -> Metrics:
    steps = [float(score) for score in scores]
    name, sign = problem.score_name, 1 if problem.maximizes else -1
    summary = {f"meta/{name}_step_{k}": value for k, value in enumerate(steps)}
    summary |= {f"meta/{name}_pre": steps[0], f"meta/{name}_post": steps[-1]}
    summary["meta/gain"] = sign * (steps[-1] - steps[0])
    if problem.kind == "episodes":
        summary["rollout/ep_rew_mean"] = steps[-1]
    return summary


def _success(rates: Tensor | None) -> Metrics:
    """Return mean success rates after each inner step; nothing if no environment tells success."""
    known = counted(rates)
    if known is None:
        return {}
    steps = [float(rate) for rate in known.mean(1)]
    summary = {f"meta/success_rate_step_{k}": value for k, value in enumerate(steps)}
    return {**summary, "rollout/success_rate": steps[-1]}
