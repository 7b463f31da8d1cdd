"""Independent pieces of work on several cores, if ``threadpoolctl`` is installed.

Within a layer, BLAS runs on one thread, and :func:`parallel_map` spreads work over several threads,
because NumPy releases the interpreter lock. ``threadpoolctl`` limits BLAS: after a product on
several threads, each thread of OpenBLAS waits in a loop that occupies a core for a tenth of a
second, and would delay the threads of :func:`parallel_map`. The extras ``cli`` and ``fast`` install
it.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import cache
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import numpy as np

from numpy_xlstm.numerics.arrays import Array

Part = TypeVar("Part")
Result = TypeVar("Result")

BLOCKS = 4
"""Number of blocks of :func:`matmul`, fixed so that rounding does not depend on the threads."""

WORTH_THREADS = 2**26
"""Smallest number of multiplications in a product for which several threads are faster than one."""

_limits = Lock()
_inside = 0
"""Number of callers that limit BLAS now. The first caller stores the numbers of threads in
``_found``, and the last one restores them."""
_found: list[int] = []
_in_a_thread: ContextVar[bool] = ContextVar("_in_a_thread", default=False)


def spread(size: int, count: int) -> list[slice]:
    """Split ``size`` places into at most ``count`` slices of about equal length."""
    count = max(1, min(size, count))
    return [slice(a, b) for a, b in pairwise(size * n // count for n in range(count + 1))]


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    return len(affinity(0))


def num_threads() -> int:
    """Return the number of threads that may be used now: BLAS's number before it is limited.

    It is 1 without ``threadpoolctl``, and within the work of :func:`parallel_map` on several parts.
    """
    if _in_a_thread.get():
        return 1
    with _limits:
        counts = _found if _inside else [library.num_threads for library in blas_libraries()]
        return max(counts, default=1)


def parallel_map(work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """Return the results of ``work`` on each part, in order, from :func:`num_threads` threads."""
    count = min(num_threads(), len(parts))
    with one_blas_thread():
        if len(parts) == 1:  # its work may itself use several threads
            return [work(parts[0])]
        results: dict[int, Result] = {}
        left = iter(range(len(parts)))  # a thread that is free takes the next

        def take_parts() -> None:
            _in_a_thread.set(True)
            for n in left:
                results[n] = work(parts[n])

        others = [pool().submit(copy_context().run, take_parts) for _ in range(count - 1)]
        try:
            copy_context().run(take_parts)
        finally:
            wait(others)
        for other in others:
            other.result()
        return [results[n] for n in range(len(parts))]


@cache
def pool() -> ThreadPoolExecutor:
    """Return the threads of this process."""
    return ThreadPoolExecutor()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.cache_clear)  # a child has no threads


def matmul(a: Array, b: Array) -> Array:
    """Return a @ b, with the rows or matrices of ``a`` on several threads if it is large.

    Within the work of :func:`parallel_map` on several parts, one product is faster.
    """
    if _in_a_thread.get() or a.size * b.shape[-1] < WORTH_THREADS:
        return a @ b
    out = np.empty((*a.shape[:-1], b.shape[-1]), a.dtype)
    parallel_map(lambda part: np.matmul(a[part], b, out=out[part]), spread(len(a), BLOCKS))
    return out


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread until all callers, in any thread, have left this context."""
    global _inside, _found
    libraries = blas_libraries()
    with _limits:
        if not _inside:
            _found = [library.num_threads for library in libraries]
            for library in libraries:
                library.set_num_threads(1)
        _inside += 1
    try:
        yield
    finally:
        with _limits:
            _inside -= 1
            if not _inside:
                for library, count in zip(libraries, _found, strict=True):
                    library.set_num_threads(count)


def blas_libraries() -> list[Any]:
    """Return controllers of the BLAS libraries; none without ``threadpoolctl``."""
    blas = blas_library()
    return [] if blas is None else blas.lib_controllers


@cache
def blas_library() -> Any:
    """Return the controller of ``threadpoolctl`` for the BLAS libraries of NumPy and SciPy.

    Compiled kernels call SciPy's library. The result is None without ``threadpoolctl``, or if there
    are several libraries, such as that of PyTorch, and none is in NumPy's or SciPy's folder.
    """
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    import scipy.linalg.cython_blas  # noqa: F401  load the library before it is searched

    blas = ThreadpoolController().select(user_api="blas")
    found = [library["filepath"] for library in blas.info()]
    if len(found) > 1:
        ours = "numpy", "scipy"
        found = [path for path in found if Path(path).parent.name.startswith(ours)]
    return blas.select(filepath=found) if found else None


def limit_blas(count: int) -> None:
    """Limit the threads of BLAS in this process, if ``threadpoolctl`` is installed."""
    if (blas := blas_library()) is not None:
        blas.limit(limits=count)
