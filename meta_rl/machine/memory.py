"""Keep freed memory in the process, for the next tensors, and find how much there is."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import torch

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of <malloc.h>
KEPT = 2**31 - 1  # bytes of freed memory to keep at the heap's end, mallopt's maximum
# Size in bytes from which a tensor gets pages of its own and returns them; before version 2.35 the
# GNU C library refuses more than the second value.
LARGE = 2**30, 2**25

FIELDS = [(name, ctypes.c_size_t) for name in (*"abcdefgh", "free", "top")]
"""The fields of ``struct mallinfo2``, of which the ninth is read."""


def keep_freed_memory() -> None:
    """Stop the C library from returning every large freed tensor to the system.

    The GNU C library gives large blocks (from 128 KiB to over 32 MiB) pages of their own, or trims
    them from its heap's end when freed. The next tensor of that size then takes a page fault for
    every 4 KiB: a quarter to a third of the seconds of an iteration whose activations are some
    megabytes. Keeping the memory raises the peak by about a tenth. Other systems do not change.

    Setting one threshold stops the other from growing with use. So trimming is not set if the page
    threshold is refused: setting it alone would be many times slower than setting neither.
    """
    mallopt = getattr(ctypes.pythonapi, "mallopt", None)
    # any() stops at the first size that mallopt accepts.
    if mallopt is not None and any(mallopt(MMAP_THRESHOLD, size) for size in LARGE):
        mallopt(TRIM_THRESHOLD, KEPT)


def available(device: torch.device) -> int | None:
    """Return the bytes that this process can still take on a device; None if nobody says.

    On the CPU it is the least of the system's available memory, swap and all, and what a container
    (cgroup) and ``ulimit -v`` leave. Memory that this process has freed and kept counts too.
    """
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    least = min([*_system(), *_containers(), *_address_space()], default=None)
    return None if least is None else least + _freed()


def _system() -> Iterator[int]:
    lines = (line.split() for line in _read("/proc/meminfo").splitlines())
    kilobytes = {line[0]: int(line[1]) for line in lines}
    if "MemAvailable:" in kilobytes:
        yield 1024 * (kilobytes["MemAvailable:"] + kilobytes.get("SwapFree:", 0))


def _containers() -> Iterator[int]:
    """Yield what each group of processes that this one is in leaves, of both versions of cgroup."""
    for line in _read("/proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" or "memory" in controllers.split(","):
            root = Path("/sys/fs/cgroup" if number == "0" else "/sys/fs/cgroup/memory")
            names = ("max", "current") if number == "0" else ("limit_in_bytes", "usage_in_bytes")
            own = root / path.lstrip("/")
            for folder in (own, *(up for up in own.parents if root in (up, *up.parents))):
                limit, used = (_read(folder / f"memory.{name}").strip() for name in names)
                if limit.isdigit() and used.isdigit():
                    yield int(limit) - int(used) + _files(folder)


def _files(folder: Path) -> int:
    """Return the bytes of files that a group keeps in memory, and would give up."""
    lines = (line.split() for line in _read(folder / "memory.stat").splitlines())
    held = {line[0]: int(line[1]) for line in lines}
    return sum(
        held.get(f"total_{kind}", held.get(kind, 0)) for kind in ("inactive_file", "active_file")
    )


def _address_space() -> Iterator[int]:
    try:
        from resource import RLIM_INFINITY, RLIMIT_AS, getrlimit
    except ImportError:  # not on Windows
        return
    limit, taken = getrlimit(RLIMIT_AS)[0], _read("/proc/self/statm").split()
    if limit != RLIM_INFINITY and taken:
        yield limit - int(taken[0]) * os.sysconf("SC_PAGE_SIZE")


def _freed() -> int:
    """Return the bytes that the GNU C library holds free in its heaps."""
    mallinfo = getattr(ctypes.pythonapi, "mallinfo2", None)
    if mallinfo is None:
        return 0
    mallinfo.restype = type("Mallinfo", (ctypes.Structure,), {"_fields_": FIELDS})
    return mallinfo().free


def _read(file: str | Path) -> str:
    """Return a file's text; nothing where the system has no such file."""
    try:
        return Path(file).read_text()
    except OSError:
        return ""
