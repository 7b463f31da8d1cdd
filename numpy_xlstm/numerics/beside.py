"""Large pieces of work in a second thread, while the caller goes through a loop of small ones.

A recurrence is a chain of small operations, which one core has to go through. What leads to it and
away from it are a few large products, which another core can do meanwhile: NumPy lets go of the
interpreter while it computes. Every sum is taken in the same order, whoever takes it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, Generic, TypeVar

from numpy_xlstm.numerics.threads import num_threads, one_blas_thread

Part = TypeVar("Part")
Result = TypeVar("Result")

WORTH = 2**27
"""Multiplications in the large pieces from which on a second thread is worth being started."""

AHEAD = 2
"""So many results may be there before they are asked for: each takes memory."""

WAITING = 4
"""So many pieces of work may wait, likewise."""


class Alone:
    """No second thread: whatever is said is done at once."""

    def ahead(self, work: Callable[[Part], Result], parts: Iterable[Part]) -> Iterator[Result]:
        """Results of ``work`` on each part, in order; some are made before they are asked for."""
        return map(work, parts)

    def behind(self, work: Callable[..., object], *arguments: Any) -> None:
        """Do this before the end, and after all else that was said with :meth:`behind`."""
        work(*arguments)

    def anywhere(self, work: Callable[..., object], *arguments: Any) -> None:
        """Do this before the end, in whichever thread has time for it."""
        work(*arguments)

    def finish(self) -> None:
        """Wait until all is done; raise what any of it has raised."""


ALONE = Alone()


class Beside(Alone):
    """A second thread, which does what it is told in order; where it lags, the caller helps out."""

    def __init__(self, thread: Executor) -> None:
        self._thread = thread
        self._waiting: deque[Piece[object]] = deque()

    def ahead(self, work: Callable[[Part], Result], parts: Iterable[Part]) -> Iterator[Result]:
        """Results of ``work`` on each part, in order; some are made before they are asked for."""
        begun: deque[Piece[Result]] = deque()
        for part in parts:
            begun.append(Piece(self._thread, True, work, part))
            if len(begun) > AHEAD:
                yield _finished(begun, begun)
        while begun:
            yield _finished(begun, begun)

    def behind(self, work: Callable[..., object], *arguments: Any) -> None:
        """Do this before the end, and after all else that was said with :meth:`behind`."""
        self._append(False, work, *arguments)

    def anywhere(self, work: Callable[..., object], *arguments: Any) -> None:
        """Do this before the end, in whichever thread has time for it."""
        self._append(True, work, *arguments)

    def finish(self) -> None:
        """Wait until all is done; raise what any of it has raised."""
        while self._waiting:
            _finished(self._waiting, [*reversed(self._waiting)])

    def _append(self, movable: bool, work: Callable[..., object], *arguments: Any) -> None:
        while self._waiting and (self._waiting[0].done or len(self._waiting) >= WAITING):
            _finished(self._waiting, [*reversed(self._waiting)])
        self._waiting.append(Piece(self._thread, movable, work, *arguments))


class Piece(Generic[Result]):
    """A piece of work for the thread, which the caller can take back until it is begun."""

    def __init__(
        self, thread: Executor, movable: bool, work: Callable[..., Result], *arguments: Any
    ) -> None:
        self._movable, self._work, self._arguments = movable, work, arguments
        self._there: Future[Result] = thread.submit(copy_context().run, work, *arguments)
        self._here: list[Result] = []

    @property
    def done(self) -> bool:
        """Whether it is done, here or there."""
        return self._there.done()

    def take_back(self) -> bool:
        """Do it here, and say whether: not if it has to be done in order, or is begun or done."""
        if not self._movable or self.done or not self._there.cancel():
            return False
        self._here.append(self._work(*self._arguments))
        return True

    def result(self) -> Result:
        """Wait for the result; raise what the work has raised."""
        return self._here[0] if self._here else self._there.result()


def _finished(pieces: "deque[Piece[Result]]", spare: Iterable[Piece[Result]]) -> Result:
    """Result of the first of the pieces, which is taken away; meanwhile do one of the spare."""
    if not pieces[0].done:
        any(piece.take_back() for piece in spare)
    return pieces.popleft().result()


@contextmanager
def beside(multiplications: int) -> Iterator[Alone]:
    """Start a second thread where that is worthwhile and possible; at the end, all is done.

    It is possible with the extra ``threads``. While there are two, BLAS starts none of its own.
    """
    from concurrent.futures import ThreadPoolExecutor  # not for those who never need it

    if multiplications < WORTH or num_threads() < 2:
        yield ALONE
        return
    with one_blas_thread() as limited:
        if not limited:
            yield ALONE
            return
        with ThreadPoolExecutor(1) as thread:
            helper = Beside(thread)
            yield helper
            helper.finish()
