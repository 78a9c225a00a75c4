"""Run a long recorded run in a process of its own: other tests' leavings move its memory.

python -m tests.soak PRESET ITERATIONS EVALUATIONS FOLDER
"""

import gc
import os
import sys
from dataclasses import replace
from pathlib import Path

import meta_rl
from meta_rl.runs.recorder import RunRecorder
from tests.test_resume import tiny


def used():
    """Return this process's bytes in memory and the number of its open files."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd"))


def soak(name, iterations, evaluations, folder):
    """Return how much memory (bytes) and open files grow between two halves of a recorded run.

    Compare the least that each half uses at forty moments of its second part. One moment would not
    do: after an evaluation the allocator keeps some 11 MiB for a while, here or there. The first
    half has evaluated and drawn pictures as well: matplotlib keeps its fonts open.
    """
    config = replace(tiny(name, tasks=1), log_every=10, checkpoint_every=50)
    evaluation = replace(config.eval, every=iterations // evaluations, tasks=2)
    learner = meta_rl.build(replace(config, eval=evaluation))
    half, every = iterations // 2, max(1, iterations // 160)
    seen = [], []

    def look(learner, metrics):
        number, within = divmod(learner.iteration - 1, half)
        if within >= half // 2 and within % every == 0:
            seen[number].append(used())

    with RunRecorder(folder, learner) as recorder:
        learner.learn(half, [recorder, look])
        learner.learn(half, [recorder, look])
    before, after = ([min(each) for each in zip(*moments, strict=True)] for moments in seen)
    return [new - old for new, old in zip(after, before, strict=True)]


if __name__ == "__main__":
    name, iterations, evaluations, folder = sys.argv[1:]
    print(*soak(name, int(iterations), int(evaluations), Path(folder)))
