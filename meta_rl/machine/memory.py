"""Freed memory kept by the process, for the next tensors to use."""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of <malloc.h>
KEPT = 2**31 - 1  # bytes of freed memory at the heap's end, the most that mallopt takes
# Bytes of a tensor from which on it gets pages of its own and gives them back; before version 2.35
# the GNU C library refuses more than the second.
LARGE = 2**30, 2**25


def keep_freed_memory() -> None:
    """Stop the C library from handing every large freed tensor back to the system.

    The GNU C library gives blocks of 128 KiB to 32 MiB and more pages of their own, or trims them
    from its heap's end when they are freed, and the next tensor of that size takes a page fault for
    every 4 KiB: a quarter to a third of the seconds of an iteration whose activations are some
    megabytes. The peak of memory grows by a tenth or so. Other systems stay as they are.

    Either threshold once set keeps the other from growing with use, so the trimming is left alone
    where the pages are refused: it would be many times slower than nothing.
    """
    mallopt = getattr(ctypes.pythonapi, "mallopt", None)
    # any() stops at the first that is taken.
    if mallopt is not None and any(mallopt(MMAP_THRESHOLD, size) for size in LARGE):
        mallopt(TRIM_THRESHOLD, KEPT)
