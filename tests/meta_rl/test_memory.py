"""Freed memory stays with the process."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from meta_rl.machine import memory
from meta_rl.machine.memory import keep_freed_memory

FAULTS = """
import resource, sys, torch
from meta_rl.machine.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
x = torch.zeros(10, 2**20)  # 40 MB
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        y = x + 1
        del y
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
# The least of six: a kernel that watches where pages are used (NUMA balancing) adds faults
# of its own to some of them.
print(min(faults() for _ in range(6)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other C libraries stay as they are")
def test_a_large_tensor_takes_the_pages_of_the_one_freed_before():
    both = [
        subprocess.Popen([sys.executable, "-c", FAULTS, how], stdout=subprocess.PIPE, text=True)
        for how in ("kept", "usual")
    ]
    kept, usual = (int(process.communicate()[0]) for process in both)
    assert kept * 100 < usual, f"{kept} page faults, without it {usual}"


def test_calling_it_again_changes_nothing():
    keep_freed_memory()
    keep_freed_memory()


@pytest.mark.parametrize(
    ("most", "taken"),
    [
        (2**30, [(-3, 2**30), (-1, 2**31 - 1)]),
        (2**25, [(-3, 2**25), (-1, 2**31 - 1)]),  # the GNU C library before 2.35
        (0, []),
    ],
)
def test_trimming_is_left_alone_where_large_blocks_get_pages_of_their_own(monkeypatch, most, taken):
    accepted = []

    def mallopt(parameter, value):
        if parameter == memory.MMAP_THRESHOLD and value > most:
            return 0
        accepted.append((parameter, value))
        return 1

    api = SimpleNamespace(mallopt=mallopt)
    monkeypatch.setattr(memory, "ctypes", SimpleNamespace(pythonapi=api))
    keep_freed_memory()
    assert accepted == taken
