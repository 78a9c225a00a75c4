"""Time a meta-iteration on 2-D navigation, in one process and in two under torchrun.

    OMP_NUM_THREADS=1 python -m benchmarks.processes

The work is the preset's, MAML-TRPO on 20 tasks x 20 episodes x 100 steps, with one thread for each
process: as one block, as two blocks one after another, and as two blocks by two processes. All
three take turns, so that other load falls on all alike. On a busy machine, CPU seconds say more
than the clock. Writes ``benchmarks/results/processes.json``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.provenance import write
from benchmarks.speed.machine import summary
from meta_rl.assemble import build
from meta_rl.machine import parallel
from meta_rl.presets import PRESETS
from meta_rl.storage import files

SETUPS = {"one process": (1, 1), "two blocks": (1, 2), "two processes": (2, 2)}
"""Number of processes and blocks of each setup."""


def measure(blocks: int, iterations: int, file: Path) -> None:
    """Write each iteration's seconds, by the clock and of CPU, after one to warm up."""
    with parallel.processes():
        learner = build(dataclasses.replace(PRESETS["navigation-2d"], blocks=blocks))
        learner.iterate()
        seconds = []
        for _ in range(iterations):
            start, busy = time.perf_counter(), time.process_time()
            learner.iterate()
            seconds.append((time.perf_counter() - start, time.process_time() - busy))
        if parallel.rank() == 0:
            files.write_json(file, seconds)


def launch(processes: int, blocks: int, iterations: int) -> list[tuple[float, float]]:
    """Measure under torchrun, and return the first process's seconds."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "seconds.json"
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        module = ["--nproc-per-node", str(processes), "-m", "benchmarks.processes"]
        options = ["--blocks", str(blocks), "--iterations", str(iterations), "--measure", str(file)]
        subprocess.run([*torchrun, *module, *options], check=True)
        return json.loads(file.read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--blocks", type=int, default=1, help="of a worker")
    parser.add_argument("--measure", type=Path, help="of a worker: file for the seconds")
    args = parser.parse_args()
    if args.measure:
        measure(args.blocks, args.iterations, args.measure)
        return
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in SETUPS}
    for _ in range(args.rounds):
        for name, setup in SETUPS.items():
            seconds[name] += launch(*setup, args.iterations)
    found = {
        name: dict(
            zip(("clock", "cpu"), map(summary, map(list, zip(*both, strict=True))), strict=True)
        )
        for name, both in seconds.items()
    }
    for name, values in found.items():
        print(name, {kind: value["median"] for kind, value in values.items()})
    print(
        write("processes", {"rounds": args.rounds, "iterations": args.iterations, "seconds": found})
    )


if __name__ == "__main__":
    main()
