"""Keep freed memory in the process, for the next tensors."""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of <malloc.h>
KEPT = 2**31 - 1  # bytes of freed memory to keep at the heap's end, mallopt's maximum
# Size in bytes from which a tensor gets pages of its own and returns them; before version 2.35 the
# GNU C library refuses more than the second value.
LARGE = 2**30, 2**25


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
