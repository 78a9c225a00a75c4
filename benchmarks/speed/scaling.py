"""W6: measure the growth of time and memory with tasks, episodes, horizon and width.

On the CPU every point runs in its own process, to have its own peak of memory:

    python -m benchmarks.speed.scaling '{"family": "navigation-2d", "tasks": 64}'
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from meta_rl.assemble import build
from meta_rl.inner.adaptation import adapt_to_tasks
from meta_rl.presets import PRESETS

ENOUGH, ENOUGH_ON_A_GPU = 2.0, 0.3  # seconds to repeat a point; all points of a GPU take a minute
# navigation-2d from these settings, changing one at a time; and the sinusoid's number of tasks.
START = {"family": "navigation-2d", "tasks": 20, "episodes": 2, "horizon": 100, "width": 64}
AXES: dict[str, tuple[dict[str, Any], str, tuple[int, ...]]] = {
    "tasks": (START | {"episodes": 1}, "tasks", (1, 4, 16, 64, 256, 1024, 4096)),
    "tasks, 64 at once": (
        START | {"episodes": 1, "at_once": 64},
        "tasks",
        (64, 256, 1024, 4096, 16384),
    ),
    "episodes": (START, "episodes", (1, 4, 16, 64, 256)),
    "horizon": (START, "horizon", (10, 30, 100, 300, 1000)),
    "width": (START, "width", (16, 64, 256, 1024)),
    "tasks, sinusoid": ({"family": "sinusoid"}, "tasks", (1, 4, 16, 64, 256, 1024, 4096, 16384)),
}


def measure(rounds: int, device: str) -> dict[str, Any]:
    """Measure every point of every axis."""
    axes: dict[str, Any] = {}
    for axis, (start, name, values) in AXES.items():
        points: dict[int, Any] = {}
        for value in values:
            threads = torch.get_num_threads()
            points[value] = launch(start | {name: value, "device": device, "threads": threads})
            print(f"  {axis} {value}: {points[value]}", flush=True)
        axes[axis] = points
    return {"axes": axes}


def launch(point: dict[str, Any]) -> dict[str, float]:
    """Measure a point's seconds and megabytes; in its own process, except on a GPU."""
    if point["device"] != "cpu":
        torch.cuda.reset_peak_memory_stats()
        return measured_point(**point)
    command = [sys.executable, "-m", "benchmarks.speed.scaling", json.dumps(point)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(output)


def measured_point(
    family: str,
    tasks: int,
    device: str = "cpu",
    threads: int = 1,
    episodes: int = 2,
    horizon: int = 100,
    width: int = 64,
    at_once: int | None = None,
) -> dict[str, float]:
    """Measure median seconds of sampling and meta-gradient, and peak memory in MB, at one size."""
    torch.set_num_threads(threads)
    config = PRESETS[family]
    data: Any = dataclasses.replace(config.data, tasks=tasks)
    network = config.network
    # Not compiled: that takes seconds for every size, and grows like the same operations.
    program = "recorded" if family == "sinusoid" else "plain"
    speed = dataclasses.replace(config.speed, tasks_at_once=at_once, program=program)
    if family != "sinusoid":
        data = dataclasses.replace(data, episodes=episodes)
        network = dataclasses.replace(network, hidden=(width, width))
    learner = build(dataclasses.replace(config, data=data, network=network, speed=speed), device)
    problem: Any = learner.problem
    if family != "sinusoid":
        problem.family.horizon = horizon
    drawn = problem.sample_tasks(tasks, 0)
    before = memory(device)

    def sample() -> list[Any]:
        return adapt_to_tasks(problem, learner.inner, learner.meta, drawn, 1, 0).batches

    loop: Any = learner.inner
    *supports, query = sample()
    gradient = repeated(lambda: loop.meta_gradient(learner.meta, supports, query), device)
    found = {"sampling": repeated(sample, device), "meta-gradient": gradient}
    return {
        **{name: float(f"{seconds:.4g}") for name, seconds in found.items()},
        "peak_mb": round(memory(device) - before),
    }


def repeated(call: Any, device: str) -> float:
    """Return the median seconds of as many calls as fit, after one that records."""
    seconds: list[float] = []
    enough = ENOUGH if device == "cpu" else ENOUGH_ON_A_GPU
    call()
    while len(seconds) < 2 or (sum(seconds) < enough and len(seconds) < 50):
        start = time.perf_counter()
        call()
        if device != "cpu":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def memory(device: str) -> float:
    """Return peak memory so far, in MB: of the process, or of tensors on the GPU."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 2**20
    # Not getrusage, because there a process inherits its parent's peak.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    print(json.dumps(measured_point(**json.loads(sys.argv[1]))))
