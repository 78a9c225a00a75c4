"""W1: time the MAML paper's sinusoid; 25 tasks, 10 shots, 10 queries, a network 1-40-40-1.

Our programs and JAX's run in blocks of ten iterations.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import make_fx

from benchmarks.speed import loops
from benchmarks.speed.machine import Rates, probes, seconds_at_least, summary
from benchmarks.speed.programs import (
    JAX,
    Arm,
    chained,
    contest,
    of_program,
    peer,
    programs_on,
    repeated,
)
from meta_rl.assemble import build
from meta_rl.config import Config
from meta_rl.inner.adaptation import adapt_to_tasks
from meta_rl.inner.graphs import slimmed
from meta_rl.machine.threads import one_thread
from meta_rl.presets import PRESETS
from meta_rl.tasks import select
from meta_rl.types import Params

ALPHA, SIZES = 0.01, (1, 40, 40, 1)
BLOCK = 10  # iterations in a row, so that JAX can queue them


def measure(rounds: int, device: str) -> dict[str, Any]:
    """Time 1 and 5 inner steps, second and first order, on one thread, best for such sizes.

    JAX has its default threads.
    """
    works, beside = {}, {}
    with one_thread():
        for first_order in (False, True):
            for steps in (1, 5):
                order = "first" if first_order else "second"
                title = f"{steps} step{'s' * (steps > 1)}, {order} order"
                works[title], phases = work(steps, first_order, 10 * rounds, device)
                beside |= {f"{title}: {phase}": row for phase, row in phases.items()}
    programs = {"ours": programs_on(device)[-1], "jax": peer(device), "rows": beside}
    return {"program": programs["ours"], "works": works, "programs": programs}


def work(
    steps: int, first_order: bool, rounds: int, device: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Time a whole iteration and the meta-gradient alone, and compute the limit.

    Returns:
        Our phases beside the loop and the limit, and all programs beside each other.
    """
    preset = PRESETS["sinusoid"]
    inner = dataclasses.replace(
        preset.inner, steps=steps, learn_step_size=False, first_order=first_order
    )
    config = dataclasses.replace(preset, inner=inner, log_every=10**9)
    learner = build(config, device)
    problem, meta = learner.problem, learner.meta
    loop: Any = learner.inner
    tasks = problem.sample_tasks(config.data.tasks, 0)
    *supports, query = adapt_to_tasks(problem, learner.inner, meta, tasks, steps, 0).batches
    names = programs_on(device)
    arms = {name: ours(of_program(config, name), supports, query, device) for name in names}
    if "version" in peer(device):
        arms[JAX] = compiled_by_jax(steps, first_order, meta.theta, supports, query)
    others: dict[str, Callable[[], Any]] = {
        "iteration": looped(problem, meta.theta, steps, first_order),
        "meta-gradient": task_by_task(problem, meta.theta, supports, query, first_order),
        **probes(device),
    }
    beside, seconds = contest(arms, others, rounds, device, BLOCK)
    rates = Rates.of(seconds)
    share = partial(loop.gradient_part, tasks=len(tasks))
    program = slimmed(make_fx(share)(meta, [*supports, query]))
    operations = sum(node.op.startswith("call") for node in program.graph.nodes)
    samples = query.y.shape[0] * query.y.shape[1]
    # A step takes 3 passes for its gradient, and 6 more for its backward pass; then comes the
    # query's gradient.
    passes = (3 if first_order else 9) * steps + 3
    arithmetic = seconds_at_least(rates, SIZES, samples, passes, 0)
    phases = {
        name: {
            "ours": beside[name]["seconds"][names[-1]],
            "reference": summary(seconds[name]),
            "limit": arithmetic + operations / rates.operation,
        }
        for name in ("iteration", "meta-gradient")
    }
    counts = {"operations": operations, "arithmetic alone": arithmetic}
    found = {"phases": phases, "counts": counts, "machine": dataclasses.asdict(rates)}
    return found, beside


def ours(config: Config, supports: Any, query: Any, device: str) -> Arm:
    """Return the phases of one of our programs."""
    learner = build(config, device)
    loop: Any = learner.inner
    return {
        "iteration": repeated(learner.iterate),
        "meta-gradient": repeated(lambda: loop.meta_gradient(learner.meta, supports, query)),
    }


def compiled_by_jax(steps: int, first_order: bool, theta: Params, supports: Any, query: Any) -> Arm:
    """Return the same phases in JAX, from the same parameters."""
    import jax  # pyright: ignore[reportMissingImports]

    from benchmarks.speed import jax_networks, jax_sinusoid

    layers = jax_networks.layers_of(theta)
    batch = jax_sinusoid.Batch(*map(jax_networks.array, (*supports[0], *query)))
    settings = steps, ALPHA, first_order
    iterate = jax.jit(jax_sinusoid.iteration(*settings))
    gradient = jax.jit(jax_sinusoid.meta_gradient(*settings))
    wait = jax.block_until_ready
    return {
        "iteration": chained(iterate, jax_sinusoid.initial(layers), wait),
        "meta-gradient": repeated(lambda: gradient(layers, batch), wait),
    }


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
