"""W3 to W5: time the phases of MAML-TRPO and ProMP, on 20 tasks x 20 episodes x 100 steps."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.speed.loops import PolicyLoop, Sampler
from benchmarks.speed.machine import Rates, probes, race, seconds_at_least, summary
from benchmarks.speed.programs import of_program, programs_on
from benchmarks.stepping import bare_mj_step
from meta_rl.algorithms import algorithm
from meta_rl.assemble import build
from meta_rl.config import Config, EpisodesConfig, ProMPConfig, TRPOConfig
from meta_rl.inner.adaptation import adapt_to_tasks
from meta_rl.presets import PRESETS
from meta_rl.runs.learner import MetaLearner
from meta_rl.tasks import num_tasks, select

LOOPED = 2  # tasks of the reference; its seconds are scaled to all tasks

# The least passes and evaluations of tanh over all samples. A curvature product takes a second
# derivative of the support loss (6 passes), the network's tangent and its transpose on the query (2
# each), and the second derivative again; the activations are kept.
PASSES = {
    "rollout": (1, 1),
    "inner step": (3, 1),
    "outer gradient": (12, 2),
    "curvature product": (16, 0),
    "line-search trial": (4, 2),
    "epoch": (15, 3),
}


def trpo(preset: str) -> Config:
    """Return the preset with every iteration logged, because its metrics are read here.

    Observations are not normalized, as in the libraries that times are compared with.
    """
    config = PRESETS[preset]
    data = dataclasses.replace(config.data, normalize_observations=False)
    return dataclasses.replace(config, data=data, log_every=1)


def promp(preset: str) -> Config:
    """Return the same settings with ProMP."""
    return algorithm("promp", trpo(preset))


WORKS: dict[str, dict[str, tuple[Callable[[str], Config], str]]] = {
    "W3": {"MAML-TRPO, navigation-2d": (trpo, "navigation-2d")},
    "W4": {"MAML-TRPO, half-cheetah-direction": (trpo, "half-cheetah-direction")},
    "W5": {
        "ProMP, navigation-2d": (promp, "navigation-2d"),
        "ProMP, half-cheetah-direction": (promp, "half-cheetah-direction"),
    },
}


def measure(name: str, rounds: int, device: str) -> dict[str, Any]:
    """Measure all works of W3, W4 or W5."""
    program = programs_on(device)[-1]
    return {
        "program": program,
        "works": {
            title: work(of_program(make(preset), program), rounds, device)
            for title, (make, preset) in WORKS[name].items()
        },
    }


def work(config: Config, rounds: int, device: str) -> dict[str, Any]:
    """Time an iteration and its phases: ours, looped, and at the machine's rates."""
    learner = build(config, device)
    # Phases have their own learners: recorded data must not change while this one learns.
    phases, loop = ours(build(config, device)), Looped(build(config))
    rows: list[dict[str, float]] = []
    calls: dict[str, Callable[[], Any]] = {
        "iteration": lambda: rows.append(learner.iterate()),
        **phases,
        **{f"{name}, looped": call for name, call in loop.calls.items()},
        **probes(device),
    }
    cheetah = config.family.startswith("half-cheetah")
    bare_rows = 1
    if cheetah:
        bare_rows, calls["mj_step"], _ = bare_mj_step("HalfCheetah-v5", 500)
    seconds = race(calls, rounds, device)
    loop.close()
    rates = Rates.of(seconds)
    counts = counted(config, rows[1:])
    assert isinstance(config.data, EpisodesConfig)
    samples = counts["environment steps"] / counts["times"]["rollout"]
    problem: Any = learner.problem
    obs, act = problem.family.observation_space.shape[0], problem.family.action_space.shape[0]
    sizes = (obs, *config.network.hidden, act)
    fraction = getattr(config.outer, "curvature_fraction", 1.0)
    bare = bare_rows / statistics.median(seconds["mj_step"]) if cheetah else None
    scale = config.data.tasks / LOOPED
    table = {}
    for name in phases:
        share = fraction if name == "curvature product" else 1.0
        limit = seconds_at_least(rates, sizes, share * samples, *PASSES[name])
        if name == "rollout" and bare:
            limit += samples / bare
        per_task = config.data.tasks if name == "rollout" else scale
        table[name] = {
            "ours": summary(seconds[name]),
            "reference": summary(seconds[f"{name}, looped"], per_task),
            "limit": limit,
            "times": counts["times"][name],
        }
    whole = {
        which: sum(
            row["times"] * (row[which] if which == "limit" else row[which]["median"])
            for row in table.values()
        )
        for which in ("reference", "limit")
    }
    table = {
        "iteration": {
            "ours": summary(seconds["iteration"]),
            "reference": {"median": whole["reference"]},
            "limit": whole["limit"],
        },
        **table,
    }
    rate = samples / statistics.median(seconds["rollout"])
    counts |= {"environment steps a second in rollouts": round(rate)}
    machine = dataclasses.asdict(rates) | ({"mj_step": round(bare)} if bare else {})
    if bare:
        counts |= {"share of the bare mj_step rate in rollouts": round(rate / bare, 3)}
    learner.problem.close()
    return {"phases": table, "counts": counts, "machine": machine}


def counted(config: Config, rows: list[dict[str, float]]) -> dict[str, Any]:
    """Return the mean number of each phase in an iteration, and its environment steps."""

    def mean(key: str) -> float:
        return statistics.mean(row[key] for row in rows)

    steps = config.inner.steps
    times = {"rollout": steps + 1, "inner step": steps}
    if isinstance(config.outer, ProMPConfig):
        times |= {"epoch": config.outer.epochs}
    else:
        times |= {
            "outer gradient": 1,
            "curvature product": mean("train/cg_iterations"),
            "line-search trial": mean("train/line_search_trials"),
        }
    taken = statistics.mean(row["time/fps"] * row["time/seconds_iteration"] for row in rows)
    return {"times": times, "environment steps": round(taken)}


def ours(learner: MetaLearner) -> dict[str, Callable[[], Any]]:
    """Return the phases of our iteration, each alone, on recorded data."""
    # The problem is Reinforcement, the outer step TRPO or ProMP.
    parts: Any = learner.problem, learner.outer, learner.inner
    (problem, outer, inner), config, meta = parts, learner.config, learner.meta
    tasks = problem.sample_tasks(config.data.tasks, 0)
    *supports, query = adapt_to_tasks(problem, inner, meta, tasks, config.inner.steps, 0).batches
    adapt = torch.no_grad()(lambda: inner.adapted(meta, supports, len(tasks)))
    phi, episodes = adapt(), query.mask.shape[1]
    calls: dict[str, Callable[[], Any]] = {
        "rollout": lambda: problem.sampler.rollout(tasks, phi, episodes, 0),
        "inner step": adapt,
    }
    if isinstance(config.outer, ProMPConfig):
        given = meta, supports, query, outer._part
        return calls | {"epoch": lambda: inner.meta_gradient(*given)}
    product = outer._curvature(supports, query)
    vector = [torch.randn_like(leaf) for part in meta for leaf in part.values()]
    return calls | {
        "outer gradient": lambda: inner.meta_gradient(meta, supports, query),
        "curvature product": lambda: product(vector),
        "line-search trial": torch.no_grad()(lambda: outer._loss_and_kl(meta, supports, query)),
    }


class Looped:
    """The looped phases of the same iteration, on the first few tasks."""

    def __init__(self, learner: MetaLearner):
        config, problem = learner.config, learner.problem
        known: Any = problem
        tasks = problem.sample_tasks(config.data.tasks, 0)
        *supports, query = adapt_to_tasks(problem, learner.inner, learner.meta, tasks, 1, 0).batches
        few = [
            ([select(support, m) for support in supports], select(query, m)) for m in range(LOOPED)
        ]
        fraction = getattr(config.outer, "curvature_fraction", 1.0)
        theta, alpha = learner.meta.theta, config.inner.step_size
        loop = PolicyLoop(known, theta, few, alpha, fraction)
        self.sampler = Sampler(known, tasks[0], theta, query.mask.shape[1])
        assert num_tasks(query) == config.data.tasks
        self.calls = {"rollout": self.sampler.rollout, "inner step": loop.inner_step}
        if isinstance(config.outer, TRPOConfig):
            self.calls |= {
                "outer gradient": loop.outer_gradient,
                "curvature product": loop.curvature_product,
                "line-search trial": loop.line_search_trial,
            }
        else:
            self.calls |= {"epoch": loop.promp_epoch}

    def close(self) -> None:
        """End the workers."""
        self.sampler.env.close()
