"""Does it learn? Train every arm of an experiment on several seeds, evaluate on held-out tasks.

    python -m benchmarks.learning navigation-2d --seeds 3

Writes ``benchmarks/results/learning-EXPERIMENT.json``: for each arm and seed, the score of every
held-out task after 0..K inner steps, and the curve seen while training.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor

import envs
from benchmarks.provenance import RESULTS, write
from meta_rl import seeds
from meta_rl.config import Config, EpisodesConfig, ShotsConfig
from presets import PRESETS, build, preset

NAVIGATION, CARTPOLE, SINUSOID, BANDIT, MDP = (
    PRESETS[n] for n in ("navigation-2d", "cartpole", "sinusoid", "bandit-5", "tabular-mdp")
)
# Does a family meta-train at all: the preset after training, and without.
FAMILIES = (
    "bandit-5",
    "bandit-10",
    "tabular-mdp",
    "navigation-corner",
    "navigation-semicircle",
    "navigation-pearl",
    "pendulum",
    "acrobot",
    "mountain-car-energy",
    "mountain-car-continuous",
    "half-cheetah-direction",
    "half-cheetah-velocity",
)
# The robots that take hours: a few iterations on a few tasks, to see them work from end to end.
SMOKE = (
    "ant-direction",
    "ant-direction-maml",
    "ant-direction-2d",
    "ant-direction-2d-pearl",
    "ant-goal",
    "ant-goal-maml",
    "ant-velocity",
    "humanoid-direction",
    "walker2d-random-params",
    "hopper-random-params",
    "half-cheetah-direction-pearl",
    "half-cheetah-velocity-3",
    "half-cheetah-velocity-maml",
    "half-cheetah-velocity-pearl",
)
SMOKE_METAWORLD = ("metaworld-ml1-reach-v3",)


def inner(config: Config, **changes: Any) -> Config:
    """The same settings with another inner loop."""
    return dataclasses.replace(config, inner=dataclasses.replace(config.inner, **changes))


def outer(config: Config, **changes: Any) -> Config:
    """The same settings with another outer step."""
    return dataclasses.replace(config, outer=dataclasses.replace(config.outer, **changes))


def short(name: str) -> Config:
    """A family's preset cut down to ten iterations of 5 tasks x 10 episodes.

    So few do not move the step size to where it goes (0.36 for half-cheetah-direction): it starts
    at 0.5.
    """
    config = inner(preset(name), step_size=0.5)
    data: Any = dataclasses.replace(config.data, tasks=5, episodes=10)
    return dataclasses.replace(config, iterations=10, data=data)


def step_sizes(config: Config) -> dict[str, Config]:
    """Learned against fixed ones, from the value most papers take and from the preset's."""
    return {
        f"{'learned, from' if learned else 'fixed at'} {size:g}": inner(
            config, step_size=size, learn_step_size=learned
        )
        for size in (0.1, config.inner.step_size)
        for learned in (True, False)
    }


def shots(config: Config, shots: int) -> Config:
    """The same settings with another number of shots."""
    data = dataclasses.replace(config.data, shots=shots)
    assert isinstance(data, ShotsConfig)
    return dataclasses.replace(config, data=data)


HELD_OUT = 2017  # seed of the evaluation tasks: no run, and no choice of settings, has seen them

# "pretrained" trains one policy on all tasks without any inner step and is then adapted with the
# same rule; "random initialization" is adapted without having been trained; FROM_SCRATCH has one
# stable-baselines3 PPO for every held-out task, on as many environment steps as adaptation takes.
FROM_SCRATCH = "PPO from scratch"
EXPERIMENTS: dict[str, dict[str, Config]] = {
    "navigation-2d": {
        "maml": NAVIGATION,
        "maml, 3 inner steps": inner(NAVIGATION, steps=3, per_step=True),
        "fixed step size": inner(NAVIGATION, learn_step_size=False),
        "pretrained": inner(NAVIGATION, steps=0, per_step=False),
        "random initialization": NAVIGATION,
        FROM_SCRATCH: NAVIGATION,
    },
    "curvature-fraction": {
        f"{fraction:g} of the episodes": outer(NAVIGATION, curvature_fraction=fraction)
        for fraction in (1.0, 0.25)
    },
    "cartpole": {
        "maml": CARTPOLE,
        "pretrained": inner(CARTPOLE, steps=0, per_step=False),
        "random initialization": CARTPOLE,
        FROM_SCRATCH: CARTPOLE,
    },
    "step-sizes-bandit-5": step_sizes(BANDIT),
    "step-sizes-tabular-mdp": step_sizes(MDP),
    **{name: {"maml": PRESETS[name], "random initialization": PRESETS[name]} for name in FAMILIES},
    "smoke": {name: short(name) for name in SMOKE},
    "smoke-metaworld": {name: short(name) for name in SMOKE_METAWORLD},
    "sinusoid": {
        "10 shots": SINUSOID,
        "5 shots": shots(SINUSOID, 5),
        "10 shots, fixed step size": inner(SINUSOID, learn_step_size=False),
        "10 shots, Meta-SGD": inner(SINUSOID, form="parameter", positive="none"),
    },
}


def measure(config: Config, args: argparse.Namespace, seed: int, trained: bool) -> dict[str, Any]:
    """Train one arm on one seed and evaluate it; JSON values."""
    config = dataclasses.replace(config, seed=seed, iterations=args.iterations or config.iterations)
    learner = build(config)
    curve: list[dict[str, float]] = []
    start = time.perf_counter()

    def keep(learner: Any, metrics: dict[str, float]) -> None:
        every = max(1, config.iterations // 100)
        if metrics and (learner.iteration % every == 0 or learner.iteration == 1):
            kept = {k: v for k, v in metrics.items() if k.startswith("meta/")}
            sizes = {f"rule/{k}": v.mean().item() for k, v in learner.step_sizes().items()}
            curve.append({"iteration": learner.iteration, **kept, **sizes})

    if trained:
        learner.learn(callbacks=[keep])
    seconds = time.perf_counter() - start
    if args.episodes:
        learner.problem = learner.problem.variant(learner.held_out_tasks(1)[0], args.episodes)[0]
    tasks = learner.problem.sample_tasks(args.tasks, seeds.derive(HELD_OUT, seeds.EVALUATION))
    scores = learner.evaluate(tasks, args.steps, seeds.derive(seed, seeds.EVALUATION, 1))
    return {
        "seed": seed,
        "iterations": learner.iteration,
        "samples": learner.samples,
        "seconds": round(seconds, 1),
        "scores": [[round(float(s), 5) for s in row] for row in scores],
        "curve": curve,
    }


def from_scratch(config: Config, args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """PPO's mean return in its rollouts 0..K, each as long as one inner step's episodes.

    Rollout k is sampled by the policy after k updates, as adaptation's scores are. Actions are
    rescaled to [-1, 1] for PPO; its settings are stable-baselines3's defaults.
    """
    start = time.perf_counter()
    family = envs.make_family(config.family)
    assert isinstance(family, envs.Family)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--arms", nargs="*", help="only these; others in the file stay")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--iterations", type=int, help="instead of the preset's")
    parser.add_argument("--tasks", type=int, default=40, help="held-out tasks, the same for all")
    parser.add_argument("--episodes", type=int, help="per evaluation step; the preset's if absent")
    parser.add_argument("--steps", type=int, default=3, help="inner steps at evaluation")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", help="of the result file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    arms = {}
    for arm, config in EXPERIMENTS[args.experiment].items():
        if args.arms and arm not in args.arms:
            continue
        runs = []
        # Every task has a PPO of its own: forty independent runs need no further seeds.
        count = 1 if arm == FROM_SCRATCH else args.seeds
        for seed in range(args.first_seed, args.first_seed + count):
            if arm == FROM_SCRATCH:
                run = from_scratch(config, args, seed)
            else:
                run = measure(config, args, seed, trained=arm != "random initialization")
            runs.append(run)
            means = [f"{sum(row) / len(row):.4g}" for row in run["scores"]]
            print(f"{arm}, seed {seed}: {' '.join(means)}  ({run['seconds']} s)", flush=True)
        arms[arm] = runs
    settings = {k: v for k, v in vars(args).items() if k not in ("arms", "name")}
    name = f"learning-{args.name or args.experiment}"
    if args.arms:
        arms = {**_measured_before(name, settings), **arms}
    order = {arm: arms[arm] for arm in EXPERIMENTS[args.experiment] if arm in arms}
    print(write(name, {"settings": settings, "arms": order}))


def _measured_before(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The arms already in the result file, if they were measured with the same settings."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return {}
    before = json.loads(path.read_text())
    if before["settings"] != settings:
        raise SystemExit(f"{path} was measured with {before['settings']}; give --name")
    return before["arms"]


if __name__ == "__main__":
    main()
