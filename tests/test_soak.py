"""Memory and open files stay flat over a long run."""

import gc
import os
from dataclasses import replace
from pathlib import Path

import pytest

import presets
from meta_rl.callbacks import RunRecorder
from tests.test_resume import tiny

MIB = 2**20


def resident():
    """Bytes of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def soak(name, iterations, folder):
    """Growth in bytes of memory, and in open files, over the second half of a recorded run.

    The first half has evaluated and drawn pictures ten times: matplotlib keeps its fonts open.
    """
    config = replace(tiny(name, tasks=1), log_every=10, checkpoint_every=50)
    evaluation = replace(config.eval, every=iterations // 20, tasks=2)
    learner = presets.build(replace(config, eval=evaluation))
    with RunRecorder(folder, learner) as recorder:
        learner.learn(iterations // 2, [recorder])
        memory, files = resident(), len(os.listdir("/proc/self/fd"))
        learner.learn(iterations // 2, [recorder])
        return resident() - memory, len(os.listdir("/proc/self/fd")) - files


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("name", "iterations"),
    [
        ("sinusoid", 300),
        pytest.param("sinusoid", 20_000, marks=pytest.mark.slow),
        pytest.param("bandit-5", 1_000, marks=pytest.mark.slow),
    ],
)
def test_memory_and_open_files_stay_flat(name, iterations, tmp_path):
    memory, files = soak(name, iterations, tmp_path)
    print(f"{name}: {memory / MIB:+.1f} MiB and {files:+d} files in {iterations // 2} iterations")
    assert memory < 8 * MIB
    assert files <= 0
