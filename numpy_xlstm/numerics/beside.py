"""Large pieces of work in a second thread, while the caller goes through a loop of small ones.

A recurrence is a chain of small operations, which one core has to go through. What leads to it and
away from it are a few large products, which another core can do meanwhile: NumPy lets go of the
interpreter while it computes. Every sum is taken in the same order, whoever takes it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, TypeVar

from numpy_xlstm.numerics.threads import Piece, num_threads, one_blas_thread, started

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

    def __init__(self) -> None:
        self._told: SimpleQueue[Piece[Any] | None] = SimpleQueue()
        self._waiting: deque[Piece[object]] = deque()

    def work(self) -> None:
        """Do what the thread is told, until it is told to end."""
        while (piece := self._told.get()) is not None:
            piece.do()

    def end(self) -> None:
        """Tell the thread to end."""
        self._told.put(None)

    def ahead(self, work: Callable[[Part], Result], parts: Iterable[Part]) -> Iterator[Result]:
        """Results of ``work`` on each part, in order; some are made before they are asked for."""
        begun: deque[Piece[Result]] = deque()
        for part in parts:
            begun.append(self._tell(Piece(True, work, part)))
            if len(begun) > AHEAD:
                yield _finished(begun, begun)
        while begun:
            yield _finished(begun, begun)

    def behind(self, work: Callable[..., object], *arguments: Any) -> None:
        """Do this before the end, and after all else that was said with :meth:`behind`."""
        self._append(Piece(False, work, *arguments))

    def anywhere(self, work: Callable[..., object], *arguments: Any) -> None:
        """Do this before the end, in whichever thread has time for it."""
        self._append(Piece(True, work, *arguments))

    def finish(self) -> None:
        """Wait until all is done; raise what any of it has raised."""
        while self._waiting:
            _finished(self._waiting, [*reversed(self._waiting)])

    def _append(self, piece: Piece[object]) -> None:
        while self._waiting and (self._waiting[0].done or len(self._waiting) >= WAITING):
            _finished(self._waiting, [*reversed(self._waiting)])
        self._waiting.append(self._tell(piece))

    def _tell(self, piece: Piece[Result]) -> Piece[Result]:
        self._told.put(piece)
        return piece


def _finished(pieces: deque[Piece[Result]], spare: Iterable[Piece[Result]]) -> Result:
    """Result of the first of the pieces, which is taken away; meanwhile do one of the spare."""
    if not pieces[0].done:
        any(piece.take_back() for piece in spare)
    return pieces.popleft().result()


@contextmanager
def beside(multiplications: int) -> Iterator[Alone]:
    """Start a second thread where that is worthwhile and possible; at the end, all is done.

    It is possible with the extra ``threads``, unless another thread has got one, or the interpreter
    is about to end. While there are two, BLAS starts none of its own.
    """
    if multiplications < WORTH or num_threads() < 2:
        yield ALONE
        return
    with one_blas_thread() as limited:
        helper = Beside()
        thread = started(helper.work) if limited else None
        if thread is None:
            yield ALONE
            return
        try:
            yield helper
            helper.finish()
        finally:
            helper.end()
            thread.join()
