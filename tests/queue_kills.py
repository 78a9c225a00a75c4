"""A list of tiny runs that is killed again and again; tests/test_reproduce.py runs it.

    python -m tests.queue_kills FOLDER

It is a process without threads, to fork. Prints how often it killed.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

from benchmarks.kills import end, fork
from benchmarks.reproduce import Reproduce, work
from benchmarks.reproduce_list import Protocol, Run, seeds

BANDIT = {
    "preset": "bandit-5",
    "algorithm": "promp",
    "label": "tiny",
    "changes": {"data.tasks": 2, "data.episodes": 2, "outer.epochs": 1},
    "protocols": (Protocol(tasks=2, steps=1),),
    "seconds": 0.01,
}
SINUSOID = {"preset": "sinusoid", "protocols": (Protocol(tasks=2, steps=1),), "seconds": 0.001}
RUNS = (
    *seeds(1, iterations=6, **BANDIT),
    Run(iterations=30, label="diverges", changes={"outer.learning_rate": 1e30}, **SINUSOID),
    Run(iterations=20, **SINUSOID),
    *seeds(2, iterations=9, **BANDIT),
    Run(preset="folder", iterations=1, seconds=1.0, optional=True),
)
LIMIT = 4  # kills, after which it is left to come to its end


def command(folder):
    return Reproduce(folder=folder / "work", results=folder / "results")


def main(folder):
    folder.mkdir(exist_ok=True)
    start = time.monotonic()
    assert end(fork(lambda: work(command(folder / "whole"), RUNS), folder / "whole.log")) == 0
    seconds = time.monotonic() - start
    generator, killed, status = random.Random(0), 0, None
    while status != 0:
        child = fork(lambda: work(command(folder / "killed"), RUNS), folder / "killed.log")
        if killed < LIMIT:
            time.sleep(generator.uniform(0, seconds / 2))
            os.kill(child, signal.SIGKILL)
        status = end(child)
        assert status in (0, -signal.SIGKILL), (folder / "killed.log").read_text()
        killed += status == -signal.SIGKILL
    return killed


if __name__ == "__main__":
    print(main(Path(sys.argv[1])))
