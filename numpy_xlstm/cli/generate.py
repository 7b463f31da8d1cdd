"""``numpy-xlstm generate``: continue a text with a trained model."""

import argparse
from typing import Any

import numpy as np

from numpy_xlstm.checkpoints import load_checkpoint
from numpy_xlstm.cli.options import TEMPERATURE, facts, flags, positive, real, whole
from numpy_xlstm.errors import OptionError
from numpy_xlstm.generation import stream
from numpy_xlstm.numerics.memory import keep_freed_memory

DESCRIPTION = """\
Continue a text with the model of a checkpoint. The prompt and what follows are written to standard
output as they come. Ctrl-C ends the text early."""

OPTIONS: dict[str, tuple[Any, Any, str]] = {
    "max_new_tokens": (whole(0), 500, "tokens to generate, at most"),
    "temperature": (real(0), 0.8, TEMPERATURE),
    "top_k": (whole(1), None, "draw from the N likeliest tokens only"),
    "top_p": (positive, None, "draw from the likeliest that have probability N together only"),
    "repetition_penalty": (real(1), 1.0, "above 1: tokens that have occurred are less likely"),
    "seed": (whole(0), 0, "seed of all that is random"),
}
"""Kind, default and help, as for :func:`facts`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a file that training has saved")
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="what to continue")
    for name, option in OPTIONS.items():
        parser.add_argument(flags([name]), default=option[1], **facts(*option))
    parser.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end before this; repeatable"
    )


def run(args: argparse.Namespace) -> int:
    """Generate as told; returns 0, or 130 if Ctrl-C ended the text."""
    keep_freed_memory()
    checkpoint = load_checkpoint(args.checkpoint)
    if checkpoint.tokenizer is None:
        raise OptionError(f"checkpoint: expected one with a tokenizer; {args.checkpoint} has none")
    pieces = stream(
        checkpoint.model,
        checkpoint.tokenizer,
        args.prompt,
        do_sample=True,
        **{name: getattr(args, name) for name in OPTIONS.keys() - {"seed"}},
        stop=args.stop,
        rng=np.random.default_rng(args.seed),
    )
    try:
        print(args.prompt, end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        return 130
    finally:
        print(flush=True)
    return 0
