"""Independent pieces of work on several cores, with the extra ``threads``.

Products of many small matrices hardly gain from the threads of a BLAS library. Threads that each
do their own rows and heads do gain, since NumPy lets go of the interpreter while it computes. But
then the BLAS library must not start threads as well, which ``threadpoolctl`` can tell it.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import cache
from itertools import pairwise
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Generic, TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")

_limiting = Lock()
"""Held by the one caller that limits BLAS: two would not restore what they found."""

_cores: ContextVar[int] = ContextVar("_cores", default=0)
"""As many threads as there may be where BLAS is limited to one; 0 where it is not."""


def spread(size: int, count: int) -> list[slice]:
    """Cut ``size`` places into at most ``count`` slices of about equal length."""
    count = max(1, min(size, count))
    return [slice(a, b) for a, b in pairwise(size * n // count for n in range(count + 1))]


def num_threads() -> int:
    """As many as BLAS may use, or might if it were not limited; 1 without ``threadpoolctl``."""
    controller = _controller()
    if controller is None:
        return 1
    return _cores.get() or max((library["num_threads"] for library in controller.info()), default=1)


class Piece(Generic[Result]):
    """A piece of work for another thread, which the caller can take back until it is begun."""

    def __init__(self, movable: bool, work: Callable[..., Result], *arguments: Any) -> None:
        self._movable, self._work, self._arguments = movable, work, arguments
        self._context = copy_context()
        self._context.run(_cores.set, 1)  # a piece is not cut again
        self._there: Future[Result] = Future()
        self._here: list[Result] = []

    @property
    def done(self) -> bool:
        """Whether it is done, here or there."""
        return self._there.done()

    def do(self) -> None:
        """Do it there, unless it has been taken back."""
        if not self._there.set_running_or_notify_cancel():
            return
        try:
            self._there.set_result(self._context.run(self._work, *self._arguments))
        except BaseException as error:  # is raised where the result is asked for
            self._there.set_exception(error)

    def take_back(self) -> bool:
        """Do it here, and say whether: not if it has to be done in order, or is begun or done."""
        if not self._movable or self.done or not self._there.cancel():
            return False
        self._here.append(self._context.run(self._work, *self._arguments))
        return True

    def forget(self) -> None:
        """Wait until it is not under way: it is done, or will not be done."""
        if not self._there.cancel():
            self._there.exception()

    def result(self) -> Result:
        """Wait for the result; raise what the work has raised."""
        return self._here[0] if self._here else self._there.result()


def started(work: Callable[[], object]) -> Thread | None:
    """A thread that does this; None where none can be started, as when the interpreter ends."""
    thread = Thread(target=work, daemon=True)  # nobody waits for one that is not ended
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread


def parallel_map(work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """Results of ``work`` on each part, in order, found at the same time."""
    if len(parts) == 1:
        return [work(part) for part in parts]
    with one_blas_thread() as limited:
        if not limited:
            return [work(part) for part in parts]
        pieces = [Piece(True, work, part) for part in parts]
        threads = [started(piece.do) for piece in pieces[1:]]
        try:
            for piece in pieces:
                piece.take_back()
            return [piece.result() for piece in pieces]
        finally:
            for thread in filter(None, threads):
                thread.join()


def can_limit_blas() -> bool:
    """Whether BLAS can be told how many threads to take."""
    return _controller() is not None


@contextmanager
def one_blas_thread() -> Iterator[bool]:
    """Let BLAS start no threads; False if that cannot be had, or another thread has it."""
    controller, cores = _controller(), num_threads()
    if _cores.get():
        yield True
        return
    if controller is None or not _limiting.acquire(blocking=False):
        yield False
        return
    token = _cores.set(cores)
    try:
        with controller.limit(limits=1):
            yield True
    finally:
        _cores.reset(token)
        _limiting.release()


@cache
def _controller() -> Any:
    """What ``threadpoolctl`` knows of NumPy's BLAS library.

    None if it is not installed, or if there are several such libraries, as SciPy and PyTorch bring
    their own, and none of them is in NumPy's folder.
    """
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    blas = ThreadpoolController().select(user_api="blas")
    found = [library["filepath"] for library in blas.info()]
    if len(found) > 1:
        found = [path for path in found if Path(path).parent.name.startswith("numpy")]
    return blas.select(filepath=found) if len(found) == 1 else None
