"""A long recorded run in a process of its own: what other tests left behind moves its memory.

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


def resident():
    """Bytes of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def soak(name, iterations, evaluations, folder):
    """Growth in bytes of memory, and in open files, over the second half of a recorded run.

    The first half has evaluated and drawn pictures as well: matplotlib keeps its fonts open.
    """
    config = replace(tiny(name, tasks=1), log_every=10, checkpoint_every=50)
    evaluation = replace(config.eval, every=iterations // evaluations, tasks=2)
    learner = meta_rl.build(replace(config, eval=evaluation))
    with RunRecorder(folder, learner) as recorder:
        learner.learn(iterations // 2, [recorder])
        memory, files = resident(), len(os.listdir("/proc/self/fd"))
        learner.learn(iterations // 2, [recorder])
        return resident() - memory, len(os.listdir("/proc/self/fd")) - files


if __name__ == "__main__":
    name, iterations, evaluations, folder = sys.argv[1:]
    print(*soak(name, int(iterations), int(evaluations), Path(folder)))
