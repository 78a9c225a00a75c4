"""Time our programs of the same work beside each other and beside a compiled JAX program.

An arm has the same phases as every other: ``iteration``, for instance. A phase is called with a
number of repetitions and waits for the last, because JAX returns before it has computed.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from benchmarks.speed.machine import race, summary
from meta_rl.config import Config

PROGRAMS = "plain", "recorded", "compiled"
"""Our programs on the CPU, values of ``--speed.program``, from the slowest to the fastest."""
JAX = "JAX"
TOGETHER = {"navigation-2d": 4}
"""Tasks at once where compiled, for families whose numbers then fit into a processor's cache."""

Arm = Mapping[str, Callable[[int], Any]]
"""The phases of one arm, each a function of the number of repetitions."""


def programs_on(device: str) -> tuple[str, ...]:
    """Return our programs on a device; the last one is that of rows named ours.

    Compiling was tried on the CPU alone; CUDA graphs take its place on a GPU.
    """
    return PROGRAMS if device == "cpu" else (*PROGRAMS[:2], "captured")


def of_program(config: Config, program: Any) -> Config:
    """Return the settings with one of :data:`PROGRAMS`."""
    speed = dataclasses.replace(config.speed, program=program)
    if program == "compiled" and config.family in TOGETHER:
        speed = dataclasses.replace(speed, tasks_at_once=TOGETHER[config.family])
    return dataclasses.replace(config, speed=speed)


def peer(device: str) -> dict[str, Any]:
    """Return JAX's version, or why its arm is left out."""
    if device != "cpu":
        return {"left out": f"its programs are for the CPU, and this ran on {device}"}
    if not all(find_spec(module) for module in ("jax", "optax")):
        return {"left out": "it was not installed (pip install -e '.[jax]')"}
    return {"version": version("jax")}


def repeated(
    call: Callable[[], Any], wait: Callable[[Any], Any] | None = None
) -> Callable[[int], None]:
    """Return a function that calls so many times in a row and then waits for the last result."""

    def run(times: int) -> None:
        result = None
        for _ in range(times):
            result = call()
        if wait is not None:
            wait(result)

    return run


def chained(
    step: Callable[[Any], tuple[Any, Any]], state: Any, wait: Callable[[Any], Any]
) -> Callable[[int], None]:
    """Return a function that takes so many steps, each from the state that the last one left."""

    def call() -> Any:
        nonlocal state
        state, metrics = step(state)
        return metrics

    return repeated(call, wait)


def contest(
    arms: Mapping[str, Arm],
    others: Mapping[str, Callable[[], Any]],
    rounds: int,
    device: str,
    block: int,
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Time all arms in turns, ``block`` repetitions at a time, and other calls beside them.

    Returns:
        For each phase the arms' seconds and the cores that they kept busy, for ``iteration`` also
        the seconds of the first call, in which programs are recorded or compiled; and the seconds
        of the other calls.
    """
    calls = {(phase, name): call for name, arm in arms.items() for phase, call in arm.items()}
    first = {key: _clocked(call, 1) for key, call in calls.items()}
    again = {key: _clocked(call, block) for key, call in calls.items()}
    named = {" by ".join(key): partial(call, block) for key, call in calls.items()}
    seconds = race({**named, **others}, rounds, device)
    phases: dict[str, Any] = {}
    for phase, name in calls:
        row = phases.setdefault(phase, {"seconds": {}, "cores": {}})
        row["seconds"][name] = summary(seconds[f"{phase} by {name}"], 1 / block)
        wall, processor = again[phase, name]
        row["cores"][name] = float(f"{processor / wall:.2g}")
        if phase == "iteration":
            wall, _ = first[phase, name]
            row.setdefault("first call", {})[name] = float(f"{wall:.3g}")
    return phases, {name: seconds[name] for name in others}


def _clocked(call: Callable[[int], Any], times: int) -> tuple[float, float]:
    """Return the wall and the processor seconds of a call."""
    wall, processor = time.perf_counter(), time.process_time()
    call(times)
    return time.perf_counter() - wall, time.process_time() - processor
