"""Independent pieces of work on several cores, with the extra ``fast``.

Products of many small matrices hardly gain from the threads of a BLAS library. Threads that each
do their own rows and heads do gain, since NumPy lets go of the interpreter while it computes. But
then the BLAS library must not start threads as well, which ``threadpoolctl`` can tell it.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")

WORTH_BLAS_THREADS = 2**28
"""Multiplications of a call from which on the threads of BLAS make it faster."""

_limiting = Lock()
"""Held by the one caller that limits BLAS: two would not restore what they found."""


def spread(size: int, count: int) -> list[slice]:
    """Cut ``size`` places into at most ``count`` slices of about equal length."""
    count = max(1, min(size, count))
    return [slice(a, b) for a, b in pairwise(size * n // count for n in range(count + 1))]


def num_threads() -> int:
    """As many as BLAS may use now; 1 without ``threadpoolctl``."""
    blas = blas_library()
    return 1 if blas is None else max((one["num_threads"] for one in blas.info()), default=1)


def parallel_map(work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """Results of ``work`` on each part, in order, found at the same time if that is possible.

    Meanwhile BLAS starts no threads, so that :func:`num_threads` is 1 within ``work``.
    """
    blas = blas_library()
    if blas is None or not _limiting.acquire(blocking=False):
        return [work(part) for part in parts]
    try:
        with blas.limit(limits=1):
            if len(parts) == 1:
                return [work(parts[0])]
            with ThreadPoolExecutor(len(parts)) as pool:
                results = [pool.submit(copy_context().run, work, part) for part in parts]
                return [result.result() for result in results]
    finally:
        _limiting.release()


@contextmanager
def suited_to(work: int) -> Iterator[None]:
    """Let BLAS start no threads for ``work`` multiplications if they are too few to gain from it.

    Where another program has a core, a product on two threads waits for that core at each step.
    """
    blas = None if work >= WORTH_BLAS_THREADS else blas_library()
    if blas is None or not _limiting.acquire(blocking=False):
        yield
        return
    before = [library.num_threads for library in blas.lib_controllers]
    try:
        for library in blas.lib_controllers:
            library.set_num_threads(1)
        yield
    finally:
        for library, count in zip(blas.lib_controllers, before, strict=True):
            library.set_num_threads(count)
        _limiting.release()


@cache
def blas_library() -> Any:
    """What ``threadpoolctl`` knows of the BLAS libraries of NumPy and of SciPy.

    Compiled kernels call SciPy's. None if it is not installed, or if there are several libraries,
    as PyTorch brings its own, and none of them is in NumPy's or SciPy's folder.
    """
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    import scipy.linalg.cython_blas  # noqa: F401  the library must be there to be found

    blas = ThreadpoolController().select(user_api="blas")
    found = [library["filepath"] for library in blas.info()]
    if len(found) > 1:
        ours = "numpy", "scipy"
        found = [path for path in found if Path(path).parent.name.startswith(ours)]
    return blas.select(filepath=found) if found else None
