"""Memory: whether arrays fit into it, and an allocator that keeps freed memory."""

import ctypes
import math
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from numpy_xlstm.errors import SizeError

CGROUPS, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Linux's folder of control groups with their limits, and the list of those of this process."""

SAID = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
"""Environment variables that configure the allocator."""


def check_fits(
    shapes: Iterable[tuple[int, ...]],
    dtype: npt.DTypeLike,
    rng: np.random.Generator | None = None,
    times: int = 1,
) -> None:
    """Raise :class:`SizeError` if ``times`` arrays of these shapes do not fit into memory.

    If ``dtype`` is not float64, the largest array is also counted in float64, because each array is
    first drawn in float64. Nothing is checked for a subclass of generator, which may draw arrays
    that take no memory.
    """
    if rng is not None and type(rng) is not np.random.Generator:
        return
    sizes = [math.prod(shape) for shape in shapes]
    needed = times * sum(sizes) * np.dtype(dtype).itemsize
    if dtype != np.float64:
        needed += max(sizes) * np.dtype(np.float64).itemsize
    if needed > (limit := memory_limit()):
        raise SizeError(
            f"sizes: expected parameters that fit into the {limit / 2**30:,.1f} GiB of available "
            f"memory; got {needed / 2**30:,.1f} GiB"
        )


def memory_limit() -> float:
    """Return the memory in bytes of the machine, or a lower limit of the process."""
    try:
        import resource
    except ImportError:
        return _memory_of_machine()
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return (
        _memory_of_machine() if soft == resource.RLIM_INFINITY else min(_memory_of_machine(), soft)
    )


@cache
def _memory_of_machine() -> float:
    """Return the memory of the machine or a lower limit of a control group; infinite if unknown."""
    limits = [math.inf]
    with suppress(AttributeError, ValueError, OSError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError):
        for line in MEMBERSHIP.read_text().splitlines():  # 0::/a/b, or in version 1 4:memory:/a/b
            _, controller, group = line.split(":", 2)
            name = "memory.limit_in_bytes" if controller else "memory.max"
            inner = CGROUPS / controller / group.strip("/")
            for folder in (inner, *inner.parents):
                with suppress(OSError, ValueError):  # no limit, or "max"
                    limits.append(float((folder / name).read_text()))
    return min(limits)


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
        mallopt(-1, 2**29)  # M_TRIM_THRESHOLD: free bytes at the end of the heap that are kept
        mallopt(-3, 2**25)  # M_MMAP_THRESHOLD, the largest that glibc allows: others are mapped
