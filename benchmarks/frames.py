"""Measure an iteration on Atari frames: peak memory and seconds, beside stable-baselines3's PPO.

    python -m benchmarks.frames

Breakout, 84 x 84 x 4 bytes. Ours is one of MAML on 4 tasks x 4 episodes x 128 steps, before and
after one inner step; stable-baselines3's is one of PPO with CnnPolicy on as many frames. Each has
a process of its own, on one thread, and runs twice. The second iteration is timed, in seconds of
the processor, so that other processes count less. Writes ``benchmarks/results/frames.json``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import torch
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from benchmarks.provenance import write
from meta_rl import Choice, GymFamily, Parameter, build, preset, register
from meta_rl.config import EpisodesConfig

TASKS, EPISODES, STEPS = 4, 4, 128
FRAMES = 2 * TASKS * EPISODES * STEPS


def breakout() -> GymFamily:
    """Return Breakout's modes and difficulties as tasks."""
    import ale_py

    gym.register_envs(ale_py)
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    return GymFamily(
        "ALE/Breakout-v5",
        Parameter("mode", Choice(*range(0, 48, 4))),
        Parameter("difficulty", Choice(0, 1)),
        settings={"frameskip": 1},  # AtariPreprocessing skips frames
        wrappers=[AtariPreprocessing, partial(FrameStackObservation, stack_size=4)],
        horizon=STEPS,
        id="breakout-frames",
    )


def ours(algorithm: str) -> Callable[[], Any]:
    """Return a function that does one iteration of the preset, by TRPO or by Adam."""
    register(breakout())
    config = preset("breakout-frames")
    data = EpisodesConfig(tasks=TASKS, episodes=EPISODES)
    config = dataclasses.replace(config, data=data)
    if algorithm == "first-order":
        inner = dataclasses.replace(config.inner, first_order=True)
        config = dataclasses.replace(config, inner=inner)
    return build(config).iterate


def ppo() -> Callable[[], Any]:
    """Return a function that does one iteration of PPO, with the settings of the Atari zoo."""
    family = breakout()
    task = family.sample_tasks(1, 0)[0]
    rows = TASKS * EPISODES
    env = DummyVecEnv([lambda: family.make_env(task)] * rows)
    settings: dict[str, Any] = {"n_epochs": 4, "batch_size": 256}
    model = PPO("CnnPolicy", env, n_steps=FRAMES // rows, device="cpu", **settings)
    return lambda: model.learn(FRAMES, reset_num_timesteps=False)


ARMS: dict[str, Callable[[], Callable[[], Any]]] = {
    "MAML": partial(ours, "second-order"),
    "first-order MAML": partial(ours, "first-order"),
    "stable-baselines3's PPO": ppo,
}


def measured(arm: str) -> dict[str, float]:
    """Return the seconds and the peak memory of an arm's second iteration."""
    torch.set_num_threads(1)
    iterate = ARMS[arm]()
    iterate()
    start = time.process_time()
    iterate()
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"frames": FRAMES, "seconds": round(seconds, 1), "peak_gb": round(peak / 1e9, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arm", choices=ARMS, help="measure one arm in this process, and print it")
    arm = parser.parse_args().arm
    if arm:
        print(json.dumps(measured(arm)))
        return
    rows = {}
    for name in ARMS:
        command = [sys.executable, "-m", "benchmarks.frames", "--arm", name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rows[name] = json.loads(said.splitlines()[-1])
        print(name, rows[name], flush=True)
    print(write("frames", {"contestants": rows}))


if __name__ == "__main__":
    main()
