"""Runs of all algorithms on one family with the same environment steps of meta-training.

They are the last entries of the queue of ``benchmarks.reproduce``:

    python -m benchmarks.reproduce --only equal

Every run ends in the first iteration that reaches its family's environment steps. PPO from scratch
has no meta-training: it learns each held-out task with as many steps as adapting takes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.reproduce_list import BOTH, RANDOM_PARAMETERS, Protocol, Run, seeds
from benchmarks.reproduce_results import describe, rounded, tasks_of
from meta_rl import agents
from meta_rl.assemble import build
from meta_rl.families.row import Row

LABEL = "equal"
HYPERNETWORK = "rl2-hypernetwork"  # our RL2, whose state generates the head
CAP = 100_000  # iterations; the environment steps end a run long before
ALL = ("maml", "anil", "promp", "rl2", HYPERNETWORK, "varibad", "pretrain", "oracle")
ON_ROBOTS = ("maml", "rl2", HYPERNETWORK, "varibad", "pretrain", "oracle")
CHEAP_STEPS, CHEETAH_STEPS, WALKER_STEPS = 2_000_000, 3_000_000, 2_000_000
REMEMBER = ("rl2", HYPERNETWORK, "varibad")
HELD_OUT = (Protocol(),)
SHORT = RANDOM_PARAMETERS[:1]


def arms(
    preset: str,
    algorithms: Sequence[str],
    samples: int,
    seconds: tuple[float, float],
    protocols: tuple[Protocol, ...] = HELD_OUT,
    count: int = 3,
) -> list[Run]:
    """Return the runs of one family, with this number of seeds.

    Args:
        preset: the preset.
        algorithms: names of meta_rl.ALGORITHMS, or HYPERNETWORK.
        samples: environment steps of meta-training.
        seconds: processor seconds of a run, and of one whose policy remembers.
        protocols: how to score the runs.
        count: number of seeds.
    """
    shared: dict[str, Any] = {"protocols": protocols, "iterations": CAP, "samples": samples}
    named: dict[str, dict[str, Any]] = {
        name: {"algorithm": name, "label": LABEL} for name in algorithms
    }
    if HYPERNETWORK in named:
        head = {"network.head": "hypernetwork"}
        named[HYPERNETWORK] = {
            "algorithm": "rl2",
            "changes": head,
            "label": f"hypernetwork_{LABEL}",
        }
    return [
        run
        for name, own in named.items()
        for run in seeds(count, preset, seconds=seconds[name in REMEMBER], **own, **shared)
    ]


def scratch(preset: str, seconds: float, count: int = 3) -> list[Run]:
    """Return the runs of PPO from scratch on a preset's held-out tasks."""
    given: dict[str, Any] = {"iterations": 1, "scratch": True, "label": LABEL}
    return seeds(count, preset, protocols=HELD_OUT, seconds=seconds, **given)


CHEAP = ("navigation-2d", "navigation-corner", "navigation-semicircle", "cartpole", "pendulum")
EQUAL: Sequence[Run] = (
    *(run for name in CHEAP for run in arms(name, ALL, CHEAP_STEPS, (40.0, 180.0))),
    *(run for name in CHEAP for run in scratch(name, 150.0)),
    *arms("half-cheetah-direction", ON_ROBOTS, CHEETAH_STEPS, (250.0, 500.0), BOTH),
    *arms("half-cheetah-velocity", ON_ROBOTS, CHEETAH_STEPS, (250.0, 500.0)),
    *arms("walker2d-random-params", ON_ROBOTS, WALKER_STEPS, (550.0, 900.0), SHORT),
)


def from_scratch(run: Run, stopped: Callable[[], bool]) -> dict[str, Any] | None:
    """Train a PPO on each task of the run's first protocol; return the run's line.

    Once it is told to stop, it ends after the current task and returns None.

    Budgets are the environment steps of 0..K inner steps as if no episode ended early.
    """
    start = time.process_time()
    learner, protocol = build(run.config), run.protocols[0]
    family: Any = learner.problem.environments
    episodes: int = protocol.episodes or run.config.data.episodes  # type: ignore[union-attr]
    budgets = [k * episodes * family.horizon for k in range(protocol.steps + 1)]
    scores = []
    for number, task in enumerate(tasks_of(learner, protocol)):
        if stopped():
            return None
        learned = agents.ppo.from_scratch(
            lambda task=task: Row(family.make_env(task), task),
            budgets,
            episodes=episodes,
            seed=1000 * run.seed + number,
        )
        scores.append(learned)
    by_budget = rounded([list(each) for each in zip(*scores, strict=True)])
    evaluation: Mapping[str, Any] = {**dataclasses.asdict(protocol), "scores": by_budget}
    return {
        **describe(run, []),
        "samples": 0,
        "seconds": round(time.process_time() - start, 2),
        "evaluations": [{**evaluation, "budgets": budgets}],
    }
