"""Start of the command ``numpy-xlstm``, outside of the package that it imports.

Ctrl-C during the imports ends the command in one line. An exception would not: C code of NumPy and
SciPy prints or replaces it.
"""

import os
import signal
from typing import Any


def main() -> int:
    """Import and run the command line, and return its exit code."""
    handler = signal.getsignal(signal.SIGINT) or signal.default_int_handler
    if handler is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _leave)
    from numpy_xlstm.cli import main as run

    signal.signal(signal.SIGINT, handler)
    try:
        return run()
    finally:
        if handler is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, _leave)


def _leave(number: int, frame: Any) -> None:
    os.write(2, b"numpy-xlstm: interrupted\n")
    os._exit(130)
