"""Train every arm of an experiment on several seeds, and evaluate it on held-out tasks.

    python -m benchmarks.learning navigation-2d --seeds 3

Writes ``benchmarks/results/learning-EXPERIMENT.json`` after every arm: for each seed, the score of
every held-out task after 0..K inner steps, and the learning curve.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor

from benchmarks.experiments import EXPERIMENTS, FROM_SCRATCH, UNTRAINED
from benchmarks.provenance import provenance, read, write
from meta_rl import seeds
from meta_rl.assemble import build
from meta_rl.config import Config, EpisodesConfig, ShotsConfig
from meta_rl.families import Family, make_family

HELD_OUT = 2017  # seed of the evaluation tasks, which no run and no choice of settings has seen


def measure(config: Config, args: argparse.Namespace, seed: int, trained: bool) -> dict[str, Any]:
    """Train one arm on one seed and evaluate it; return JSON values."""
    iterations = sys.maxsize if args.samples else args.iterations or config.iterations
    learner = build(dataclasses.replace(config, seed=seed, iterations=iterations))
    curve: list[dict[str, float]] = []
    start = time.process_time()

    def keep(learner: Any, metrics: dict[str, float]) -> bool:
        spent = learner.samples / args.samples if args.samples else learner.iteration / iterations
        if metrics and (100 * spent >= len(curve) or learner.iteration == 1):
            kept = {k: v for k, v in metrics.items() if k.startswith("meta/")}
            sizes = {f"rule/{k}": v.mean().item() for k, v in learner.step_sizes().items()}
            curve.append(
                {"iteration": learner.iteration, "samples": learner.samples, **kept, **sizes}
            )
        return spent < 1

    if trained:
        learner.learn(callbacks=[keep])
    seconds = time.process_time() - start
    seed_of_tasks = seeds.derive(HELD_OUT, seeds.EVALUATION)
    # Few-shot families have test classes; environments get new tasks like the training tasks.
    if isinstance(config.data, ShotsConfig):
        tasks = learner.problem.held_out_tasks(args.tasks, seed_of_tasks, final=True)
    else:
        tasks = learner.problem.sample_tasks(args.tasks, seed_of_tasks)
    stream = seeds.derive(seed, seeds.EVALUATION, 1)
    scores, success = learner.results(tasks, args.steps, stream, episodes=args.episodes or None)
    told = {} if success is None else {"success": rounded(success)}
    return {
        "seed": seed,
        "iterations": learner.iteration,
        "samples": learner.samples,
        "optimizer": learner.inner.rule.optimizer(learner.meta.rule),
        "seconds": round(seconds, 1),
        "scores": rounded(scores),
        **told,
        "curve": curve,
    }


def rounded(values: torch.Tensor) -> list[list[float]]:
    """Return values as JSON."""
    return [[round(float(value), 5) for value in row] for row in values]


def from_scratch(config: Config, args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train a PPO for each task; return mean returns of rollouts 0..K.

    A rollout is as long as one inner step's episodes. The policy after k updates samples rollout k,
    as for adaptation's scores. Actions are rescaled to [-1, 1]; settings are stable-baselines3's
    defaults.
    """
    start = time.perf_counter()
    family = make_family(config.family)
    assert isinstance(family, Family)
    assert isinstance(config.data, EpisodesConfig)
    rollout = (args.episodes or config.data.episodes) * family.horizon
    tasks = family.sample_tasks(args.tasks, seeds.derive(HELD_OUT, seeds.EVALUATION))
    scores = []
    for number, task in enumerate(tasks):
        env = family.make_env(task)
        if isinstance(family.action_space, gym.spaces.Box):
            env = gym.wrappers.RescaleAction(env, np.float32(-1.0), np.float32(1.0))
        monitor = Monitor(env)
        model = PPO("MlpPolicy", monitor, n_steps=rollout, seed=seed * 1000 + number, device="cpu")
        model.learn(rollout * (args.steps + 1))
        ends = np.cumsum(monitor.get_episode_lengths()) - 1
        returns = np.array(monitor.get_episode_rewards())
        scores.append([returns[ends // rollout == k].mean() for k in range(args.steps + 1)])
    return {
        "seed": seed,
        "iterations": 0,
        "samples": rollout * (args.steps + 1) * len(tasks),
        "seconds": round(time.perf_counter() - start, 1),
        "scores": np.round(np.transpose(scores), 5).tolist(),
        "curve": [],
    }


def main(experiments: Mapping[str, dict[str, Config]] = EXPERIMENTS) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", choices=experiments)
    parser.add_argument("--arms", nargs="*", help="arms to measure; others in the file stay")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--iterations", type=int, help="iterations, in place of the preset's")
    parser.add_argument("--samples", type=int, help="samples to train on, in place of iterations")
    parser.add_argument("--tasks", type=int, default=40, help="held-out tasks, the same for all")
    parser.add_argument("--episodes", type=int, help="episodes per inner step at evaluation")
    parser.add_argument("--steps", type=int, default=3, help="inner steps at evaluation")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", help="name of the result file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    settings = {k: v for k, v in vars(args).items() if k not in ("arms", "name") and v is not None}
    name = f"learning-{args.name or args.experiment}"
    arms = _measured_before(name, settings) if args.arms else {}
    for arm, config in experiments[args.experiment].items():
        if args.arms and arm not in args.arms:
            continue
        runs = []
        # Every task has its own PPO: forty independent runs need no further seeds.
        count = 1 if arm == FROM_SCRATCH else args.seeds
        for seed in range(args.first_seed, args.first_seed + count):
            if arm == FROM_SCRATCH:
                run = from_scratch(config, args, seed)
            else:
                run = measure(config, args, seed, trained=arm != UNTRAINED)
            runs.append(run | {"commit": provenance()["commit"]})
            means = [f"{sum(row) / len(row):.4g}" for row in run["scores"]]
            print(f"{arm}, seed {seed}: {' '.join(means)}  ({run['seconds']} s)", flush=True)
        # Another process may have measured other arms meanwhile.
        arms = (_measured_before(name, settings) if args.arms else arms) | {arm: runs}
        order = {arm: arms[arm] for arm in experiments[args.experiment] if arm in arms}
        print(write(name, {"settings": settings, "arms": order}), flush=True)


def _measured_before(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the arms in the result file, if they were measured with the same settings."""
    if not (before := read(name)):
        return {}
    if {k: v for k, v in before["settings"].items() if v is not None} != settings:
        raise SystemExit(f"{name}.json was measured with {before['settings']}; give --name")
    return before["arms"]


if __name__ == "__main__":
    main()
