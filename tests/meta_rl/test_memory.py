"""Freed memory stays with the process."""

import subprocess
import sys

import pytest

from meta_rl.memory import keep_freed_memory

FAULTS = """
import resource, sys, torch
from meta_rl.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
x = torch.zeros(10, 2**20)  # 40 MB
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        y = x + 1
        del y
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print([faults() for _ in range(6)][-1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other C libraries stay as they are")
def test_a_large_tensor_takes_the_pages_of_the_one_freed_before():
    def run(how):
        command = [sys.executable, "-c", FAULTS, how]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    kept, usual = run("kept"), run("usual")
    assert kept * 100 < usual, f"{kept} page faults, without it {usual}"


def test_calling_it_again_changes_nothing():
    keep_freed_memory()
    keep_freed_memory()
