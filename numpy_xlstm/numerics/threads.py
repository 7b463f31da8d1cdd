"""Independent pieces of work on several cores, if ``threadpoolctl`` is installed.

Within a layer, BLAS runs on one thread, and :func:`parallel_map` spreads work over several. After a
product on several threads, each thread of OpenBLAS occupies a core for a tenth of a second, which
would delay them. ``threadpoolctl``, of the extras ``cli`` and ``fast``, finds BLAS.

Ctrl-C may interrupt these functions at any call. Therefore they leave no thread, lock or limit of
BLAS behind. A thread ends with the call that has started it; it is not a ``threading.Thread``,
because an interrupt of ``Thread.start`` is not safe.
"""

import os
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar, copy_context
from functools import cache
from itertools import pairwise, product
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar
from weakref import ref

import numpy as np

from numpy_xlstm.numerics.activations import Array

Part = TypeVar("Part")
Result = TypeVar("Result")

BLOCKS = 4
"""Number of blocks of :func:`matmul`, fixed so that rounding does not depend on the threads."""

WORTH_THREADS = 2**26
"""Smallest number of multiplications in a product for which several threads are faster than one."""

_limits = RLock()
"""Guards the next two variables."""
_callers: set[Any] = set()
"""Weak references to all contexts :class:`one_blas_thread` that have been entered."""
_unlimited: list[int] = []
"""BLAS's numbers of threads before it was limited; empty while it is not."""
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
        return max(_unlimited or counts(), default=1)


def parallel_map(work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """Return the results of ``work`` on each part, in order, from :func:`num_threads` threads.

    An error of any thread is raised after the other threads have stopped.
    """
    with one_blas_thread():
        if len(parts) == 1:  # its work may itself use several threads
            return [work(parts[0])]
        results: dict[int, Result] = {}
        errors: list[BaseException] = []
        left = iter(range(len(parts)))  # a thread that is free takes the next

        def take_parts() -> None:
            _in_a_thread.set(True)
            for n in left:
                results[n] = work(parts[n])

        def help_with_parts(done: Any) -> None:
            try:
                take_parts()
            except BaseException as error:
                errors.append(error)
            done.release()

        helpers = []
        try:
            with suppress(RuntimeError):  # no thread can start, as when the interpreter ends
                for _ in range(min(num_threads(), len(parts)) - 1):
                    done = allocate_lock()
                    done.acquire()
                    start_new_thread(copy_context().run, (help_with_parts, done))
                    helpers.append(done)
            copy_context().run(take_parts)
        finally:
            list(left)  # after an error, no thread takes another part
            for done in helpers:
                done.acquire()
        if errors:
            raise errors[0]
        return [results[n] for n in range(len(parts))]


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """Return a @ b on several threads if it is large.

    The rows of ``a``, or its matrices, are divided between them, or the columns of ``b`` if there
    are more. Within the work of :func:`parallel_map` on several parts, one product is faster.
    """
    if _in_a_thread.get() or a.size * b.shape[-1] < WORTH_THREADS:
        return np.matmul(a, b, out=out)
    out = np.empty((*a.shape[:-1], b.shape[-1]), a.dtype) if out is None else out
    if a.ndim == 2 and len(a) < b.shape[1]:
        parts = spread(b.shape[1], BLOCKS)
        parallel_map(lambda part: np.matmul(a, b[:, part], out=out[:, part]), parts)
    else:
        parallel_map(lambda part: np.matmul(a[part], b, out=out[part]), spread(len(a), BLOCKS))
    return out


class one_blas_thread:
    """Context that limits BLAS to one thread until all callers, in any thread, have left it."""

    def __enter__(self) -> None:
        global _unlimited
        with _limits:
            _callers.add(ref(self, leave))  # leave runs even if __exit__ does not
            _unlimited = _unlimited or counts()
            limit_blas(1)

    def __exit__(self, *error: object) -> None:
        leave(ref(self))


def leave(caller: Any) -> None:
    """Forget a caller that leaves :class:`one_blas_thread`; the last one restores BLAS's threads.

    If an interrupt prevents a caller from leaving, this function runs when the caller is deleted.
    """
    global _unlimited
    with _limits:
        # two references are equal if they are to the same live object; a dead one has none
        others_alive = [other for other in _callers if other() is not None and other != caller]
        if not others_alive:
            for (_, set_count), count in zip(libraries(), _unlimited, strict=False):
                set_count(count)
            _unlimited = []
        _callers.discard(caller)


def start_in_child() -> None:
    """Forget the other threads of the parent process, which a forked child does not have."""
    global _limits
    _limits = RLock()
    _callers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=start_in_child)


def counts() -> list[int]:
    """Return BLAS's numbers of threads."""
    return [get_count() for get_count, _ in libraries()]


@cache
def libraries() -> list[tuple[Any, Any]]:
    """Return two functions of each BLAS library, which return and set its number of threads.

    There are none without ``threadpoolctl``. The functions of OpenBLAS are called directly, because
    ``threadpoolctl`` 3.7 ignores calls from all threads but one.
    """
    blas = blas_library()
    return [] if blas is None else [get_and_set(library) for library in blas.lib_controllers]


def get_and_set(library: Any) -> tuple[Any, Any]:
    """Return what gets and sets a library's number of threads, given its controller."""
    for before, after in product(("", "scipy_"), ("", "64_", "_64")):
        name = f"{before}openblas_%s_num_threads{after}"
        with suppress(AttributeError):
            return getattr(library.dynlib, name % "get"), getattr(library.dynlib, name % "set")
    return library.get_num_threads, library.set_num_threads


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
    paths = [library["filepath"] for library in blas.info()]
    if len(paths) > 1:
        folders = "numpy", "scipy"
        paths = [path for path in paths if Path(path).parent.name.startswith(folders)]
    return blas.select(filepath=paths) if paths else None


def limit_blas(count: int) -> None:
    """Limit the threads of BLAS in this process, if ``threadpoolctl`` is installed."""
    for _, set_count in libraries():
        set_count(count)
