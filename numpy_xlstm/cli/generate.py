"""``numpy-xlstm generate``: continue a text with a trained model."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from numpy_xlstm.checkpoints import load_checkpoint
from numpy_xlstm.cli.arguments import add_options, given_options, option, real, whole
from numpy_xlstm.errors import OptionError
from numpy_xlstm.generation import Sampling, stream
from numpy_xlstm.numerics.memory import keep_freed_memory

DESCRIPTION = """\
Continue a text with the model of a checkpoint. The prompt and what follows are written to standard
output as they come. Ctrl-C ends the text early."""


@dataclass
class GenerateOptions:
    """What is to be generated from what."""

    checkpoint: str = option(
        "text", "a file that training has saved", metavar="CHECKPOINT", nargs=None
    )
    prompt: str = option("text", "what to continue", metavar="TEXT", required=True)
    length: int = option("text", "tokens to generate, at most", whole(0), 500)
    temperature: float = option(
        "sampling",
        "1 samples what the model believes, less is bolder, 0 takes the likeliest",
        real(0),
        0.8,
    )
    top_k: int | None = option("sampling", "draw from the N likeliest tokens only", whole(1))
    top_p: float | None = option(
        "sampling",
        "draw from the likeliest tokens only that have probability X together",
        real(0, exclusive=True),
    )
    repetition_penalty: float = option(
        "sampling", "above 1: tokens that have occurred become less likely", real(1), 1.0
    )
    stop: Any = option(
        "sampling", "end before this text; may be repeated", metavar="TEXT", action="append"
    )
    seed: int = option("sampling", "seed of all that is random", whole(0), 0)


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "generate", help="continue a text with a trained model", description=DESCRIPTION
    )
    add_options(parser, GenerateOptions)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Generate as told; returns 0, or 130 if Ctrl-C ended the text."""
    options = GenerateOptions(**given_options(args, GenerateOptions))
    pieces = _pieces(options)
    try:
        print(options.prompt, end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        return 130
    finally:
        print(flush=True)
    return 0


def _pieces(options: GenerateOptions) -> Iterator[str]:
    keep_freed_memory()
    checkpoint, penalty = load_checkpoint(options.checkpoint), options.repetition_penalty
    if checkpoint.tokenizer is None:
        raise OptionError(
            f"checkpoint: expected one with a tokenizer; {options.checkpoint} has none"
        )
    return stream(
        checkpoint.model,
        checkpoint.tokenizer,
        options.prompt,
        length=options.length,
        sampling=Sampling(options.temperature, options.top_k, options.top_p, penalty),
        stop=options.stop or [],
        rng=np.random.default_rng(options.seed),
    )
