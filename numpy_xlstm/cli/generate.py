"""``numpy-xlstm generate``: continue a text, or ids, with a trained model."""

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np

from numpy_xlstm.checkpoints import Pretrained
from numpy_xlstm.cli.arguments import (
    READING,
    TEMPERATURE,
    Option,
    add_checkpoint,
    add_options,
    ids,
    natural,
    positive,
    real,
    whole,
)
from numpy_xlstm.cli.display import bar_of, shown
from numpy_xlstm.cli.language_models import open_language_model
from numpy_xlstm.errors import OptionError
from numpy_xlstm.generation import (
    HuggingFaceTokenizer,
    Tokenizer,
    config_of,
    new_tokens,
    start,
    stream,
)

DESCRIPTION = """\
Continue a text, or ids, with the model of a checkpoint. The prompt and its continuation are written
to standard output during generation; ids are separated by commas. Generation ends at an end token,
before a text of --stop, after --max-new-tokens, or with Ctrl-C."""

EPILOG = """\
The begin token (BOS) is inserted before a text if --bos-token-id is given, or if the config.json
sets force_bos_token_insert. Nothing is inserted before ids.
Without a prompt, generation starts with the BOS, if there is one."""

SAMPLING: dict[str, Option] = {
    "max_new_tokens": (whole(0), 500, "largest number of tokens to generate"),
    "temperature": (real(0), 0.8, TEMPERATURE),
    "top_k": (whole(1), None, "draw only from the N likeliest tokens"),
    "top_p": (positive, None, "draw only from the likeliest tokens with total probability N"),
    "repetition_penalty": (real(1), 1.0, "above 1, tokens that have occurred are less likely"),
    "bos_token_id": (whole(0), None, "first id (default: that of the checkpoint)"),
    "eos_token_id": (ids, None, "ids that end a text, or none (default: those of the checkpoint)"),
    "suppress_tokens": (ids, None, "ids that are never generated"),
}
"""Options by the names of :class:`GenerationConfig`."""

OPTIONS: dict[str, Option] = SAMPLING | {
    "seed": (whole(0), 0, "seed of all random numbers"),
    "num_samples": (natural, 1, "continue N times, with the seeds from --seed on"),
    "stop": (["TEXT"], None, "end before TEXT"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_checkpoint(parser)
    prompt = parser.add_mutually_exclusive_group()
    add_options(prompt, {"prompt": ("TEXT", None, "text to continue")})
    add_options(prompt, {"ids": (ids, None, "token ids to continue")})
    add_options(parser, OPTIONS | READING)


def run(args: argparse.Namespace) -> int:
    """Generate, and return 0."""
    pretrained = open_language_model(args.checkpoint, args.from_layout)
    tokenizer = None if args.ids is not None else _tokenizer(args, pretrained)
    try:
        _continued(pretrained.model, tokenizer, args, 0)  # check all options before reading files
    except OptionError as error:
        if args.prompt is args.ids is None and str(error).startswith(("prompt:", "ids:")):
            raise OptionError(
                "generate: expected --prompt with a text to continue, or --ids; got neither, and "
                f"{args.checkpoint} has no BOS to start from"
            ) from error
        raise
    with bar_of("bytes") as progress:
        model = pretrained.load(progress=progress, weights=args.weights)
    for seed in range(args.seed, args.seed + args.num_samples):
        if args.num_samples > 1:
            print(f"--- seed {seed} ---")
        begun, pieces = _continued(model, tokenizer, args, seed)
        try:
            print(shown(begun), end="", flush=True)
            for piece in pieces:
                print(shown(piece), end="", flush=True)
        finally:
            print(flush=True)
    return 0


def _tokenizer(args: argparse.Namespace, pretrained: Pretrained) -> Tokenizer | None:
    if args.tokenizer is not None:
        return HuggingFaceTokenizer.from_file(args.tokenizer)
    tokenizer = pretrained.load_tokenizer()
    if tokenizer is None and args.prompt is not None:
        raise OptionError(
            f"--prompt: expected a checkpoint with a tokenizer; {args.checkpoint} has none: "
            "give --tokenizer, or --ids"
        )
    return tokenizer


def _continued(
    model: Any, tokenizer: Tokenizer | None, args: argparse.Namespace, seed: int
) -> tuple[str, Iterator[str]]:
    """Return the prompt and the pieces of its continuation, as ids if there is no tokenizer."""
    given = {name: getattr(args, name) for name in SAMPLING}
    options = {name: value for name, value in given.items() if value is not None}
    options["do_sample"] = True
    rng = np.random.default_rng(seed)
    if tokenizer is not None:
        begun = args.prompt or ""
        return begun, stream(model, tokenizer, begun, stop=args.stop or (), rng=rng, **options)
    if args.stop:
        raise OptionError(f"--stop: expected text to be generated, not ids; got {args.stop[0]!r}")
    config = config_of(model, options)
    try:
        prompt = start(model, None if args.ids is None else np.array([args.ids], int), config)
    except IndexError as error:
        raise OptionError(str(error)) from error
    tokens = new_tokens(model, [prompt], config, rng)
    return ",".join(map(str, prompt[0])), (f",{token}" for (token,) in tokens)
