"""Seconds per meta-iteration of MAML-TRPO on 2-D navigation, by phase.

    python -m benchmarks.meta_iteration

20 tasks x 20 episodes x 100 steps before and after one inner step, policy 2-64-64-2: the work that
docs/benchmarks.md compares with other libraries. Beside the preset, the same with the curvature on
all episodes, and the environment alone. Writes ``benchmarks/results/meta-iteration.json``.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.provenance import write
from envs import Navigation2D
from meta_rl.config import Config, TRPOConfig
from meta_rl.trial import collect
from presets import PRESETS, build, resolve_device

PHASES = ("seconds_collect", "seconds_outer", "seconds_iteration")


def iterations(config: Config, count: int, device: str) -> dict[str, Any]:
    """Medians over ``count`` iterations after two to warm up."""
    learner = build(config, device)
    rows = [learner.iterate() for _ in range(count + 2)][2:]
    phases = {phase: [row[f"time/{phase}"] for row in rows] for phase in PHASES}
    return {
        **{phase: summary(values) for phase, values in phases.items()},
        "env_steps": round(
            statistics.median(r["time/fps"] * r["time/seconds_iteration"] for r in rows)
        ),
        "line_search_trials": statistics.mean(row["train/line_search_trials"] for row in rows),
        **pieces(learner, count),
    }


def pieces(learner: Any, count: int) -> dict[str, Any]:
    """The parts of an iteration alone, on recorded data."""
    steps, tasks = learner.config.inner.steps, learner.problem.sample_tasks(20, 0)
    *supports, query = collect(learner.problem, learner.inner, learner.meta, tasks, steps, 0)
    with torch.no_grad():
        phi = learner.inner.adapt(learner.meta, supports, 20)
    problem, outer = learner.problem, learner.outer
    product = outer._curvature(supports, query)
    vector = [torch.randn_like(leaf) for part in learner.meta for leaf in part.values()]
    episodes = learner.config.data.episodes
    timed: dict[str, Callable[[], Any]] = {
        "rollout": lambda: problem.rollout(tasks, phi, episodes, 0),
        "inner_step": lambda: learner.inner.adapt(learner.meta, supports, 20),
        "outer_gradient": lambda: learner.inner.meta_gradient(learner.meta, supports, query),
        "curvature_product": lambda: product(vector),
        "line_search_trial": lambda: outer._loss_and_kl(learner.meta, supports, query),
    }
    return {f"seconds_{name}": summary(times(call, count)) for name, call in timed.items()}


def stepping(count: int, device: str) -> dict[str, Any]:
    """The environment alone: 400 rows x 100 steps with given actions."""
    family = Navigation2D()
    tasks = family.sample_tasks(20, 0)
    env = family.make_vec(20, 20, device=device, dtype=torch.float32)
    action = 0.1 * torch.randn(20, 20, 2, device=device)

    def episode() -> None:
        env.reset(tasks, 0)
        for _ in range(family.horizon):
            env.step(action)

    return {"seconds_rollout": summary(times(episode, count))}


def times(call: Callable[[], Any], count: int) -> list[float]:
    """Seconds of each of ``count`` calls after one to warm up."""
    call()
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds


def summary(values: list[float]) -> dict[str, float]:
    """Median and range, rounded to a tenth of a millisecond."""
    numbers = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, 4) for name, value in numbers.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    device = resolve_device(args.device)
    preset = dataclasses.replace(PRESETS["navigation-2d"], log_every=1)
    assert isinstance(preset.outer, TRPOConfig)
    whole = dataclasses.replace(preset.outer, curvature_fraction=1.0)
    result = {
        "preset": iterations(preset, args.iterations, device),
        "curvature on all episodes": iterations(
            dataclasses.replace(preset, outer=whole), args.iterations, device
        ),
        "environment alone": stepping(args.iterations, device),
    }
    for name, values in result.items():
        print(name)
        for phase, value in values.items():
            print(f"  {phase:24} {value['median'] if isinstance(value, dict) else value}")
    suffix = "" if device == "cpu" else f"-{device}"
    print(write(f"meta-iteration{suffix}", {"iterations": args.iterations, "work": result}))


if __name__ == "__main__":
    main()
