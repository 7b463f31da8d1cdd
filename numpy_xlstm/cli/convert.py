"""``numpy-xlstm convert``: from the checkpoint of one package to that of another."""

import argparse
import sys
from pathlib import Path

from numpy_xlstm.checkpoints import FORMATS, Pretrained, open_pretrained, save_pretrained
from numpy_xlstm.checkpoints.safetensors import FLOATS
from numpy_xlstm.checkpoints.saving import can_hold, check_saving
from numpy_xlstm.cli.display import bytes_display
from numpy_xlstm.errors import CheckpointError, OptionError
from numpy_xlstm.models.layouts import LAYOUTS
from numpy_xlstm.numerics.memory import keep_freed_memory

DESCRIPTION = """\
Write the model of a checkpoint so that another package loads it: a folder for transformers, xlstm
and xlstm-large, a file for torch, npz and safetensors. Its tokenizer and its special tokens come
along where the format can hold them, the state of its training does not. Numbers stay as they are,
bit for bit, unless --dtype rounds them."""

EPILOG = """\
What IN is, its content says: a folder or file of this package, of transformers or of xlstm, or the
state dict of a torch.nn.LSTM, GRU or RNN. OUT must not exist yet, or be an empty folder. Nothing in
a file is run, and nothing is written before all of IN has been read and checked."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = EPILOG
    parser.add_argument("source", metavar="IN", type=Path, help="the checkpoint to read")
    parser.add_argument("target", metavar="OUT", type=Path, help="the folder or file to write")
    parser.add_argument("--to", choices=FORMATS, required=True, help="the format to write")
    parser.add_argument("--dtype", choices=FLOATS, help="(default: that of IN)")
    parser.add_argument(
        "--layout",
        choices=LAYOUTS,
        help="of sLSTM's parameters in xlstm's format: (default: vanilla)",
    )
    parser.add_argument(
        "--from-layout", choices=LAYOUTS, help="of sLSTM's bias in IN, where its files do not say"
    )
    parser.add_argument(
        "--max-shard-size", metavar="SIZE", help="the most bytes in a file of a folder, as 5GB"
    )


def run(args: argparse.Namespace) -> int:
    """Convert as told; returns 0."""
    keep_freed_memory()
    if args.layout is not None and args.to != "xlstm":
        raise OptionError(f"--layout: expected --to xlstm with it; got --to {args.to}")
    found = open_pretrained(args.source, layout=args.from_layout)
    check_saving(found.model, args.target, args.to)
    if args.target.is_file():
        raise CheckpointError(f"OUT: expected no file yet; {args.target} is there")
    tokenizer = found.load_tokenizer()
    if tokenizer is not None and not can_hold(args.to, tokenizer):
        kind = type(tokenizer).__name__
        print(f"{args.to} has no place for the {kind}, which stays behind", file=sys.stderr)
        tokenizer = None
    with bytes_display("reading") as progress:
        model = found.load(progress=progress)
    with bytes_display("writing") as progress:
        save_pretrained(
            model,
            args.target,
            format=args.to,
            dtype=args.dtype or stored_dtype(found),
            layout=args.layout or "vanilla",
            max_shard_size=args.max_shard_size,
            tokenizer=tokenizer,
            progress=progress,
        )
    return 0


def stored_dtype(found: Pretrained) -> str:
    """The dtype of the files, or what holds all that they have if there are several."""
    kinds = {stored.dtype for stored in found.stored.values()}
    return kinds.pop() if len(kinds) == 1 else found.dtype
