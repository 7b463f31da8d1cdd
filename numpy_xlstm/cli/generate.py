"""``numpy-xlstm generate``: continue a text, or ids, with a trained model."""

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np

from numpy_xlstm.checkpoints import Pretrained, open_pretrained
from numpy_xlstm.cli.arguments import (
    TEMPERATURE,
    add_checkpoint,
    facts,
    flags,
    ids,
    positive,
    real,
    whole,
)
from numpy_xlstm.cli.display import bytes_display, shown
from numpy_xlstm.errors import OptionError
from numpy_xlstm.generation import (
    HuggingFaceTokenizer,
    Tokenizer,
    config_of,
    new_tokens,
    start,
    stream,
)
from numpy_xlstm.models import LanguageModel
from numpy_xlstm.models.layouts import LAYOUTS
from numpy_xlstm.numerics.memory import keep_freed_memory

DESCRIPTION = """\
Continue a text, or ids, with the model of a checkpoint. The prompt and what follows are written to
standard output as they come, ids with commas between them. The end token of the checkpoint ends
it, and so does Ctrl-C."""

EPILOG = """\
A text begins with the BOS of the checkpoint if its tokenizer.json or, as force_bos_token_insert,
its config.json says so; ids are taken as they are; without a prompt there is the BOS alone."""

OPTIONS: dict[str, tuple[Any, Any, str]] = {
    "max_new_tokens": (whole(0), 500, "tokens to generate, at most"),
    "temperature": (real(0), 0.8, TEMPERATURE),
    "top_k": (whole(1), None, "draw from the N likeliest tokens only"),
    "top_p": (positive, None, "draw from the likeliest that have probability N together only"),
    "repetition_penalty": (real(1), 1.0, "above 1: tokens that have occurred are less likely"),
    "bos_token_id": (whole(0), None, "what is begun with (default: as the checkpoint says)"),
    "eos_token_id": (ids, None, "any of these ends it, or none (default: those of the checkpoint)"),
    "suppress_tokens": (ids, None, "never generate these"),
}
"""Kind, default and help, as for :func:`facts`, under the names of :class:`GenerationConfig`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = EPILOG
    add_checkpoint(parser)
    prompt = parser.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", metavar="TEXT", help="what to continue")
    prompt.add_argument("--ids", **facts(ids, None, "what to continue, as token ids"))
    for name, option in OPTIONS.items():
        parser.add_argument(flags([name]), default=option[1], **facts(*option))
    parser.add_argument("--seed", default=0, **facts(whole(0), 0, "seed of all that is random"))
    parser.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end before this; repeatable"
    )
    parser.add_argument(
        "--tokenizer", metavar="FILE", help="a tokenizer.json (default: that of the checkpoint)"
    )
    parser.add_argument(
        "--from-layout", choices=LAYOUTS, help="of sLSTM's bias, where the files do not say"
    )


def run(args: argparse.Namespace) -> int:
    """Generate as told; returns 0, or 130 if Ctrl-C ended the text."""
    keep_freed_memory()
    found = open_pretrained(args.checkpoint, layout=args.from_layout)
    if not isinstance(found.model, LanguageModel):
        kind = type(found.model).__name__
        raise OptionError(f"checkpoint: expected a language model; {found.path} has one {kind}")
    tokenizer = None if args.ids is not None else _tokenizer(args, found)
    _continued(found.model, tokenizer, args)  # checks all that it is told, before the large files
    with bytes_display("reading") as progress:
        model = found.load(progress=progress)
    begun, pieces = _continued(model, tokenizer, args)
    try:
        print(shown(begun), end="", flush=True)
        for piece in pieces:
            print(shown(piece), end="", flush=True)
    except KeyboardInterrupt:
        return 130
    finally:
        print(flush=True)
    return 0


def _tokenizer(args: argparse.Namespace, found: Pretrained) -> Tokenizer | None:
    """What makes ids of the prompt; None without a prompt, if there is none."""
    if args.tokenizer is not None:
        return HuggingFaceTokenizer.from_file(args.tokenizer)
    tokenizer = found.load_tokenizer()
    if tokenizer is None and args.prompt is not None:
        raise OptionError(
            f"--prompt: expected a checkpoint with a tokenizer; {args.checkpoint} has none: "
            "give --tokenizer, or --ids"
        )
    return tokenizer


def _continued(
    model: Any, tokenizer: Tokenizer | None, args: argparse.Namespace
) -> tuple[str, Iterator[str]]:
    """What is continued, and what follows, piece by piece: texts, or ids if no tokenizer."""
    options = {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None}
    options["do_sample"] = True
    rng = np.random.default_rng(args.seed)
    if tokenizer is not None:
        begun = args.prompt or ""
        return begun, stream(model, tokenizer, begun, stop=args.stop, rng=rng, **options)
    if args.stop:
        raise OptionError(f"--stop: expected a text to continue, not ids; got {args.stop[0]!r}")
    config = config_of(model, options)
    try:
        prompt = start(model, None if args.ids is None else np.array([args.ids], int), config)
    except IndexError as error:
        raise OptionError(str(error)) from error
    tokens = new_tokens(model, [prompt], config, rng)
    return ",".join(map(str, prompt[0])), (f",{token}" for (token,) in tokens)
