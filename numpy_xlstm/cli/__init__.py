"""The command line: ``numpy-xlstm``, which is ``python -m numpy_xlstm``.

Nothing heavy is imported before a command runs, so that ``--version`` and ``--help`` are quick
and work without the ``cli`` extra.
"""

import argparse
import importlib
import io
import sys
from collections.abc import Sequence
from typing import NoReturn

from numpy_xlstm import errors
from numpy_xlstm._version import __version__

BAD_INPUT = (
    errors.DTypeError,
    errors.NonFiniteError,
    errors.OptionError,
    errors.ShapeError,
    errors.TextError,
    OSError,
    MemoryError,
)
"""What a user can cause and repair: reported in one line instead of a traceback."""

MISSING_EXTRA = "the command line needs the cli extra: pip install 'numpy-xlstm[cli]'"


class _Parser(argparse.ArgumentParser):
    """A parser that raises instead of printing its usage and leaving."""

    def error(self, message: str) -> NoReturn:
        raise errors.OptionError(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv : Sequence[str], optional
        The arguments after the program's name; those of the process if omitted.

    Returns
    -------
    int
        0 on success, 2 on bad input or options, 130 if interrupted; a check that fails returns 1.

    Examples
    --------
    >>> main(["train", "--steps", "0"])
    2
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without the characters shows "?"
            stream.reconfigure(errors="replace")
    try:
        args = _parser().parse_args(argv)
        return _run(args)
    except SystemExit as leaving:  # --help and --version
        return int(leaving.code or 0)
    except KeyboardInterrupt:
        print("numpy-xlstm: interrupted", file=sys.stderr)
        return 130
    except BAD_INPUT as error:
        print("numpy-xlstm: error:", " ".join(str(error).split()), file=sys.stderr)
        return 2


def _run(args: argparse.Namespace) -> int:
    try:
        importlib.import_module("rich")
    except ImportError:
        print(MISSING_EXTRA, file=sys.stderr)
        return 2
    code: int = args.run(args)
    return code


def _parser() -> argparse.ArgumentParser:
    from numpy_xlstm.cli import gradcheck, train

    parser = _Parser(
        prog="numpy-xlstm",
        description="LSTM, sLSTM and mLSTM in plain NumPy, with exact, checked gradients.",
    )
    parser.add_argument("--version", action="version", version=f"numpy-xlstm {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in (gradcheck, train):
        command.add_parser(commands)
    return parser
