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


def soak(name, warm, iterations, folder):
    """Growth in bytes of memory, and in open files, over a recorded run once it is warm."""
    config = replace(tiny(name, tasks=1), log_every=10, checkpoint_every=50)
    learner = presets.build(replace(config, eval=replace(config.eval, every=500, tasks=2)))
    with RunRecorder(folder, learner) as recorder:
        learner.learn(warm, [recorder])
        memory, files = resident(), len(os.listdir("/proc/self/fd"))
        learner.learn(iterations, [recorder])
        return resident() - memory, len(os.listdir("/proc/self/fd")) - files


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("name", "warm", "iterations"),
    [
        ("sinusoid", 100, 300),
        pytest.param("sinusoid", 1_000, 20_000, marks=pytest.mark.slow),
        pytest.param("bandit-5", 200, 2_000, marks=pytest.mark.slow),
    ],
)
def test_memory_and_open_files_stay_flat(name, warm, iterations, tmp_path):
    memory, files = soak(name, warm, iterations, tmp_path)
    print(f"{name}: {memory / MIB:+.1f} MiB and {files:+d} files in {iterations} iterations")
    assert memory < 32 * MIB
    assert files <= 0
