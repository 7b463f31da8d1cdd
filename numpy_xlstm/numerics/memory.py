"""Settings of the memory allocator."""

import ctypes
import os
import sys
from functools import cache

KEPT = 2**29
"""Number of free bytes at the end of the heap that are kept."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of ``mallopt``, see its manual page."""

LARGEST = 2**25
"""Size in bytes from which arrays are mapped by the system instead of stored in the heap. It is the
largest value that glibc allows."""

SAID = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
"""Environment variables that configure the allocator."""


@cache
def keep_freed_memory() -> None:
    """Make the allocator of Linux keep freed memory, from the first call on.

    A forward frees many arrays that the next one needs again. By default glibc returns most of them
    to the system, and allocating them again can take longer than the computation. Nothing is
    changed if an environment variable configures the allocator, or without glibc.
    """
    if sys.platform != "linux" or any(name in os.environ for name in SAID):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT)
        mallopt(M_MMAP_THRESHOLD, LARGEST)
