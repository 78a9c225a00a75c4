"""Time iterations with a library that makes MKL use its fast instructions on AMD processors.

    python -m benchmarks.preloaded

docs/benchmarks/speed-findings.md says what the library is; gcc compiles it. Processes of one
thread, without it and with it, take turns, so that other load falls on both alike. On a busy
machine, CPU seconds say more than the clock. Writes ``benchmarks/results/preloaded.json``.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.provenance import write
from benchmarks.speed.memory import settings as trials
from benchmarks.speed.tables import seconds, table
from meta_rl.algorithms import algorithm
from meta_rl.assemble import build
from meta_rl.cli.command import run_command
from meta_rl.cli.parsing import parse
from meta_rl.errors import require, unknown
from meta_rl.machine.memory import keep_freed_memory
from meta_rl.presets import preset

CODE = "int mkl_serv_intel_cpu_true(void) { return 1; }"
LIBRARY = "full_rate_mkl.so"
ROUNDS = 3  # turns of both
TIMES = 4  # iterations in each turn, after one to warm up
CASES = (
    ("navigation-2d", "maml"),
    ("navigation-2d", "rl2"),
    ("half-cheetah-direction", "maml"),
    ("glyphs-5way-1shot", "maml"),
)
"""Presets and algorithms."""
SIZE = 1024  # of the matrices that are multiplied
PRODUCTS = f"product of {SIZE} x {SIZE} matrices"


@dataclass(frozen=True, kw_only=True)
class Preloaded:
    """What to measure."""

    work: str = ""
    """Measure this piece of work alone, in this process, and print its seconds."""


def works() -> dict[str, Callable[[], Callable[[], Any]]]:
    """Return functions that prepare each piece of work, by name."""
    named = {
        f"`{name}`, {how}: an iteration": partial(iterations, name, how) for name, how in CASES
    }
    return {PRODUCTS: products, **named}


def products() -> Callable[[], Any]:
    """Return what multiplies matrices."""
    matrix = torch.ones(SIZE, SIZE)
    return lambda: [matrix @ matrix for _ in range(20)]


def iterations(name: str, method: str) -> Callable[[], Any]:
    """Return what takes an iteration of a preset."""
    large = method == "rl2"  # as W7: as many steps with the library and without
    return build(trials(name, "gru") if large else algorithm(method, preset(name))).iterate


def timed(name: str) -> float:
    """Return the median CPU seconds of one work."""
    torch.set_num_threads(1)
    keep_freed_memory()
    if name not in works():
        raise unknown("work", works(), name)
    work = works()[name]()
    work()
    spent = []
    for _ in range(TIMES):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return statistics.median(spent)


def main(arguments: list[str]) -> None:
    command = parse(Preloaded, arguments, prog="preloaded", description=__doc__)
    if command.work:
        print(json.dumps(timed(command.work)))
        return
    given, compiler = os.environ.get("LD_PRELOAD"), shutil.which("gcc")
    require(given is None, "LD_PRELOAD", "no such variable", given)
    require(compiler is not None, "gcc", "a C compiler of this name", compiler)
    torch.set_num_threads(1)
    found: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / LIBRARY
        command = ["gcc", "-shared", "-fPIC", "-x", "c", "-o", str(library), "-"]
        subprocess.run(command, input=CODE, text=True, check=True)
        for name in works():
            spent: dict[str, list[float]] = {"without": [], "with": []}
            for _ in range(ROUNDS):
                spent["without"].append(child(name))
                spent["with"].append(child(name, LD_PRELOAD=str(library)))
            found[name] = spent
            print(name, spent, flush=True)
    settings = {"rounds": ROUNDS, "times": TIMES, "seconds": "CPU"}
    print(write("preloaded", {"settings": settings, "seconds": found}))


def child(name: str, **variables: str) -> float:
    """Return the CPU seconds that a process of its own measures."""
    given = [sys.executable, "-m", "benchmarks.preloaded", "--work", name]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    done = subprocess.run(given, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def rows(name: str, result: dict[str, Any]) -> str:
    """Return the table of the seconds without and with the library, and of their ratios."""
    lines = []
    for work, spent in result["seconds"].items():
        plain, fast = (statistics.median(spent[how]) for how in ("without", "with"))
        lines.append([work, seconds(plain), seconds(fast), f"{fast / plain:.2f}"])
    return table(["work", "without", "with", "with / without"], lines)


if __name__ == "__main__":
    run_command(main)
