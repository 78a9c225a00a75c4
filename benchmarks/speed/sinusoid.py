"""W1: time the MAML paper's sinusoid; 25 tasks, 10 shots, 10 queries, a network 1-40-40-1."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import make_fx

from benchmarks.speed import loops
from benchmarks.speed.machine import Rates, probes, race, seconds_at_least, summary
from meta_rl.assemble import build
from meta_rl.inner.adaptation import adapt_to_tasks
from meta_rl.inner.recording import slimmed
from meta_rl.machine.threads import one_thread
from meta_rl.presets import PRESETS
from meta_rl.tasks import select

ALPHA, SIZES = 0.01, (1, 40, 40, 1)


def measure(rounds: int, device: str) -> dict[str, Any]:
    """Time 1 and 5 inner steps, second and first order, on one thread, best for such sizes."""
    with one_thread():
        works = {
            f"{steps} step{'s' * (steps > 1)}, {'first' if first else 'second'} order": work(
                steps, first, 20 * rounds, device
            )
            for first in (False, True)
            for steps in (1, 5)
        }
    return {"works": works}


def work(steps: int, first_order: bool, rounds: int, device: str) -> dict[str, Any]:
    """Time a whole iteration and the meta-gradient alone, and compute the limit."""
    preset = PRESETS["sinusoid"]
    inner = dataclasses.replace(
        preset.inner, steps=steps, learn_step_size=False, first_order=first_order
    )
    config = dataclasses.replace(preset, inner=inner, log_every=10**9)
    learner = build(config, device)
    problem, meta = learner.problem, learner.meta
    loop: Any = learner.inner
    plain = dataclasses.replace(loop, recorded=False)
    tasks = problem.sample_tasks(config.data.tasks, 0)
    *supports, query = adapt_to_tasks(problem, learner.inner, meta, tasks, steps, 0).batches
    calls: dict[str, Callable[[], Any]] = {
        "iteration": learner.iterate,
        "iteration, looped": looped(problem, meta.theta, steps, first_order),
        "meta-gradient": lambda: loop.meta_gradient(meta, supports, query),
        "meta-gradient, looped": task_by_task(problem, meta.theta, supports, query, first_order),
        "meta-gradient, not recorded": lambda: plain.meta_gradient(meta, supports, query),
        **probes(device),
    }
    seconds = race(calls, rounds, device)
    rates = Rates.of(seconds)
    share = partial(loop.share, tasks=len(tasks))
    program = slimmed(make_fx(share)(meta, [*supports, query]))
    operations = sum(node.op.startswith("call") for node in program.graph.nodes)
    samples = query.y.shape[0] * query.y.shape[1]
    # A step takes 3 passes for its gradient, and 6 more for its backward pass; then comes the
    # query's gradient.
    passes = (3 if first_order else 9) * steps + 3
    arithmetic = seconds_at_least(rates, SIZES, samples, passes, 0)
    limit = arithmetic + operations / rates.operation
    phases = {
        name: {
            "ours": summary(seconds[name]),
            "reference": summary(seconds[f"{name}, looped"]),
            "limit": limit,
        }
        for name in ("iteration", "meta-gradient")
    }
    phases["meta-gradient, not recorded"] = {
        "ours": summary(seconds["meta-gradient, not recorded"])
    }
    counts = {"operations": operations, "arithmetic alone": arithmetic}
    return {"phases": phases, "counts": counts, "machine": dataclasses.asdict(rates)}


def task_by_task(problem: Any, theta: Any, supports: Any, query: Any, first_order: bool) -> Any:
    """Return a function that computes the looped meta-gradient on recorded data."""
    leaves = loops.leaves_of(theta)
    return lambda: _gradient(problem, leaves, supports, query, first_order)


def looped(problem: Any, theta: Any, steps: int, first_order: bool) -> Callable[[], None]:
    """Return a function that runs a whole iteration: tasks, examples, meta-gradient, Adam."""
    leaves = loops.leaves_of(theta)
    optimizer = torch.optim.Adam(leaves.values(), 1e-3)

    def iteration() -> None:
        tasks = problem.sample_tasks(25, 0)
        support = problem.collect(tasks, [], dict, 0, False)
        query = problem.collect(tasks, [], dict, 0, True)
        _gradient(problem, leaves, [support] * steps, query, first_order)
        optimizer.step()

    return iteration


def _gradient(problem: Any, leaves: Any, supports: Any, query: Any, first_order: bool) -> None:
    tasks = [
        ([select(support, m) for support in supports], select(query, m))
        for m in range(len(query.x))
    ]
    loops.meta_gradient(problem.loss, problem.loss, leaves, tasks, ALPHA, first_order)
