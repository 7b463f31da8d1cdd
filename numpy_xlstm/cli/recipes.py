"""What ``numpy-xlstm train`` takes by default for each kind of model: all numbers in one place."""

import argparse
from typing import Any

from numpy_xlstm.errors import OptionError

MODELS = {
    "cell": ("cell", "hidden_size", "embedding_size", "heads", "forget_gate", "input_gate"),
    "xlstm": ("config", "blocks", "width", "heads", "slstm_at", "dropout"),
    "xlstm-large": ("config", "blocks", "width", "heads", "weight_mode"),
}
"""The options of each model."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "cell": {
        "cell": "slstm",
        "hidden_size": 256,
        "embedding_size": 64,
        "lr": 1e-2,
        "weight_decay": 0.3,
    },
    "xlstm": {
        "blocks": 4,
        "width": 192,
        "slstm_at": [1],
        "dropout": 0.3,
        "lr": 3e-3,
        "weight_decay": 0.1,
    },
    "xlstm-large": {
        "blocks": 4,
        "width": 128,
        "weight_mode": "single",
        "lr": 3e-3,
        "weight_decay": 0.1,
    },
}
"""The defaults of the options that have another one for each model."""

HEADS = {"slstm": 4, "mlstm": 16, "xlstm": 4, "xlstm-large": 4}
"""How many heads there are by default, or as many fewer that the width can be divided."""

WARMUP = 0.05
"""The part of the training in which the learning rate rises."""

FINAL = 0.1
"""The part of the peak learning rate to which the cosine falls."""

OPTIMIZER: dict[str, dict[str, Any]] = {
    "cell": {},
    "xlstm": {"betas": (0.9, 0.95), "eps": 1e-5},
    "xlstm-large": {"betas": (0.9, 0.95), "eps": 1e-5},
}
"""The options of AdamW that are not asked for: its own defaults, or the official xLSTM recipe."""


def flag(name: str) -> str:
    """How an option is written on the command line."""
    return f"--{name.replace('_', '-')}"


def defaults_of(name: str) -> str:
    """Say what an option is by default, for each model that has it."""
    found = {model: values[name] for model, values in DEFAULTS.items() if name in values}
    if len(set(map(str, found.values()))) == 1:
        return f"default: {_written(next(iter(found.values())))}"
    return "default: " + ", ".join(f"{_written(v)} for {model}" for model, v in found.items())


def _written(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def complete(args: argparse.Namespace) -> None:
    """Fill in the defaults of the chosen model; those of its sizes not if a file has them.

    Raises
    ------
    OptionError
        If an option is given that is not one of this model, or is said in its file.
    """
    own = set(MODELS[args.model])
    foreign = {name for names in MODELS.values() for name in names} - own
    sizes = own - {"config"}
    expected = ", ".join(map(flag, MODELS[args.model]))
    _refuse(args, foreign, f"--model {args.model}: expected {expected} to describe the model")
    if args.config is not None:
        _refuse(args, sizes, "--config: expected no other options of the model, the file has them")
    for name, value in DEFAULTS[args.model].items():
        if getattr(args, name) is None and (args.config is None or name not in sizes):
            setattr(args, name, value)
    if "--slstm-at" not in args.given and args.slstm_at is not None:
        args.slstm_at = [place for place in args.slstm_at if place < args.blocks]


def _refuse(args: argparse.Namespace, names: set[str], message: str) -> None:
    if given := sorted(args.given & set(map(flag, names))):
        raise OptionError(f"{message}; got {', '.join(given)}")
