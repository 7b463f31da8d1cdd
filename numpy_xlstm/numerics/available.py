"""How much memory there is, and whether what sizes ask for can be in it."""

import math
import os
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from numpy_xlstm.errors import SizeError

CGROUPS = Path("/sys/fs/cgroup")
"""Where Linux says what a container may have."""

Shape = tuple[int, ...]


def check_fits(
    shapes: Iterable[Shape],
    dtype: npt.DTypeLike,
    rng: np.random.Generator | None = None,
    times: int = 1,
) -> None:
    """Raise :class:`SizeError` if arrays of these shapes, so many times, are more than there is.

    They are drawn one after the other in float64. A generator of another class may draw what takes
    no memory: then nothing is checked.

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
            f"sizes: expected parameters that fit into the {limit / 2**30:,.1f} GiB of memory that "
            f"there are; got {needed / 2**30:,.1f} GiB"
        )


def memory_limit() -> float:
    """Bytes of the machine, or fewer if the container or the process may have no more."""
    return min(_machine(), _process())


@cache
def _machine() -> float:
    """What the machine has, and what its container may have of it; infinite if nobody says."""
    try:
        physical: float = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        physical = math.inf
    return min([physical, *_container()])


def _container() -> Iterator[float]:
    """The limits of the control groups that the process is in, from the innermost outwards."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    own = [line.split(":", 2)[2].lstrip("/") for line in lines if line.count(":") >= 2]
    folders = {CGROUPS / root / inside for root in ("", "memory") for inside in ("", *own)}
    for folder in {above for each in folders for above in (each, *each.parents)}:
        for name in ("memory.max", "memory.limit_in_bytes"):
            try:
                yield float((folder / name).read_text())
            except (OSError, ValueError):  # there is none, or it is "max"
                continue


def _process() -> float:
    """How much the process may ask for."""
    try:
        import resource
    except ImportError:
        return math.inf
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return math.inf if soft == resource.RLIM_INFINITY else soft
