"""Measure environment steps a second: our backends, Gymnasium, stable-baselines3 and the limit.

    python -m benchmarks.stepping

Contestants of one kind of work take turns within one run, so that their ratios hold on a busy
machine too. The robots here never fall, so that every row steps all the time. Actions are random.
Times include observations and rewards, as torch tensors for our backends. Writes
``benchmarks/results/stepping.json``.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from stable_baselines3.common.vec_env import SubprocVecEnv

from benchmarks.provenance import write
from meta_rl.assemble import build
from meta_rl.families import Family, make_family
from meta_rl.families.general import GymVec
from meta_rl.inner.core import expand
from meta_rl.presets import preset
from meta_rl.types import BatchedEnv

Contestant = tuple[int, Callable[[], Any], Callable[[], Any]]
"""The number of rows, a function that steps all rows, and a function that closes them."""

ROWS = 40


def ours(family: Family, rows: int) -> Contestant:
    """Return a family's own backend."""
    return lockstep(family, rows, family.make_vec(1, rows, device="cpu", dtype=torch.float32))


def general(family: Family, workers: int) -> Contestant:
    """Return the general backend on the same environments."""
    make: Any = partial(GymVec, family.make_env, device="cpu", dtype=torch.float32)
    return lockstep(family, ROWS, make(1, ROWS, workers=workers))


def lockstep(family: Family, rows: int, env: BatchedEnv) -> Contestant:
    """Return our batched environment, reset at the horizon."""
    tasks = family.sample_tasks(1, seed=0)
    env.reset(tasks, seed=0)
    action = torch.tensor(np.stack([family.action_space.sample() for _ in range(rows)]))[None]
    time_left = itertools.cycle(range(family.horizon))

    def step() -> None:
        env.step(action)
        if next(time_left) == family.horizon - 1:
            env.reset(tasks, seed=0)

    return rows, step, env.close


def gymnasium_vector(family: Family, kind: type) -> Contestant:
    """Return Gymnasium's vector environments, one per row; robots have no step checker."""
    task = family.sample_tasks(1, seed=0)[0]
    vector = kind([lambda: family.make_env(task)] * ROWS)
    vector.reset(seed=0)
    action = vector.action_space.sample()
    return ROWS, lambda: vector.step(action), vector.close


def made_by_gymnasium(env_id: str, mode: str) -> Contestant:
    """Return ``gymnasium.make_vec`` with its defaults: its step checker, the robot's own reward."""
    vector = gym.make_vec(env_id, num_envs=ROWS, vectorization_mode=mode)
    vector.reset(seed=0)
    action = vector.action_space.sample()
    return ROWS, lambda: vector.step(action), vector.close


def subprocesses(family: Family) -> Contestant:
    """Return stable-baselines3's SubprocVecEnv, with one process per row."""
    task = family.sample_tasks(1, seed=0)[0]
    vector = SubprocVecEnv([lambda: family.make_env(task)] * ROWS, start_method="fork")
    vector.reset()
    actions = np.stack([vector.action_space.sample() for _ in range(ROWS)])
    return ROWS, lambda: vector.step(actions), vector.close


def bare_batch(env_id: str, persistent: bool = False) -> Contestant:
    """Return ``mujoco.batch`` stepping alone: no observation, no reward, no torch.

    A persistent batch, which contact forces need, keeps an MjData for every row, not every thread.
    """
    from mujoco.batch import Batch  # pyright: ignore[reportMissingImports]

    robot: Any = gym.make(env_id).unwrapped
    batch = Batch(robot.model, ROWS, persistent=persistent)
    control = batch.bind("ctrl")
    rng = np.random.default_rng(0)
    control[:] = rng.uniform(-1, 1, control.shape)
    return ROWS, lambda: batch.step(nstep=robot.frame_skip), lambda: None


def bare_mj_step(env_id: str, steps: int = 50) -> Contestant:
    """Return ``mj_step`` on one Python thread per core, with the rows divided among them.

    It takes many steps at a time, because the limit excludes the start of threads, and torch's
    threads, which hold a core for some milliseconds after their work.
    """
    import mujoco  # pyright: ignore[reportMissingImports]

    robot: Any = gym.make(env_id).unwrapped
    step: Any = getattr(mujoco, "mj_step")  # noqa: B009 - no stubs
    rows = [getattr(mujoco, "MjData")(robot.model) for _ in range(ROWS)]  # noqa: B009
    rng = np.random.default_rng(0)
    for row in rows:
        row.ctrl[:] = rng.uniform(-1, 1, row.ctrl.shape)
    cores = len(os.sched_getaffinity(0))

    def share(part: list[Any]) -> None:
        for _ in range(steps):
            for row in part:
                step(robot.model, row, nstep=robot.frame_skip)

    def all_rows() -> None:
        threads = [threading.Thread(target=share, args=(rows[c::cores],)) for c in range(cores)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return ROWS * steps, all_rows, lambda: None


def rollout(family: str, episodes: int) -> Contestant:
    """Return policy and environment together: episodes of 20 tasks with 20 different networks."""
    learner = build(preset(family))
    problem: Any = learner.problem
    tasks, phi = problem.sample_tasks(20, 0), expand(learner.meta.theta, 20)
    steps = 20 * episodes * problem.family.horizon
    return steps, lambda: problem.sampler.rollout(tasks, phi, episodes, 0), problem.close


def locomotion(name: str, env_id: str) -> dict[str, Callable[[], Contestant]]:
    """Return all contestants on one robot."""
    family: Any = make_family(name)
    return {
        "ours": lambda: ours(family, ROWS),
        "mujoco.batch alone": lambda: bare_batch(env_id),
        "mujoco.batch alone, persistent": lambda: bare_batch(env_id, persistent=True),
        "mj_step on all cores": lambda: bare_mj_step(env_id),
        "general backend": lambda: general(family, 0),
        "general backend, 2 workers": lambda: general(family, 2),
        "gymnasium.make_vec, sync": lambda: made_by_gymnasium(env_id, "sync"),
        "gymnasium.make_vec, async": lambda: made_by_gymnasium(env_id, "async"),
        "SyncVectorEnv": lambda: gymnasium_vector(family, SyncVectorEnv),
        "AsyncVectorEnv": lambda: gymnasium_vector(family, AsyncVectorEnv),
        "SubprocVecEnv": lambda: subprocesses(family),
    }


def analytic(name: str) -> dict[str, Callable[[], Contestant]]:
    """Return all contestants on one family of the tensor backend."""
    family: Any = make_family(name)
    return {
        "ours, 400 rows": lambda: ours(family, 400),
        "ours, 40,000 rows": lambda: ours(family, 40_000),
        "ours with 20 policies, 400 rows": lambda: rollout(name, 20),
        "ours with 20 policies, 40,000 rows": lambda: rollout(name, 2_000),
        "SyncVectorEnv": lambda: gymnasium_vector(family, SyncVectorEnv),
        "AsyncVectorEnv": lambda: gymnasium_vector(family, AsyncVectorEnv),
        "SubprocVecEnv": lambda: subprocesses(family),
    }


def race(contestants: dict[str, Callable[[], Contestant]], rounds: int) -> dict[str, Any]:
    """Return median and range of steps a second, over rounds in which all take turns."""
    ready = {name: make() for name, make in contestants.items()}
    rates: dict[str, list[float]] = {name: [] for name in ready}
    for number in range(rounds + 1):
        for name, (rows, step, _) in ready.items():
            start, count = time.perf_counter(), 0
            while time.perf_counter() - start < 0.5:
                step()
                count += 1
            if number:  # the first round warms up
                rates[name].append(rows * count / (time.perf_counter() - start))
    for *_, close in ready.values():
        close()
    return {
        name: {
            "median": round(statistics.median(values)),
            "min": round(min(values)),
            "max": round(max(values)),
        }
        for name, values in rates.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="*", help="kinds of work to print and not to record")
    args = parser.parse_args()
    works = {
        "half-cheetah-direction": locomotion("half-cheetah-direction", "HalfCheetah-v5"),
        "ant-goal": locomotion("ant-goal", "Ant-v5"),
        "navigation-2d": analytic("navigation-2d"),
        "cartpole": analytic("cartpole"),
        "acrobot": analytic("acrobot"),
    }
    result = {}
    for work, contestants in works.items():
        if args.only and work not in args.only:
            continue
        result[work] = race(contestants, args.rounds)
        print(work)
        for name, rate in result[work].items():
            print(f"  {name:36} {rate['median']:>12,}")
    if not args.only:
        print(write("stepping", {"rounds": args.rounds, "rows": ROWS, "steps a second": result}))


if __name__ == "__main__":
    main()
