"""Types of command-line arguments, their settings for argparse, and commands that a run stores."""

import argparse
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from numpy_xlstm.checkpoints.description import WEIGHTS
from numpy_xlstm.disk import write_text
from numpy_xlstm.errors import CheckpointError, OptionError
from numpy_xlstm.models.state_dict import LAYOUTS
from numpy_xlstm.numerics import did_you_mean

TEXTS = "UTF-8 text files, or folders with such files"
TEMPERATURE = "1: the model's probabilities; below 1: prefer likelier tokens; 0: take the likeliest"

Number = TypeVar("Number", int, float)
Options = TypeVar("Options")


class Parser(argparse.ArgumentParser):
    """A parser that raises errors with hints instead of printing its usage and exiting."""

    def error(self, message: str) -> NoReturn:
        """Raise :class:`OptionError`."""
        choice = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        hint = ""
        if choice and not choice[1][-1:].isdigit():  # float16 is not a mistyped float64
            hint = did_you_mean(choice[1], re.findall(r"[\w./-]+", choice[2]))
        raise OptionError(message + hint)


def whole(minimum: int, maximum: int = 10**9) -> Callable[[str], int]:
    """Make the type of a whole number from ``minimum`` to ``maximum``."""
    expected = f"a whole number from {minimum} to {maximum}"
    return _number(int, lambda value: minimum <= value <= maximum, expected)


def real(
    minimum: float, *, exclusive: bool = False, below: float = math.inf
) -> Callable[[str], float]:
    """Make the type of a finite number ≥ ``minimum``, or above it, and below ``below``."""
    expected = f"a number {'above' if exclusive else 'at least'} {minimum:g}"
    if below < math.inf:
        expected += f" and below {below:g}"
    least = math.nextafter(minimum, math.inf) if exclusive else minimum
    return _number(float, lambda value: least <= value < below, expected)


def _number(
    kind: type[Number], fits: Callable[[Number], bool], expected: str
) -> Callable[[str], Number]:
    def parse(text: str) -> Number:
        try:
            if fits(value := kind(text)):
                return value
        except ValueError:
            pass  # not a number
        raise argparse.ArgumentTypeError(f"expected {expected}; got {text!r}")

    return parse


def places(text: str) -> list[int] | str:
    """Parse block numbers: ``"3,1"`` is [1, 3], ``"none"`` is [], and ``"all"`` is unchanged."""
    return text if text == "all" else sorted({*ids(text, ", or all, or none")})


def ids(text: str, words: str = ", or none") -> list[int]:
    """Parse ids: ``"3,1"`` is [3, 1], and ``"none"`` is [] if ``words`` offer it in the error."""
    try:
        return [] if words and text == "none" else [whole(0)(number) for number in text.split(",")]
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"expected whole numbers such as 5,0,2{words}; got {text!r}"
        ) from None


def names(text: str) -> list[str]:
    """Parse names: ``"block.0,head"`` is ``["block.0", "head"]``."""
    return text.split(",")


def shape(text: str) -> tuple[int, ...]:
    """Parse a shape: ``"2,5,3"`` is (2, 5, 3)."""
    sizes = text.split(",")
    if not all(size.strip().isdigit() for size in sizes):
        raise argparse.ArgumentTypeError(f"expected sizes, such as 2,5,3; got {text!r}")
    return tuple(map(int, sizes))


size, natural = whole(1, 10**6), whole(1)
positive, share = real(0, exclusive=True), real(0, below=1)


Option = tuple[Any, Any, str]
"""Kind, default and help of an option.

The kind is a function that parses the value, the choices as a tuple or a mapping, ``bool`` for a
flag, the metavar of a text, or a list with one of these for an option that may be repeated. A
default that is a mapping has an entry for each model or cell that has the option.
"""

LISTS = dict.fromkeys((places, ids, names), "LIST")
METAVARS: dict[Any, str] = LISTS | {shape: "SHAPE", Path: "PATH"}


def add_options(parser: Any, options: Mapping[str, Option], *, defaults: bool = True) -> None:
    """Add options to a parser or a group.

    Without ``defaults``, the result of parsing contains only those that are given.
    """
    for name, (kind, default, text) in options.items():
        settings = _settings(kind, text + _shown(default))
        settings["default"] = default if defaults else argparse.SUPPRESS
        parser.add_argument(flags([name]), dest=name, **settings)


def _settings(kind: Any, text: str) -> dict[str, Any]:
    """Return the settings of an option for argparse, except for its default."""
    if isinstance(kind, list):
        return _settings(kind[0], f"{text}; may be repeated") | {"action": "append"}
    if kind is bool:
        return {"help": text, "action": "store_true"}
    if isinstance(kind, str):
        return {"help": text, "metavar": kind}
    if isinstance(kind, tuple | dict):
        wide = len(names := ", ".join(kind)) > 40  # argparse does not break a list of choices
        shown = {"help": f"{text}: {names}", "metavar": "NAME"} if wide else {"help": text}
        return {"choices": kind, **shown}
    return {"help": text, "type": kind, "metavar": METAVARS.get(kind, "N")}


def _shown(default: Any) -> str:
    """Return the text of a default for the help; "" for None and False."""
    models: dict[str, list[str]] = {}
    for model, value in (default if isinstance(default, dict) else {"": default}).items():
        if value is not None and value is not False:
            models.setdefault(str(value).strip("[]"), []).append(model)
    if len(models) == 1:
        return f" (default: {next(iter(models))})"
    shown = "; ".join(f"{value} for {', '.join(names)}" for value, names in models.items())
    return f" (default: {shown})" if shown else ""


def flags(names: Iterable[str]) -> str:
    """Return options as they are written on the command line."""
    return ", ".join(sorted(f"--{name.rstrip('_').replace('_', '-')}" for name in names))


def as_words(options: Mapping[str, Any]) -> list[str]:
    """Return options as words of a command line, without those that are None or False.

    Examples
    --------
    >>> as_words({"steps": 3, "slstm_at": [1, 3], "tbptt": True, "minutes": None})
    ['--steps=3', '--slstm-at=1,3', '--tbptt']
    """
    words = []
    for name, value in options.items():
        text = ",".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
        if value is not None and value is not False:
            words.append(flags([name]) if value is True else f"{flags([name])}={text}")
    return words


def parse_stored(
    words: Sequence[str],
    add_arguments: Callable[[argparse.ArgumentParser], None],
    complete: Callable[[dict[str, Any]], Options],
) -> Options:
    """Parse the command that a run has stored, and complete its options as when the run began."""
    parser = Parser(add_help=False, allow_abbrev=False)
    add_arguments(parser)
    try:
        return complete(vars(parser.parse_args(words)))
    except OptionError as error:
        raise CheckpointError(f"training.notes.command: {error}") from error


def check_report(file: Path | None) -> None:
    """Raise an error before the work if a report cannot be written to a file.

    A pipe is not opened: its reader would take the end of this for the end of the report.
    """
    if file is None or file.is_fifo():
        return
    is_new = not file.exists()
    file.open("a", encoding="utf-8").close()
    if is_new:
        file.resolve().unlink()


def write_report(file: Path, text: str) -> None:
    """Write a report atomically; to a device, a pipe or in a read-only folder, in place.

    What UTF-8 cannot encode, such as a name of invalid bytes, is escaped as in JSON.
    """
    text = text.encode("utf-8", "backslashreplace").decode()
    if file.is_file() or not file.exists():
        with suppress(PermissionError):
            write_text(file, text)
            return
    file.write_text(text, encoding="utf-8")


FROM_LAYOUT = LAYOUTS, None, "layout of sLSTM's bias, if it is ambiguous"
"""The option of commands that read a checkpoint."""

READING: dict[str, Option] = {
    "tokenizer": ("FILE", None, "a tokenizer.json (default: that of the checkpoint)"),
    "from_layout": FROM_LAYOUT,
    "weights": (WEIGHTS, "widened", "whether matrices in 16 bits are widened or stay as they are"),
}
"""Options of commands that run the model of a checkpoint on a text."""


def add_checkpoint(parser: argparse.ArgumentParser, **settings: Any) -> None:
    """Add the argument for the checkpoint to read."""
    known = "the directory of a run, or a file or folder of this package, transformers or xlstm"
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help=known, **settings)
