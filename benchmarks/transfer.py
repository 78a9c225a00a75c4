"""Count the meta-iterations that a warm start saves: distilled experts, or another family's theta.

    python -m benchmarks.transfer

Each work meta-trains from scratch and from a start, on the same seeds. It counts the iterations
until the return after adaptation reaches the level at the end of training from scratch (the mean
over seeds and the last five iterations). The start's own cost is listed too. Writes
``benchmarks/results/transfer.json``.
"""

from __future__ import annotations

import argparse
import dataclasses
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

import meta_rl
from benchmarks.provenance import provenance, read, write
from meta_rl import agents, envs
from meta_rl.config import Config
from meta_rl.families import make_family, register
from meta_rl.families.choice import Choice
from meta_rl.families.parameters import Parameter, ParameterSpace
from meta_rl.presets import maml_on_episodes

LAST, SMOOTHED = 5, 3
EXPERTS = 4
EXPERT_TASKS = 2017  # seed of the experts' tasks, which no run has seen

Starts = dict[str, tuple[Any, int]]
"""Starts by name, each with the environment steps that it cost."""


def small(name: str, **data: Any) -> Config:
    """Return a preset with fewer tasks and episodes."""
    config = meta_rl.preset(name)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **data))


class PendulumForward(envs.Pendulum):
    """A ``pendulum`` whose torque has the same sign in all tasks, so that experts can agree.

    Gravity, mass and length still differ.
    """

    id = "pendulum-forward"
    space = ParameterSpace(*envs.Pendulum.space.parameters[:3], Parameter("direction", Choice(1.0)))


register(PendulumForward())
WORKS = {
    "cartpole": small("cartpole", tasks=10, episodes=5),
    "pendulum-forward": maml_on_episodes(  # torques agree, so all weights can adapt
        PendulumForward.id,
        step_size=0.5,
        tasks=10,
        episodes=10,
        action_scale=2.0,
        gamma=0.97,
        gae_lambda=0.97,
    ),
    "navigation-pearl": small("navigation-pearl", tasks=10, episodes=20),
}


def experts_of(family_id: str, steps: int, home: Path, imitation: int, **settings: Any) -> Starts:
    """Train a PPO for each of a few tasks; return starts distilled and imitated from them."""
    family, experts = make_family(family_id), []
    for number, task in enumerate(family.sample_tasks(EXPERTS, EXPERT_TASKS)):
        file, env = home / f"{number}.zip", family.make_env(task)
        expert = PPO("MlpPolicy", env, seed=number, device="cpu", **settings).learn(steps)
        score, spread = evaluate_policy(expert, Monitor(family.make_env(task)), 20)
        print(family_id, f"expert {number}: {score:.1f} +- {spread:.1f}", dict(task), flush=True)
        expert.save(file)
        experts.append((task, file))
    cost = EXPERTS * steps
    starts: Starts = {
        f"{EXPERTS} PPO experts distilled": (agents.distillation.FromExperts(experts), cost)
    }
    if imitation:
        starts[f"and {imitation} iterations of imitation"] = (
            agents.distillation.FromExperts(experts, imitation),
            cost,
        )
    return starts


def navigation(home: Path, imitation: int) -> Starts:
    """Train MAML on navigation-2d, which has other starts, goals and horizon; return its theta."""
    config = small("navigation-2d", tasks=10, episodes=20)
    source = meta_rl.build(dataclasses.replace(config, seed=100)).learn(30)
    return {
        "navigation-2d's theta": (
            agents.transfer.FromRun(source.save(home / "source")),
            source.samples,
        )
    }


# The settings of stable-baselines3's zoo for the pendulum, except its exploration.
PENDULUM_PPO = {"gamma": 0.9, "learning_rate": 1e-3, "n_steps": 1024, "gae_lambda": 0.95}
STARTS = {
    "cartpole": partial(experts_of, "cartpole", 50_000),
    "pendulum-forward": partial(experts_of, PendulumForward.id, 100_000, **PENDULUM_PPO),
    "navigation-pearl": navigation,
}


def returns(config: Config, seed: int, iterations: int, start: Any) -> tuple[list[float], int]:
    """Meta-train; return every iteration's return after adaptation, and the steps taken."""
    learner = meta_rl.build(dataclasses.replace(config, seed=seed), start=start)
    curve: list[float] = []
    learner.learn(iterations, [lambda _, metrics: curve.append(metrics["meta/return_post"])])
    return curve, learner.samples


def reached(curve: list[float], level: float) -> int | None:
    """Return the first iteration whose smoothed return reaches the level; None if none does."""
    means = np.convolve(curve, np.ones(SMOOTHED) / SMOOTHED, "valid")
    found = np.flatnonzero(means >= level)
    return int(found[0]) + SMOOTHED if len(found) else None


def measure(work: str, iterations: int, count: int, imitation: int) -> dict[str, Any]:
    """Return each arm's curves, and when each seed reaches the final level from scratch."""
    with TemporaryDirectory() as home:
        starts: Starts = {"from scratch": (None, 0), **STARTS[work](Path(home), imitation)}
        arms: dict[str, Any] = {}
        for arm, (start, cost) in starts.items():
            runs = []
            for seed in range(count):
                curve, samples = returns(WORKS[work], seed, iterations, start)
                run = {"seed": seed, "curve": np.round(curve, 3).tolist(), "samples": samples}
                if isinstance(start, agents.distillation.FromExperts):
                    run |= {"kl": start.divergences, "start_samples": start.samples}
                runs.append(run)
                print(work, arm, seed, np.round(curve, 1).tolist(), flush=True)
            arms[arm] = {"start_samples": cost, "runs": runs}
    ends = [run["curve"][-LAST:] for run in arms["from scratch"]["runs"]]
    level = float(np.mean(ends))
    for arm in arms.values():
        for run in arm["runs"]:
            run["reached"] = reached(run["curve"], level)
    return {"level": level, "iterations": iterations, "arms": arms}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--works", nargs="+", default=list(WORKS), choices=WORKS)
    parser.add_argument("--iterations", type=int, default=25)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--imitation", type=int, default=0, help="iterations of a further arm")
    args = parser.parse_args()
    # Works that are not asked for keep their measurements.
    results: dict[str, Any] = read("transfer").get("works", {})
    for work in args.works:
        results[work] = measure(work, args.iterations, args.seeds, args.imitation)
        results[work]["commit"] = provenance()["commit"]
        print(write("transfer", {"works": results}))


if __name__ == "__main__":
    main()
