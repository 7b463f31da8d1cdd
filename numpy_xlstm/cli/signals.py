"""Handlers of signals, which only the main thread of a process can set."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import Any


@contextmanager
def handling(number: int, handler: Any) -> Iterator[None]:
    """Handle a signal within the context. In another thread than the main one, change nothing."""
    if current_thread() is not main_thread():
        yield
        return
    previous = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, previous)


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Give a function that returns whether Ctrl-C was pressed within the context.

    Only the second Ctrl-C raises ``KeyboardInterrupt``.
    """
    seen: list[int] = []

    def handler(number: int, frame: Any) -> None:
        seen.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    with handling(signal.SIGINT, handler):
        yield lambda: bool(seen)
