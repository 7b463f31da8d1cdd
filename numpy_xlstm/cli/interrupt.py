"""Ctrl-C that lets the current step finish."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Within the block, the first Ctrl-C only makes the function that is given return ``True``.

    The second one raises ``KeyboardInterrupt`` as usual. Outside of the main thread, where
    signals cannot be handled, the block is left as it is.

    Examples
    --------
    >>> with deferred_interrupt() as interrupted:
    ...     before = interrupted()
    ...     signal.raise_signal(signal.SIGINT)
    ...     (before, interrupted())
    (False, True)
    """
    seen = threading.Event()

    def handler(number: int, frame: FrameType | None) -> None:
        if seen.is_set():
            raise KeyboardInterrupt
        seen.set()

    if threading.current_thread() is not threading.main_thread():
        yield seen.is_set
        return
    previous = signal.signal(signal.SIGINT, handler)
    try:
        yield seen.is_set
    finally:
        signal.signal(signal.SIGINT, previous)
