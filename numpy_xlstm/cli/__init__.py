"""The command line: ``numpy-xlstm`` or ``python -m numpy_xlstm``.

Packages of extras are imported only by commands that need them, so that ``--version`` and
``--help`` are fast and work without them.
"""

import argparse
import importlib
import importlib.util
import io
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy_xlstm import errors
from numpy_xlstm._version import __version__
from numpy_xlstm.cli.arguments import Parser
from numpy_xlstm.numerics import did_you_mean
from numpy_xlstm.training.ranks import end_all, launched_rank

COMMANDS = {
    "train": "train a language model on a text",
    "experiment": "train a small model on a task of the xLSTM paper",
    "eval": "measure how well a model predicts a text",
    "generate": "continue a text, or ids, with a trained model",
    "convert": "write a checkpoint in the format of another package",
    "info": "show what is in a checkpoint",
    "gradcheck": "check every backward against the derivative of its forward",
    "vectors": "write cases that check an implementation (port) in any language",
    "trace": "write cases for the parts of one's own checkpoint",
    "verify": "check a port against these cases",
}
"""Commands, each a module of this package, and the line about each in the help."""

BAD_INPUT = (
    errors.CheckpointError,
    errors.DTypeError,
    errors.MissingExtraError,
    errors.NonFiniteError,
    errors.OptionError,
    errors.ShapeError,
    errors.TextError,
    OSError,
    MemoryError,
)
"""Errors that a user can correct. They are reported in one line instead of a traceback."""

MEANT = {"--learning-rate": "--lr", "--output": "--out", "--vocab-size": "--tokenizer"}
MEANT |= {"--length": "--max-new-tokens", "--val-file": "--validation", "--format": "--to"}
MEANT |= dict.fromkeys(("--layers", "--num-layers", "--n-layer", "--n-layers"), "--blocks")
MEANT |= dict.fromkeys(("--seq-len", "--context-length", "--block-size"), "--window")
MEANT |= dict.fromkeys(("--epochs", "--num-epochs"), "--steps")
"""Names of options in other programs, and the options here."""

SET_BY = {"num_heads": "heads", "embedding_dim": "width", "num_blocks": "blocks"}
"""Options for arguments of the library that have another name."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    The arguments are ``argv``, or those of the process if it is None. The exit code is 0 on
    success, 1 if a check fails, 2 for invalid input or options, 3 if a port has no gradients and is
    otherwise right, 130 after an interrupt, and 141 if the output is not read to its end.

    Examples
    --------
    >>> main(["train", "--steps", "0"])
    2
    """
    _prepare_streams()
    try:
        args = _parsed(sys.argv[1:] if argv is None else argv)
        if not all(map(importlib.util.find_spec, ("rich", "matplotlib"))):
            extra = "the command line needs the cli extra: pip install 'numpy-xlstm[cli]'"
            print(extra, file=sys.stderr)
            return 2
        return _run(args)
    except SystemExit as leaving:  # --help and --version
        return int(leaving.code or 0)
    except KeyboardInterrupt:
        return _end("interrupted", 130)
    except BrokenPipeError:
        _discard(1, 2)  # as in "| head"
        return _end("", 141)
    except BAD_INPUT as error:
        message = " ".join(str(error).split()) or "not enough memory"
        return _end("error: " + errors.printable(message), 2)
    except Exception as error:
        if "mpi4py.MPI" not in sys.modules:
            raise
        _say(errors.printable_lines(traceback.format_exc()))
        return _end(f"error: {error!r}", 1)


def _prepare_streams() -> None:
    """Open closed streams, so that no other file gets their descriptors, and ignore COLUMNS=0."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("r+", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if not os.environ.get("COLUMNS", "").strip("0"):
        os.environ.pop("COLUMNS", None)  # rich would print nothing


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments; without any, show the help."""
    parser = _parser()
    args, unknown = parser.parse_known_args(argv or ["--help"])
    if unknown:
        word = unknown[0].partition("=")[0].replace("_", "-")
        hint = did_you_mean(MEANT.get(word, word), {*args.options.values()} - {"--help"})
        if word in ("--device", "--cuda", "--gpu", "--gpus", "--cpu"):
            hint = "; leave it out: everything runs on the CPU"
        if "texts" in args and not word.startswith("-"):  # the command is train or eval
            hint = "; write all texts next to each other"
        elif "prompt" in args and not word.startswith("-"):  # the command is generate
            hint = "; write --prompt before a text to continue"
        raise errors.OptionError(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    return args


def _run(args: argparse.Namespace) -> int:
    """Run the command; errors name options as typed, and system errors become sentences."""
    try:
        return int(args.run(args))
    except BrokenPipeError:
        raise
    except BAD_INPUT as error:
        if isinstance(error, OSError) and error.strerror:
            what = "to continue" if error.filename is None else f"to read or write {error.filename}"
            reason = error.strerror[:1].lower() + error.strerror[1:]
            raise OSError(f"the system refuses {what}: {reason}") from error
        if isinstance(error, errors.CheckpointError | MemoryError):
            raise  # the first word may be a file, whose name may be that of an option
        raise type(error)(_as_typed(str(error), args)) from error


def _as_typed(message: str, args: argparse.Namespace) -> str:
    """Replace the argument that an error message begins with by the option that set it."""
    typed: dict[str, str] = dict(args.options)
    if "from_" in typed:
        typed["checkpoint"] = typed["from_"]
    if "resume" in typed:
        typed["directory"] = "--resume" if "resume" in args else "--out"
    if "path" in args:
        typed["path"] = "OUT"
    if "config" not in args:  # otherwise other names are those of its fields
        typed |= {name: typed[option] for name, option in SET_BY.items() if option in typed}
    name, colon, rest = message.partition(":")
    return typed.get(name, name) + colon + rest


def _end(message: str, code: int) -> int:
    """Report why the command ends; with several MPI ranks, end all of them.

    An error that all ranks find is reported by rank 0, because the others wait before they report.
    """
    if rank := launched_rank():
        message = f"rank {rank}: {message}"
        time.sleep(2)  # seconds
    if message and (not rank or "mpi4py.MPI" in sys.modules):
        _say(f"numpy-xlstm: {message}")
    end_all(code)
    return code


def _say(message: str) -> None:
    """Print a line to standard error or, if that is on a full disk, to standard output."""
    for number, stream in ((2, sys.stderr), (1, sys.stdout)):
        try:
            print(message, file=stream, flush=True)
            return
        except OSError:
            _discard(number)


def _discard(*descriptors: int) -> None:
    """Discard what is written to standard streams, which Python flushes once more at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="numpy-xlstm",
        description="LSTM, sLSTM and mLSTM in plain NumPy, with exact, checked gradients.",
    )
    parser.add_argument("--version", action="version", version=f"numpy-xlstm {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        command: Any = importlib.import_module(f"{__name__}.{name}")
        epilog = getattr(command, "EPILOG", None)
        added = commands.add_parser(name, help=text, description=command.DESCRIPTION, epilog=epilog)
        command.add_arguments(added)
        options = {a.dest: a.option_strings[-1] for a in added._actions if a.option_strings}
        added.set_defaults(run=command.run, options=options)
    return parser
