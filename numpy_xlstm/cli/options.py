"""All options of ``numpy-xlstm train``: arguments, defaults, help, and what a run keeps of them."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from numpy_xlstm.cli.arguments import flags, option, places, real, whole
from numpy_xlstm.errors import CheckpointError, OptionError

DEFAULT_MINUTES = 3.0
MODELS, CELLS = ("cell", "xlstm", "xlstm-large"), ("lstm", "slstm", "mlstm")

NOT_LSTM: dict[str, Any] = {"slstm": None, "mlstm": None}
OF_BLOCKS: dict[str, Any] = {"xlstm": None, "xlstm-large": None}
HEADS = {"slstm": 4, "mlstm": 16, "xlstm": 4, "xlstm-large": 4}
LR = {"cell": 1e-2, "xlstm": 3e-3, "xlstm-large": 3e-3}
DECAY = {"cell": 0.3, "xlstm": 0.1, "xlstm-large": 0.1}
"""Defaults of the models or cells that have an option."""

size, natural = whole(1, 10**6), whole(1)
positive, share = real(0, exclusive=True), real(0, below=1)


@dataclass
class TrainOptions:
    """What a training is asked to do; an option that the model does not have is None."""

    file: str | None = option(
        "text", "a UTF-8 text (default: CPython's language reference)", nargs="?", metavar="FILE"
    )
    tokenizer: str = option(
        "text", "characters, bytes, or a tokenizer.json", default="characters", metavar="NAME"
    )
    model: str = option(
        "model",
        "of one cell, as in the first paper, or as xLSTM 7B",
        default="cell",
        choices=MODELS,
    )
    dtype: str = option("model", "precision", default="float32", choices=("float32", "float64"))
    cell: str = option("model", "recurrent cell", of={"cell": "slstm"}, choices=CELLS)
    hidden_size: int = option("model", "width of the cell", size, of={"cell": 256})
    embedding_size: int = option("model", "width of a token", size, of={"cell": 64})
    forget_gate: str = option(
        "model", "of sLSTM and mLSTM (default: sigmoid)", of=NOT_LSTM, choices=("sigmoid", "exp")
    )
    input_gate: str = option(
        "model", "of mLSTM (default: exp)", of={"mlstm": None}, choices=("exp", "sigmoid")
    )
    heads: int = option(
        "model",
        "a divisor of the width (default: 4, of mlstm 16, if they divide it)",
        natural,
        of=HEADS,
    )
    config: str | None = option(
        "model", "a JSON or YAML file with the official names", of=OF_BLOCKS, metavar="FILE"
    )
    blocks: int = option("model", "how many blocks", size, of={"xlstm": 4, "xlstm-large": 4})
    width: int = option("model", "width of the blocks", size, of={"xlstm": 192, "xlstm-large": 128})
    slstm_at: Any = option(
        "model",
        "sLSTM blocks: such as 0,2, or all, or none",
        places,
        of={"xlstm": [1]},
        metavar="LIST",
    )
    dropout: float = option("model", "dropout of xlstm", share, of={"xlstm": 0.3})
    weight_mode: Any = option(
        "model",
        "how matrices are stored",
        of={"xlstm-large": "single"},
        choices=("single", "fused"),
    )
    batch_size: int = option("training", "windows per step", size, 16)
    window: int = option("training", "tokens per window", size, 128)
    lr: float = option("training", "peak learning rate", positive, of=LR)
    schedule: str = option(
        "training", "after the warm-up", default="cosine", choices=("cosine", "constant")
    )
    warmup: float = option("training", "part in which the learning rate rises", share, 0.05)
    weight_decay: float = option("training", "AdamW's decay", real(0), of=DECAY)
    clip: float = option("training", "largest gradient norm; 0: no limit", real(0), 1.0)
    steps: int | None = option(
        "training", "stop after N steps; alone, a run can be repeated bit for bit", natural
    )
    minutes: float | None = option(
        "training",
        f"how long at most (default: {DEFAULT_MINUTES:g}, or no limit with --steps)",
        positive,
    )
    seed: int = option("training", "seed of all that is random", whole(0), 0)
    accumulate: int = option(
        "training", "learn from a batch in N parts, one in memory at a time", size, 1
    )
    tbptt: bool = option(
        "training", "windows go on where the last ones ended, not at random places", default=False
    )
    recompute: bool = option(
        "training", "compute again in the backward what need not be kept", default=False
    )
    validate_every: int | None = option(
        "training", "in steps (default: 100 with --steps alone, or as time permits)", natural
    )
    out: str | None = option(
        "run", "write checkpoint.npz, best.npz, log.jsonl and loss.svg there", metavar="DIR"
    )
    save_every: int | None = option(
        "run", "steps between two checkpoints (default: one every minute)", natural
    )
    resume: str | None = option("run", "go on with the training that is there", metavar="DIR")
    sample_length: int = option("sample", "tokens to generate", whole(0), 500)
    temperature: float = option(
        "sample", "1: as the model believes, less: bolder, 0: the likeliest", real(0), 0.8
    )
    prompt: str | None = option(
        "sample", "what it continues (default: the beginning of the held-out part)", metavar="TEXT"
    )

    @property
    def kind(self) -> str:
        """The model or, around a single cell, the cell."""
        return (self.cell or "slstm") if self.model == "cell" else self.model

    @classmethod
    def begin(cls, given: Mapping[str, Any]) -> Self:
        """Add to what is given the defaults, which are not the same for all models.

        Raises
        ------
        OptionError
            If an option is given that is not one of this model, or is said in its file.
        """
        options = cls(**given)
        _check_model(options, given)
        for name, facts in OPTIONS.items():
            in_file = options.config is not None and facts["group"] == "model"
            if "of" in facts and name not in given and not in_file:
                default = facts["of"].get(options.model)
                setattr(options, name, facts["of"].get(options.kind, default))
        if "heads" not in given and options.heads is not None:
            width = options.hidden_size if options.model == "cell" else options.width
            queries = width // 2 if options.model == "xlstm-large" else width
            options.heads = math.gcd(options.heads, queries)
        if "slstm_at" not in given and options.slstm_at is not None:
            options.slstm_at = [block for block in options.slstm_at if block < options.blocks]
        if options.minutes is None and options.steps is None:
            options.minutes = DEFAULT_MINUTES
        return options

    @classmethod
    def go_on(cls, stored: Mapping[str, Any], given: Mapping[str, Any]) -> Self:
        """Take up the options of a run; a budget that is given replaces the one that it had.

        Raises
        ------
        OptionError
            If a smaller budget is given.
        CheckpointError
            If the run has not the options of this version.
        """
        if stored.keys() ^ (OPTIONS.keys() - NOT_STORED):
            raise CheckpointError("options: expected those of this version; got others")
        budget = {name: given.get(name) for name in ("steps", "minutes")}
        for name, value in budget.items():
            if value is not None and stored[name] is not None and value < stored[name]:
                raise OptionError(
                    f"--{name}: expected at least the {stored[name]} of the run; got {value}"
                )
        raised = budget if any(budget.values()) else {}
        return cls(**{**stored, **raised, **given})

    def stored(self) -> dict[str, Any]:
        """Return what the training depends on, as a checkpoint holds it."""
        options = {name: v for name, v in asdict(self).items() if name not in NOT_STORED}
        return options | {"file": None if self.file is None else str(Path(self.file).absolute())}


OPTIONS: dict[str, Mapping[str, Any]] = {f.name: f.metadata for f in fields(TrainOptions)}
NOT_STORED = {"out", "resume"}
AT_RESUME = {"steps", "minutes", "sample_length", "temperature", "prompt"}
SET_BY = {"num_heads": "heads", "embedding_dim": "width", "num_blocks": "blocks"}
"""The options of those arguments of the library that have another name."""


def _check_model(options: TrainOptions, given: Mapping[str, Any]) -> None:
    chosen = {options.model, options.kind}
    describing = {n: facts for n, facts in OPTIONS.items() if facts["group"] == "model"}
    of = {name: facts["of"] for name, facts in describing.items() if "of" in facts}
    known = {name for name, models in of.items() if models.keys() & chosen}
    if foreign := (of.keys() - known) & given.keys():
        label = "--model cell --cell " if options.model == "cell" else "--model "
        raise OptionError(
            f"{label}{options.kind}: expected only {flags(known)} to describe the model; "
            f"got {flags(foreign)}"
        )
    if options.config is not None and (said := (known - {"config"}) & given.keys()):
        raise OptionError(
            "--config: expected no other options of the model, the file has them; "
            f"got {flags(said)}"
        )


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
    if first in OPTIONS:
        message = flags([first]) + colon + rest
    names = {name: name for name in OPTIONS if "_" in name} | SET_BY
    if "config" in given:
        names = {}
    for name, typed in names.items():
        message = re.sub(rf"\b{name}\b", flags([typed]), message)
    return message
