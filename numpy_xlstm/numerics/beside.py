"""Large pieces of work in a second thread, while the caller goes through a loop of small ones.

A recurrence is a chain of small operations, which one core has to go through. What leads to it and
away from it are a few large products, which another core can do meanwhile: NumPy lets go of the
interpreter while it computes. Every sum is taken in the same order, whoever takes it.

The caller has to ask for it, with :func:`second_thread`: a BLAS library with threads of its own
lets them look for work for some time after a product, which would keep the other core busy.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from queue import SimpleQueue
from threading import get_ident
from typing import Any, TypeVar

from numpy_xlstm.errors import OptionError
from numpy_xlstm.numerics.threads import Piece, can_limit_blas, one_blas_thread, started

Part = TypeVar("Part")
Result = TypeVar("Result")

WORTH = 2**25
"""Multiplications in the large pieces from which on they are worth being handed over."""

AHEAD = 2
"""So many results may be there before they are asked for: each takes memory."""

WAITING = 4
"""So many pieces of work may wait, likewise."""


class Alone:
    """No second thread: whatever is said is done at once."""

    @property
    def is_here(self) -> bool:
        """Whether it may be told what to do by the thread that asks."""
        return True

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

    def forget(self) -> None:
        """After an error: wait for what is under way, and leave the rest."""


ALONE = Alone()


class Beside(Alone):
    """A second thread, which does what it is told in order; where it lags, the caller helps out."""

    def __init__(self) -> None:
        self._told: SimpleQueue[Piece[Any] | None] = SimpleQueue()
        self._waiting: deque[Piece[object]] = deque()
        self._owner = get_ident()

    @property
    def is_here(self) -> bool:
        """Whether it may be told what to do by the thread that asks: only by that which made it."""
        return get_ident() == self._owner

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

    def forget(self) -> None:
        """After an error: wait for what is under way, and leave the rest."""
        while self._waiting:
            self._waiting.popleft().forget()

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


_helper: ContextVar[Alone] = ContextVar("_helper", default=ALONE)


@contextmanager
def second_thread() -> Iterator[None]:
    """Let LSTM and sLSTM leave their large products to a second thread.

    Within this context, forward and backward of a sequence take two cores: one goes through the
    steps, the other does the products with the inputs and for the gradients of the weights. BLAS
    starts no threads meanwhile, for the whole process. For calls of a few milliseconds or more.

    Results are the same from run to run, and up to rounding those without it.

    Raises
    ------
    OptionError
        If ``threadpoolctl`` is not installed (the extra ``threads``), another thread is in such a
        context, or no thread can be started.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import LSTM, second_thread
    >>> lstm = LSTM(3, 4, rng=np.random.default_rng(0))
    >>> with second_thread():
    ...     y, state, cache = lstm.forward(np.ones((2, 5, 3)))
    ...     dx, dstate0, grads = lstm.backward(np.ones_like(y), cache)
    >>> dx.shape
    (2, 5, 3)
    """
    if _helper.get() is not ALONE:
        yield
        return
    with one_blas_thread() as limited:
        helper = Beside()
        thread = started(helper.work) if limited else None
        if thread is None:
            raise OptionError(f"second_thread: expected {_missing(limited)}")
        token = _helper.set(helper)
        try:
            yield
        finally:
            _helper.reset(token)
            helper.end()
            thread.join()


def _missing(limited: bool) -> str:
    """What a second thread is lacking."""
    if not can_limit_blas():
        return "threadpoolctl, which the extra 'threads' installs, and one BLAS library; got none"
    if not limited:
        return "no other thread to be within it; got one that is"
    return "a thread that can be started; got none"


@contextmanager
def beside(multiplications: int) -> Iterator[Alone]:
    """The helper for so many multiplications in large pieces; at the end, all is done."""
    helper = _helper.get()
    if multiplications < WORTH or not helper.is_here:
        helper = ALONE
    try:
        yield helper
        helper.finish()
    finally:
        helper.forget()
