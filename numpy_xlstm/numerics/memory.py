"""Memory that is freed and needed again at once."""

import ctypes
import os
import sys

KEPT = 2**29
"""So many free bytes at the end of the heap are kept."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of ``mallopt``, see its manual page."""

LARGEST = 2**25
"""Larger arrays are not on the heap: the system gives and takes them. glibc has no higher limit."""

SAID = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
"""Variables of the environment that say what the allocator shall do."""


def keep_freed_memory() -> None:
    """Make the allocator of Linux keep what is freed.

    A forward frees many arrays that the next one needs again. By default glibc gives most of them
    back to the system, and getting them again can take longer than computing what is in them.
    Where the environment says what the allocator shall do, and elsewhere than on glibc, this does
    nothing.
    """
    if sys.platform != "linux" or any(name in os.environ for name in SAID):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT)
        mallopt(M_MMAP_THRESHOLD, LARGEST)
