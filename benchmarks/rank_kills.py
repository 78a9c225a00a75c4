"""Kill one of two processes of a run again and again: ``python -m benchmarks.rank_kills``.

torchrun trains in two processes. After some iterations, a process drawn at random gets SIGKILL at a
random moment. torchrun restarts both, and they resume from the newest checkpoint. The last
checkpoint must hold the tensors of an uninterrupted run in one process, bit for bit. Writes
``benchmarks/results/rank-kills.json``.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro

from benchmarks.kills import TINY, last
from benchmarks.provenance import write
from meta_rl.cli import train
from meta_rl.storage import run_folder

EVERY = 8  # iterations between kills
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@dataclass(frozen=True, kw_only=True)
class RankKills:
    """How often to kill."""

    launches: int = 4
    """Launches of torchrun."""
    kills: int = 5
    """Kills in each launch."""
    patience: float = 600.0
    """Seconds that a run may take to recover; then the kill counts as not recovered from."""
    seed: int = 0
    """Seed of ranks and moments."""
    write: bool = False
    """Keep the result in benchmarks/results."""


def main(command: RankKills) -> None:
    """Print what happened as JSON; exit 1 if anything was lost."""
    torch.set_num_threads(1)
    generator, counts, seconds = random.Random(command.seed), Counter[str](), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = ["navigation-2d", *TINY, "--data.episodes", "2", "--blocks", "2"]
        options += ["--iterations", str(EVERY * (command.kills + 1)), "--checkpoint-every", "1"]
        train.main([*options, "--log-dir", str(folder / "whole")])
        whole = last(folder / "whole" / "navigation-2d_1")
        for launch in range(command.launches):
            logs = folder / str(launch)
            seconds += live_through([*options, "--log-dir", str(logs)], logs, command, generator)
            kept = last(logs / "navigation-2d_1")
            counts += Counter({"launches": 1, "different": int(kept != whole)})
            counts["recovered"] = len(seconds)
            print(dict(counts), file=sys.stderr, flush=True)
    killed = command.launches * command.kills
    result = {
        "settings": asdict(command),
        "killed": killed,
        **{name: counts[name] for name in ("recovered", "launches", "different")},
        "seconds_to_go_on": [round(value, 1) for value in seconds],
    }
    print(json.dumps(result, indent=1))
    if command.write:
        write("rank-kills", result)
    raise SystemExit(1 if counts["different"] or counts["recovered"] < killed else 0)


def live_through(
    options: list[str], logs: Path, command: RankKills, generator: random.Random
) -> list[float]:
    """Train under torchrun and kill; return the seconds from each kill to two checkpoints more."""
    settings = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*TORCHRUN, "--max-restarts", str(2 * command.kills), "train.py", *options],
        env={**os.environ, **settings},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    seconds = []
    try:
        for number in range(command.kills):
            if not reached(logs, EVERY * (number + 1), process, command.patience):
                return seconds
            time.sleep(generator.uniform(0, 0.5))
            os.kill(generator.choice(workers(process.pid)), signal.SIGKILL)
            killed, at = time.monotonic(), newest(logs)
            # Two, because rank 0 may still have been saving the first.
            if not reached(logs, at + 2, process, command.patience):
                return seconds
            seconds.append(time.monotonic() - killed)
        process.wait(command.patience)
        return seconds
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def reached(logs: Path, iteration: int, process: subprocess.Popen, patience: float) -> bool:
    """Wait for a checkpoint of this iteration; return False if the run ended or hung first."""
    until = time.monotonic() + patience
    while newest(logs) < iteration:
        if process.poll() is not None or time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def newest(logs: Path) -> int:
    """Return the number of the run's newest checkpoint; -1 if it has none."""
    return max((int(p.name) for p in run_folder.checkpoints(logs / "navigation-2d_1")), default=-1)


def workers(launcher: int) -> list[int]:
    """Return the ids of the processes that torchrun has started."""
    children = (
        Path(f"/proc/{launcher}/task/{launcher}/children").read_text(encoding="utf-8").split()
    )
    return [int(child) for child in children]


if __name__ == "__main__":
    main(tyro.cli(RankKills, description=__doc__))
