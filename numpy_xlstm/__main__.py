"""The command ``numpy-xlstm``, and ``python -m numpy_xlstm``."""

import signal

from numpy_xlstm.cli import main


def command() -> int:
    """Run the command line. At the end there is nothing left that Ctrl-C could interrupt."""
    code = main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return code


if __name__ == "__main__":
    raise SystemExit(command())
