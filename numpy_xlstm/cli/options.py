"""The options of ``numpy-xlstm train``: arguments, defaults, and storage in a run."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy_xlstm.cells.gates import GATE_KINDS
from numpy_xlstm.cli.arguments import (
    TEMPERATURE,
    TEXTS,
    Option,
    add_options,
    as_words,
    flags,
    natural,
    parse_stored,
    places,
    positive,
    real,
    share,
    size,
    whole,
)
from numpy_xlstm.errors import OptionError

MINUTES = 1.5

FROM = "--from"
"""Key of :data:`MODELS` for a model that is loaded."""

NEW = {"tokenizer": "characters", "dtype": "float32"}
CELL = NEW | {"model": "cell", "embedding_size": 64, "hidden_size": 256}
CELL |= {"lr": 1e-2, "weight_decay": 0.3}
BLOCKS = NEW | {"config": None, "blocks": 4, "heads": 4, "lr": 3e-3, "weight_decay": 0.1}

MODELS: dict[str, dict[str, Any]] = {
    "lstm": CELL | {"cell": "lstm"},
    "slstm": CELL | {"cell": "slstm", "heads": 4, "forget_gate": "sigmoid"},
    "mlstm": CELL | {"cell": "mlstm", "heads": 16, "forget_gate": "sigmoid", "input_gate": "exp"},
    "xlstm": BLOCKS | {"model": "xlstm", "width": 192, "slstm_at": [1], "dropout": 0.3},
    "xlstm-large": BLOCKS | {"model": "xlstm-large", "width": 128, "weight_mode": "single"},
    FROM: {"from_": None, "tokenizer": None, "dtype": None, "lr": 3e-4, "weight_decay": 0.1},
}
"""Options that only some models have, or with other defaults: a table for each model."""

OPTIONS: dict[str, dict[str, Option]] = {
    "text": {
        "validation": ("FILE", None, "text to validate on (default: the last tenth)"),
        "tokenizer": ("NAME", None, "characters, bytes, bpe:N (learnt here) or a tokenizer.json"),
    },
    "model": {
        "from_": ("CHECKPOINT", None, "fine-tune this model: a run, or a file or folder"),
        "model": (
            ("cell", "xlstm", "xlstm-large"),
            "cell",
            "one cell, the xLSTM paper's model, or that of xLSTM 7B",
        ),
        "dtype": (("float32", "float64"), None, "precision"),
        "cell": (("lstm", "slstm", "mlstm"), "slstm", "recurrent cell"),
        "hidden_size": (size, None, "width of the cell"),
        "embedding_size": (size, None, "width of a token"),
        "forget_gate": (tuple(GATE_KINDS), None, "for sLSTM and mLSTM"),
        "input_gate": (tuple(GATE_KINDS), None, "for mLSTM"),
        "heads": (
            natural,
            None,
            "number of heads; a default that does not divide the width is reduced",
        ),
        "config": ("FILE", None, "JSON or YAML with the official field names"),
        "blocks": (size, None, "number of blocks"),
        "width": (size, None, "width of the blocks"),
        "slstm_at": (places, None, "numbers of sLSTM blocks, such as 0,2; all; or none"),
        "dropout": (share, None, "dropout probability"),
        "weight_mode": (("single", "fused"), None, "a matrix for each map, or joined ones"),
    },
    "training": {
        "batch_size": (size, 16, "windows per step"),
        "window": (size, 128, "tokens per window"),
        "lr": (positive, None, "peak learning rate"),
        "schedule": (("cosine", "constant"), "cosine", "learning rate after warm-up"),
        "warmup": (share, 0.05, "fraction of the training in which the learning rate rises"),
        "weight_decay": (real(0), None, "weight decay of AdamW"),
        "clip": (real(0), 1.0, "largest gradient norm; 0: no limit"),
        "steps": (natural, None, "stop after N steps; without --minutes, reproducible bit for bit"),
        "minutes": (positive, None, f"time limit (default: {MINUTES:g}, or none with --steps)"),
        "seed": (whole(0), 0, "seed of all random numbers"),
        "accumulate": (size, 1, "process a batch in N parts, one in memory at a time"),
        "tbptt": (bool, False, "truncated back-propagation: each window continues the last one"),
        "recompute": (bool, False, "recompute intermediate results in the backward to save memory"),
        "validate_every": (
            natural,
            None,
            "steps between validations (default: 20 validations, or fewer of a long text)",
        ),
        "patience": (natural, None, "stop after N validations in a row without a new best"),
    },
    "run": {
        "out": ("DIR", None, "write checkpoints, log.jsonl and loss.svg to DIR"),
        "save_every": (natural, None, "steps between two checkpoints (default: one every minute)"),
        "resume": ("DIR", None, "resume the training in DIR"),
    },
    "sample": {
        "sample_length": (whole(0, 10**6), 500, "tokens to generate"),
        "temperature": (real(0), 0.8, TEMPERATURE),
        "prompt": ("TEXT", None, "text to continue (default: the beginning of the held-out part)"),
    },
}
"""The options by group, with the default that all models have."""

DEFAULTS: dict[str, Any] = {"texts": []}
DEFAULTS |= {n: default for group in OPTIONS.values() for n, (_, default, _) in group.items()}
NAMES = DEFAULTS.keys()
COMMON = NAMES - {name for own in MODELS.values() for name in own}
DESCRIBING = OPTIONS["model"].keys() - {"model", "dtype"}
"""Options that describe the model."""
NOT_STORED = {"out", "resume", "texts"}
AT_RESUME = {"validation", "lr", "steps", "minutes", "patience", *OPTIONS["sample"]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add all arguments. The result of parsing contains only those that are given."""
    known = f"{TEXTS} (default: the text of Python's help())"
    parser.add_argument("texts", nargs="*", metavar="TEXT", default=argparse.SUPPRESS, help=known)
    for title, options in OPTIONS.items():
        group = parser.add_argument_group(title)
        for name, (kind, default, text) in options.items():
            if default is None:
                default = {model: own[name] for model, own in MODELS.items() if name in own}
            add_options(group, {name: (kind, default, text)}, defaults=False)


def begin(given: dict[str, Any]) -> argparse.Namespace:
    """Complete the given options with defaults of the model, and None for what it does not have."""
    model = FROM if "from_" in given else given.get("model", DEFAULTS["model"])
    kind = given.get("cell", DEFAULTS["cell"]) if model == "cell" else model
    values = {name: DEFAULTS[name] for name in COMMON} | MODELS[kind]
    described = DESCRIBING & values.keys()
    if foreign := given.keys() - values.keys():
        typed = {FROM: FROM, "cell": f"--model cell --cell {kind}"}
        label = typed.get(model, f"--model {model}")
        names = [n for n in ("xlstm", "xlstm-large") if given.keys() <= COMMON | MODELS[n].keys()]
        hint = f"; add --model {' or '.join(names)}" if names and "model" not in given else ""
        expected = f"expected only {flags(described)} to describe the model"
        raise OptionError(f"{label}: {expected}; got {flags(foreign)}{hint}")
    if "config" in given:
        if others := (described - {"config"}) & given.keys():
            raise OptionError(
                "--config: expected no other options of the model, because the file defines it; "
                f"got {flags(others)}"
            )
        values |= dict.fromkeys(described)
    options = argparse.Namespace(**dict.fromkeys(NAMES) | values | given)
    if "heads" not in given and options.heads is not None:
        width = options.hidden_size or options.width
        options.heads = math.gcd(options.heads, width // 2 if model == "xlstm-large" else width)
    if "slstm_at" not in given and options.slstm_at is not None:
        options.slstm_at = [block for block in options.slstm_at if block < options.blocks]
    if options.minutes is None and options.steps is None:
        options.minutes = MINUTES
    return options


def resumed(command: Sequence[str], given: dict[str, Any]) -> argparse.Namespace:
    """Return the options of a resumed run. A given budget replaces its own."""
    known = vars(parse_stored(command, add_arguments, begin))
    if {"steps", "minutes"} & given.keys():
        known |= {"steps": None, "minutes": None}
    return begin({name: value for name, value in (known | given).items() if value is not None})


def stored(options: argparse.Namespace) -> list[str]:
    """Return the command that is stored in a run, with all options of its model."""
    kept = {name: value for name, value in vars(options).items() if name not in NOT_STORED}
    if options.validation is not None:
        kept["validation"] = Path(options.validation).absolute()
    return [*as_words(kept), *(str(Path(path).absolute()) for path in options.texts)]
