"""Memory that is freed and needed again at once."""

import ctypes
import os
import sys

KEPT = 2**29
"""Bytes of freed memory that the process keeps, at most."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of ``mallopt``, see its manual page."""

LARGEST = 2**25
"""Arrays above this the system gives and takes in any case: glibc has no higher limit."""


def keep_freed_memory() -> None:
    """Make the allocator of Linux keep what is freed.

    A forward frees many arrays that the next one needs again. By default glibc gives most of them
    back to the system, and getting them again can take longer than computing what is in them.
    Where the environment says how much to keep (``MALLOC_TRIM_THRESHOLD_``), and elsewhere than on
    glibc, this does nothing.
    """
    if sys.platform != "linux" or "MALLOC_TRIM_THRESHOLD_" in os.environ:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT)
        mallopt(M_MMAP_THRESHOLD, LARGEST)
