"""``numpy-xlstm generate``: continue a text with a trained model."""

import argparse
from collections.abc import Iterator

from numpy_xlstm.cli.arguments import real, whole

DESCRIPTION = """\
Continue a text with the model of a checkpoint. The prompt and what follows are written to standard
output as they come. Ctrl-C ends the text early."""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "generate", help="continue a text with a trained model", description=DESCRIPTION
    )
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="a file that training has saved")
    add("--prompt", metavar="TEXT", required=True, help="what to continue")
    add(
        "--length",
        type=whole(0),
        default=500,
        metavar="N",
        help="tokens to generate, at most (default: 500)",
    )
    _add_sampling_options(parser.add_argument_group("sampling"))
    parser.set_defaults(run=run)


def _add_sampling_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--temperature",
        type=real(0),
        default=0.8,
        metavar="X",
        help="1 samples what the model believes, less is bolder, 0 takes the likeliest "
        "(default: 0.8)",
    )
    add("--top-k", type=whole(1), metavar="N", help="draw from the N likeliest tokens only")
    add(
        "--top-p",
        type=real(0, exclusive=True),
        metavar="X",
        help="draw from the likeliest tokens only that have probability X together",
    )
    add(
        "--repetition-penalty",
        type=real(1),
        default=1.0,
        metavar="X",
        help="above 1: tokens that have occurred become less likely (default: 1)",
    )
    add(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help="end before this text; may be repeated",
    )
    add(
        "--seed",
        type=whole(0),
        default=0,
        metavar="N",
        help="seed of all that is random (default: 0)",
    )


def run(args: argparse.Namespace) -> int:
    """Generate as told; returns 0, or 130 if Ctrl-C ended the text."""
    pieces = _pieces(args)
    try:
        print(args.prompt, end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        return 130
    finally:
        print(flush=True)
    return 0


def _pieces(args: argparse.Namespace) -> Iterator[str]:
    import numpy as np

    from numpy_xlstm.checkpoints import load_checkpoint
    from numpy_xlstm.errors import OptionError
    from numpy_xlstm.generation import Sampling, stream

    sampling = Sampling(args.temperature, args.top_k, args.top_p, args.repetition_penalty)
    checkpoint = load_checkpoint(args.checkpoint)
    if checkpoint.tokenizer is None:
        raise OptionError(f"checkpoint: expected one with a tokenizer; {args.checkpoint} has none")
    return stream(
        checkpoint.model,
        checkpoint.tokenizer,
        args.prompt,
        length=args.length,
        sampling=sampling,
        stop=args.stop,
        rng=np.random.default_rng(args.seed),
    )
