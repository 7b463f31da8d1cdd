"""The options of ``numpy-xlstm train``: arguments, defaults, and what a run keeps of them."""

import argparse
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from numpy_xlstm.errors import CheckpointError, OptionError

MINUTES = 3.0
LARGEST = 10**9

COMMON: dict[str, Any] = {
    "tokenizer": "characters",
    "model": "cell",
    "dtype": "float32",
    "batch_size": 16,
    "window": 128,
    "schedule": "cosine",
    "warmup": 0.05,
    "clip": 1.0,
    "seed": 0,
    "accumulate": 1,
    "tbptt": False,
    "recompute": False,
    "sample_length": 500,
    "temperature": 0.8,
}
"""Defaults that are the same for all models."""

RECIPES: dict[str, dict[str, Any]] = {
    "cell": {"lr": 1e-2, "weight_decay": 0.3},
    "xlstm": {"lr": 3e-3, "weight_decay": 0.1},
    "xlstm-large": {"lr": 3e-3, "weight_decay": 0.1},
}
"""Defaults of the training of each model."""

CELL: dict[str, Any] = {"hidden_size": 256, "embedding_size": 64}
BLOCKS: dict[str, Any] = {"config": None, "blocks": 4, "heads": 4}
SIZES: dict[str, dict[str, Any]] = {
    "lstm": {"cell": "lstm"} | CELL,
    "slstm": {"cell": "slstm", "forget_gate": None, "heads": 4} | CELL,
    "mlstm": {"cell": "mlstm", "forget_gate": None, "input_gate": None, "heads": 16} | CELL,
    "xlstm": {"width": 192, "slstm_at": [1], "dropout": 0.3} | BLOCKS,
    "xlstm-large": {"width": 128, "weight_mode": "single"} | BLOCKS,
}
"""The options that describe each cell or model, with their defaults; it has no others."""


def whole(minimum: int, maximum: int = LARGEST) -> Callable[[str], int]:
    """Return the type of a whole number from ``minimum`` to ``maximum``."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if not minimum <= value <= maximum:
            raise argparse.ArgumentTypeError(
                f"expected a whole number from {minimum} to {maximum}; got {text!r}"
            )
        return value

    return parse


def real(
    minimum: float, *, exclusive: bool = False, below: float = math.inf
) -> Callable[[str], float]:
    """Return the type of a finite number, at least ``minimum`` or above it, and below ``below``."""
    bound = f"{'above' if exclusive else 'at least'} {minimum:g}"
    if below < math.inf:
        bound += f" and below {below:g}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        large_enough = value > minimum if exclusive else value >= minimum
        if not (large_enough and value < below):
            raise argparse.ArgumentTypeError(f"expected a number {bound}; got {text!r}")
        return value

    return parse


def places(text: str) -> list[int] | str:
    """Read block numbers: ``"1,3"`` is [1, 3], ``"none"`` is [], and ``"all"`` stays.

    Examples
    --------
    >>> places("3,1"), places("none"), places("all")
    ([1, 3], [], 'all')
    """
    if text in ("all", "none"):
        return "all" if text == "all" else []
    try:
        return sorted({whole(0)(number) for number in text.split(",")})
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"expected block numbers such as 1,3, or all, or none; got {text!r}"
        ) from None


def _takes(kind: Callable[[str], Any], metavar: str, text: str) -> dict[str, Any]:
    return {"type": kind, "metavar": metavar, "help": text}


def _one_of(choices: Iterable[str], text: str) -> dict[str, Any]:
    return {"choices": tuple(choices), "help": text}


def _flag(text: str) -> dict[str, Any]:
    return {"action": "store_true", "help": text}


size, natural = whole(1, 10**6), whole(1)
positive, share = real(0, exclusive=True), real(0, below=1)
GATES = ("sigmoid", "exp")

ARGUMENTS: dict[str, dict[str, dict[str, Any]]] = {
    "text": {
        "file": {
            "nargs": "?",
            "metavar": "FILE",
            "help": "a UTF-8 text (default: CPython's language reference)",
        },
        "--tokenizer": _takes(str, "NAME", "characters, bytes, or a tokenizer.json"),
    },
    "model": {
        "--model": _one_of(RECIPES, "of one cell, as in the first paper, or as xLSTM 7B"),
        "--dtype": _one_of(("float32", "float64"), "precision"),
        "--cell": _one_of(("lstm", "slstm", "mlstm"), "recurrent cell (default: slstm)"),
        "--hidden-size": _takes(size, "N", "width of the cell"),
        "--embedding-size": _takes(size, "N", "width of a token"),
        "--forget-gate": _one_of(GATES, "of sLSTM and mLSTM (default: sigmoid)"),
        "--input-gate": _one_of(GATES, "of mLSTM (default: exp)"),
        "--heads": _takes(
            natural, "N", "a divisor of the width (default: 4, of mlstm 16, if they divide it)"
        ),
        "--config": _takes(str, "FILE", "a JSON or YAML file with the official names"),
        "--blocks": _takes(size, "N", "how many blocks"),
        "--width": _takes(size, "N", "width of the blocks"),
        "--slstm-at": _takes(
            places, "LIST", "sLSTM blocks: such as 0,2, or all, or none (default: 1)"
        ),
        "--dropout": _takes(share, "X", "dropout of xlstm"),
        "--weight-mode": _one_of(("single", "fused"), "how matrices are stored"),
    },
    "training": {
        "--batch-size": _takes(size, "N", "windows per step"),
        "--window": _takes(size, "N", "tokens per window"),
        "--lr": _takes(positive, "X", "peak learning rate"),
        "--schedule": _one_of(("cosine", "constant"), "after the warm-up"),
        "--warmup": _takes(share, "X", "part in which the learning rate rises"),
        "--weight-decay": _takes(real(0), "X", "AdamW's decay"),
        "--clip": _takes(real(0), "X", "largest gradient norm; 0: no limit"),
        "--steps": _takes(
            natural, "N", "stop after N steps; alone, a run can be repeated bit for bit"
        ),
        "--minutes": _takes(
            positive, "X", f"how long at most (default: {MINUTES:g}, or no limit with --steps)"
        ),
        "--seed": _takes(whole(0), "N", "seed of all that is random"),
        "--accumulate": _takes(size, "N", "learn from a batch in N parts, one in memory at a time"),
        "--tbptt": _flag("windows go on where the last ones ended, not at random places"),
        "--recompute": _flag("compute again in the backward what need not be kept"),
        "--validate-every": _takes(
            natural, "N", "in steps (default: 100 with --steps alone, or as time permits)"
        ),
    },
    "run": {
        "--out": _takes(str, "DIR", "write checkpoint.npz, best.npz, log.jsonl and loss.svg there"),
        "--save-every": _takes(
            natural, "N", "steps between two checkpoints (default: one every minute)"
        ),
        "--resume": _takes(str, "DIR", "go on with the training that is there"),
    },
    "sample": {
        "--sample-length": _takes(whole(0), "N", "tokens to generate"),
        "--temperature": _takes(
            real(0), "X", "1: as the model believes, less: bolder, 0: the likeliest"
        ),
        "--prompt": _takes(
            str, "TEXT", "what it continues (default: the beginning of the held-out part)"
        ),
    },
}
"""What argparse is told about each option, by the group that shows it."""

NAMES = [name.lstrip("-").replace("-", "_") for group in ARGUMENTS.values() for name in group]
NOT_STORED = {"out", "resume"}
AT_RESUME = {"steps", "minutes", "sample_length", "temperature", "prompt"}
SET_BY = {"num_heads": "heads", "embedding_dim": "width", "num_blocks": "blocks"}
"""The options of those arguments of the library that have another name."""


def flags(names: Iterable[str]) -> str:
    """How options are written on the command line."""
    return ", ".join(sorted(f"--{name.replace('_', '-')}" for name in names))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add all arguments; the result of parsing will have those that are given."""
    for title, arguments in ARGUMENTS.items():
        group = parser.add_argument_group(title)
        for name, facts in arguments.items():
            text = facts["help"] + _default(name.lstrip("-").replace("-", "_"))
            group.add_argument(name, **facts | {"help": text}, default=argparse.SUPPRESS)


def _default(name: str) -> str:
    """What the help says of a default; nothing of one that goes without saying."""
    of = {kind: v[name] for kind, v in [*RECIPES.items(), *SIZES.items()] if name in v}
    values = {str(value) for value in of.values()} or {str(COMMON.get(name))}
    if name in ("cell", "heads", "slstm_at") or values <= {"None", "False"}:
        return ""
    shown = (f"{value} for {kind}" for kind, value in of.items()) if len(values) > 1 else values
    return f" (default: {', '.join(shown)})"


def begin(given: dict[str, Any]) -> argparse.Namespace:
    """Add to what is given the defaults, which are not the same for all models; else None.

    Raises
    ------
    OptionError
        If an option is given that is not one of this model, or is said in its file.
    """
    model, cell = given.get("model", "cell"), given.get("cell", "slstm")
    kind = cell if model == "cell" else model
    described = SIZES[kind]
    if foreign := (set().union(*SIZES.values()) - described.keys()) & given.keys():
        label = f"--model cell --cell {cell}" if model == "cell" else f"--model {model}"
        raise OptionError(
            f"{label}: expected only {flags(described)} to describe the model; got {flags(foreign)}"
        )
    if "config" in given:
        if said := (described.keys() - {"config"}) & given.keys():
            raise OptionError(
                "--config: expected no other options of the model, the file has them; "
                f"got {flags(said)}"
            )
        described = {}
    values = dict.fromkeys(NAMES) | COMMON | RECIPES[model] | described | given
    options = argparse.Namespace(**values)
    if "heads" not in given and options.heads is not None:
        width = options.hidden_size or options.width
        options.heads = math.gcd(options.heads, width // 2 if model == "xlstm-large" else width)
    if "slstm_at" not in given and options.slstm_at is not None:
        options.slstm_at = [block for block in options.slstm_at if block < options.blocks]
    if options.minutes is None and options.steps is None:
        options.minutes = MINUTES
    return options


def go_on(notes: dict[str, Any], given: dict[str, Any]) -> argparse.Namespace:
    """Take up the options of a run; a budget that is given replaces the one that it had.

    Raises
    ------
    OptionError
        If a smaller budget is given.
    CheckpointError
        If the run has not the options of this version.
    """
    if notes.keys() != set(NAMES) - NOT_STORED:
        raise CheckpointError("options: expected those of this version; got others")
    budget = {name: given.get(name) for name in ("steps", "minutes")}
    for name, value in budget.items():
        if value is not None and notes[name] is not None and value < notes[name]:
            raise OptionError(
                f"--{name}: expected at least the {notes[name]} of the run; got {value}"
            )
    raised = budget if any(budget.values()) else {}
    return argparse.Namespace(**dict.fromkeys(NAMES) | notes | raised | given)


def stored(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the training depends on, as a checkpoint holds it."""
    kept = {name: value for name, value in vars(options).items() if name not in NOT_STORED}
    return kept | {"file": options.file and str(Path(options.file).absolute())}


def check_resume(given: Mapping[str, Any]) -> None:
    """Raise :class:`OptionError` if something is given that a run keeps to its end."""
    if foreign := given.keys() - AT_RESUME - {"file", "resume"}:
        raise OptionError(
            f"--resume: expected no other options than {flags(AT_RESUME)}, the rest are those of "
            f"the run; got {flags(foreign)}"
        )


def as_typed(message: str, given: Mapping[str, Any]) -> str:
    """Name in an error the options that were typed, instead of the library's arguments."""
    first, colon, rest = message.partition(":")
    if first == "directory":
        first = "resume" if "resume" in given else "out"
    if first in NAMES:
        message = flags([first]) + colon + rest
    if "config" in given:
        return message
    for name, typed in ({name: name for name in NAMES if "_" in name} | SET_BY).items():
        message = re.sub(rf"\b{name}\b", flags([typed]), message)
    return message
