"""Available memory, and whether arrays fit into it."""

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from numpy_xlstm.errors import SizeError

CGROUPS = Path("/sys/fs/cgroup")
"""Folder in which Linux lists the limits of containers."""

Shape = tuple[int, ...]


def check_fits(
    shapes: Iterable[Shape],
    dtype: npt.DTypeLike,
    rng: np.random.Generator | None = None,
    times: int = 1,
) -> None:
    """Raise :class:`SizeError` if ``times`` arrays of these shapes do not fit into memory.

    If ``dtype`` is not float64, the largest array is also counted in float64, because each array is
    first drawn in float64. Nothing is checked for a subclass of generator, which may draw arrays
    that take no memory.

    Examples
    --------
    >>> check_fits([(4, 10**9), (4,)], np.float32, times=10**6)
    Traceback (most recent call last):
    numpy_xlstm.errors.SizeError: sizes: expected parameters that fit into ...
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
    """Return the memory in bytes of the machine, or the limit of the container or the process."""
    return min(_machine(), _process())


@cache
def _machine() -> float:
    """Return the memory of the machine or of its container in bytes; infinite if unknown."""
    try:
        physical: float = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        physical = math.inf
    return min([physical, *_container()])


def _container() -> Iterator[float]:
    """Yield the limits of the container, in versions 2 and 1 of control groups."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # no limit, or "max"
            yield float((CGROUPS / name).read_text())


def _process() -> float:
    """Return the memory limit of the process."""
    try:
        import resource
    except ImportError:
        return math.inf
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return math.inf if soft == resource.RLIM_INFINITY else soft
