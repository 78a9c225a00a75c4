"""Memory and open files stay flat over a long run."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_resume import ROOT

MIB = 2**20


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("name", "iterations", "evaluations"),
    [
        ("sinusoid", 20_000, 20),
        ("bandit-5", 1_000, 20),
    ],
)
def test_memory_and_open_files_stay_flat(name, iterations, evaluations, tmp_path):
    command = [sys.executable, "-m", "tests.soak", name, iterations, evaluations, tmp_path]
    result = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    memory, files = map(int, result.stdout.split())
    print(f"{name}: {memory / MIB:+.1f} MiB and {files:+d} files in {iterations // 2} iterations")
    assert memory < 8 * MIB
    assert files <= 0
