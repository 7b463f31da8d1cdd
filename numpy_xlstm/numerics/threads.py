"""Independent pieces of work on several cores, with the extra ``fast``.

Threads of a BLAS library are of little use for products of many small matrices. Threads that each
compute some rows and heads are faster, because NumPy releases the interpreter lock. BLAS must then
not start threads as well; ``threadpoolctl`` limits it.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context
from functools import cache
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")

WORTH_BLAS_THREADS = 2**28
"""Number of multiplications in a call from which BLAS threads make it faster."""

_limits = Lock()
_inside = 0
"""Number of callers that limit BLAS now. The first stores in ``_found`` what the last restores."""
_found: list[int] = []


def spread(size: int, count: int) -> list[slice]:
    """Split ``size`` places into at most ``count`` slices of about equal length."""
    count = max(1, min(size, count))
    return [slice(a, b) for a, b in pairwise(size * n // count for n in range(count + 1))]


def num_threads() -> int:
    """Return the number of threads that BLAS may use now; 1 without ``threadpoolctl``."""
    blas = blas_library()
    return 1 if blas is None else max((one["num_threads"] for one in blas.info()), default=1)


def parallel_map(work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """Return the results of ``work`` on each part, in order, from :func:`num_threads` threads.

    BLAS starts no threads meanwhile, so :func:`num_threads` is 1 within ``work``.
    """
    count = min(len(parts), num_threads())
    with one_blas_thread():
        if count <= 1:
            return [work(part) for part in parts]
        with ThreadPoolExecutor(count) as pool:
            results = [pool.submit(copy_context().run, work, part) for part in parts]
            return [result.result() for result in results]


def suited_to(work: int) -> AbstractContextManager[None]:
    """Return a context in which BLAS starts no threads if ``work`` multiplications are too few.

    If another program uses a core, each product on two threads waits for that core.
    """
    return nullcontext() if work >= WORTH_BLAS_THREADS else one_blas_thread()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread until all callers, in any thread, have left this context."""
    global _inside, _found
    blas = blas_library()
    libraries = [] if blas is None else blas.lib_controllers
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
