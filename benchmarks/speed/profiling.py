"""Where the time of a MAML-TRPO iteration goes: its phases, and the kinds of operations in each."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.speed import policies
from benchmarks.speed.machine import race
from benchmarks.speed.programs import PROGRAMS, of_program
from meta_rl.assemble import build
from meta_rl.config import Config
from meta_rl.inner.adaptation import adapt_to_tasks

OPERATIONS = {
    "tanh": "tanh tanh_backward",
    "matrix products": "mm bmm addmm baddbmm",
    "sums": "sum mean amax max any all linalg_vector_norm cumsum",
    "copies": "copy_ cat clone fill_ zero_ zeros_like index_select",
    "random numbers": "normal_ uniform_ random_",
    "linear solves": "linalg_cholesky_ex cholesky_solve",
    "views": "view _unsafe_view reshape as_strided t transpose permute expand unsqueeze squeeze "
    "select slice split unbind alias detach empty empty_like empty_strided resize_",
}
"""The names of torch's operations by kind; any other is elementwise."""
KINDS = {f"aten::{name}": kind for kind, names in OPERATIONS.items() for name in names.split()}
OUTSIDE = "outside torch's operations"


def measure(name: str, rounds: int, device: str) -> dict[str, Any]:
    """Profile the first work of W3 or W4, by each of our programs."""
    (title, (make, preset)), *_ = policies.WORKS[name].items()
    config = make(preset)
    return {
        "profile": {
            f"{title}, {program}": work(of_program(config, program), rounds, device)
            for program in PROGRAMS
        }
    }


def work(config: Config, rounds: int, device: str) -> dict[str, Any]:
    """Return for each phase its times in an iteration, its seconds, and the kinds' shares.

    Seconds are medians without the profiler, which slows small operations.
    """
    learner, phased = build(config, device), build(config, device)
    rows: list[dict[str, float]] = []
    calls = {
        "iteration": lambda: rows.append(learner.iterate()),
        **policies.ours(phased),
        **between(phased),
    }
    seconds = {name: statistics.median(s) for name, s in race(calls, rounds, device).items()}
    times = policies.counted(config, rows[1:])["times"] | {"advantages": 2, "curvature's graphs": 1}
    found = {
        name: {"times": times.get(name, 1), "seconds": float(f"{seconds[name]:.4g}"), **kinds(call)}
        for name, call in calls.items()
    }
    learner.problem.close()
    phased.problem.close()
    return found


def between(learner: Any) -> dict[str, Callable[[], Any]]:
    """Return what an iteration does between the phases of :func:`policies.ours`."""
    problem, outer, meta, config = learner.problem, learner.outer, learner.meta, learner.config
    tasks = problem.sample_tasks(config.data.tasks, 0)
    batches = adapt_to_tasks(problem, learner.inner, meta, tasks, config.inner.steps, 0).batches
    *supports, query = batches
    phi = learner.inner.adapt(meta, supports, len(tasks))
    rollout = problem.sampler.rollout(tasks, phi, config.data.episodes, 0)
    return {
        "advantages": torch.no_grad()(lambda: problem.advantages.of(rollout)),
        "curvature's graphs": lambda: outer._curvature(supports, query),
    }


def kinds(call: Callable[[], Any], repeats: int = 3) -> dict[str, Any]:
    """Return the share of each kind of operation in a call's seconds.

    What no operation of torch takes is Python, the dispatch of operations, compiled kernels, and
    simulators.
    """
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        wall = time.perf_counter() - start
    shares: dict[str, float] = {}
    for event in recorded.key_averages():
        if event.key.startswith("aten::"):
            kind = KINDS.get(event.key, "elementwise")
            shares[kind] = shares.get(kind, 0.0) + event.self_cpu_time_total / 1e6 / wall
    shares[OUTSIDE] = 1 - sum(shares.values())
    return {"shares": {kind: float(f"{share:.3f}") for kind, share in shares.items()}}
