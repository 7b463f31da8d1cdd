"""The options of ``numpy-xlstm train``."""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from numpy_xlstm.cli.options import places, real, whole
from numpy_xlstm.cli.recipes import MODELS, WARMUP, defaults_of

DEFAULT_MINUTES = 3.0
DEFAULT_VALIDATE_EVERY = 100

Add = Callable[..., argparse.Action]

size = whole(1, 10**6)


class Defaults(argparse.ArgumentDefaultsHelpFormatter):
    """Help that shows defaults, but for options that have none."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        shown = action.default is not None and action.default is not False
        return super()._get_help_string(action) if shown else action.help


class _Given(argparse.Action):
    """Store the value, or True for an option without one, and that the option was given."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, True if self.nargs == 0 else values)
        namespace.given = {*getattr(namespace, "given", ()), self.option_strings[0]}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add all options; ``given`` will be the set of those that are given."""
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        help="a UTF-8 text (default: the language reference that CPython ships, 0.5 MB)",
    )
    parser.add_argument(
        "--tokenizer",
        action=_Given,
        default="characters",
        metavar="NAME",
        help="what the model reads: characters, bytes, or the tokens of a tokenizer.json",
    )
    _add_model_options(parser.add_argument_group("model"))
    _add_training_options(parser.add_argument_group("training"))
    _add_run_options(parser.add_argument_group("run"))
    _add_sample_options(parser.add_argument_group("sample"))
    parser.set_defaults(given=set())


def _add_model_options(group: argparse._ArgumentGroup) -> None:
    add = partial(group.add_argument, action=_Given)
    add(
        "--model",
        choices=tuple(MODELS),
        default="cell",
        help="embedding, one recurrent cell, linear layer; the xLSTM of the first paper; or the "
        "architecture of xLSTM 7B",
    )
    add(
        "--heads",
        type=whole(1),
        metavar="N",
        help="a divisor of the width (default: as far as it divides, 4, and 16 for --cell mlstm)",
    )
    add("--dtype", choices=("float32", "float64"), default="float32", help="precision")
    _add_cell_options(partial(group.add_argument, action=_Given))
    _add_xlstm_options(partial(group.add_argument, action=_Given))


def _add_cell_options(add: Add) -> None:
    add(
        "--cell",
        choices=("lstm", "slstm", "mlstm"),
        help=f"recurrent cell ({defaults_of('cell')})",
    )
    add(
        "--hidden-size",
        type=size,
        metavar="N",
        help=f"width of the cell ({defaults_of('hidden_size')})",
    )
    add(
        "--embedding-size",
        type=size,
        metavar="N",
        help=f"width of a token ({defaults_of('embedding_size')})",
    )
    add(
        "--forget-gate",
        choices=("sigmoid", "exp"),
        help="forget gate of the cells sLSTM and mLSTM (default: sigmoid)",
    )
    add(
        "--input-gate",
        choices=("exp", "sigmoid"),
        help="input gate of the cell mLSTM (default: exp)",
    )


def _add_xlstm_options(add: Add) -> None:
    add(
        "--config",
        metavar="FILE",
        help="a configuration of xlstm or xlstm-large with the official names, JSON or YAML; "
        "instead of the options below",
    )
    add("--blocks", type=size, metavar="N", help=f"how many blocks ({defaults_of('blocks')})")
    add("--width", type=size, metavar="N", help=f"width of the blocks ({defaults_of('width')})")
    add(
        "--slstm-at",
        type=places,
        metavar="LIST",
        help="which blocks of xlstm are sLSTM, from 0: numbers such as 1,3, or all, or none "
        f"({defaults_of('slstm_at')})",
    )
    add(
        "--dropout",
        type=real(0, below=1),
        metavar="X",
        help=f"dropout of xlstm ({defaults_of('dropout')})",
    )
    add(
        "--weight-mode",
        choices=("single", "fused"),
        help="whether xlstm-large stores the matrices that read the same input as one "
        f"({defaults_of('weight_mode')})",
    )


def _add_training_options(group: argparse._ArgumentGroup) -> None:
    add = partial(group.add_argument, action=_Given)
    add(
        "--batch-size",
        type=size,
        default=16,
        metavar="N",
        help="windows per step",
    )
    add(
        "--window",
        type=size,
        default=128,
        metavar="N",
        help="tokens per window",
    )
    add(
        "--lr",
        type=real(0, exclusive=True),
        metavar="X",
        help=f"peak learning rate ({defaults_of('lr')})",
    )
    add(
        "--schedule",
        choices=("cosine", "constant"),
        default="cosine",
        help="of the learning rate after the warm-up",
    )
    add(
        "--warmup",
        type=real(0, below=1),
        default=WARMUP,
        metavar="X",
        help="part of the training in which the learning rate rises",
    )
    add(
        "--weight-decay",
        type=real(0),
        metavar="X",
        help=f"AdamW's decay ({defaults_of('weight_decay')})",
    )
    add("--clip", type=real(0), default=1.0, metavar="X", help="largest gradient norm; 0: no limit")
    add(
        "--steps",
        type=whole(1),
        metavar="N",
        help="stop after N steps (default: no limit); alone, it makes a run repeatable bit for bit",
    )
    add(
        "--minutes",
        type=real(0, exclusive=True),
        metavar="X",
        help=f"stop after X minutes (default: {DEFAULT_MINUTES:g}, or no limit with --steps)",
    )
    add("--seed", type=whole(0), default=0, metavar="N", help="seed of all that is random")
    add(
        "--accumulate",
        type=size,
        default=1,
        metavar="N",
        help="learn from a batch in N parts, one in memory at a time: the gradient is the same",
    )
    add(
        "--processes",
        type=size,
        default=1,
        metavar="N",
        help="learn from a batch in N processes at once, each with its own rows: for N cores",
    )
    add(
        "--tbptt",
        nargs=0,
        default=False,
        help="read the text in order, in as many rows as a batch has, each window in the state in "
        "which the one before ended; otherwise windows are drawn at random and begin empty",
    )
    add(
        "--recompute",
        nargs=0,
        default=False,
        help="compute again in the backward what the forward need not keep, if the model can",
    )
    add(
        "--validate-every",
        type=whole(1),
        metavar="N",
        help=f"steps between two validations (default: {DEFAULT_VALIDATE_EVERY} with --steps "
        "alone, or as time permits)",
    )


def _add_run_options(group: argparse._ArgumentGroup) -> None:
    add = partial(group.add_argument, action=_Given)
    add(
        "--out",
        metavar="DIR",
        help="write checkpoint.npz, best.npz with the model of the best validation, log.jsonl "
        "with a line per step, and loss.svg there",
    )
    add(
        "--save-every",
        type=whole(1),
        metavar="N",
        help="write the checkpoint every N steps too, and not only every minute and at the end",
    )
    add(
        "--resume",
        metavar="DIR",
        help="go on with the training in DIR, with all its options: only its budget can be raised, "
        "with --steps or --minutes, and FILE can say where its text is now",
    )


def _add_sample_options(group: argparse._ArgumentGroup) -> None:
    add = partial(group.add_argument, action=_Given)
    add("--sample-length", type=whole(0), default=500, metavar="N", help="tokens to generate")
    add(
        "--temperature",
        type=real(0),
        default=0.8,
        metavar="X",
        help="1 samples what the model believes, less is bolder, 0 takes the likeliest",
    )
    add(
        "--prompt",
        metavar="TEXT",
        help="what the sample continues (default: the beginning of the held-out part)",
    )
