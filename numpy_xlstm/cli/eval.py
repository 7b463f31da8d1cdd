"""``numpy-xlstm eval``: measure how well a model predicts a text."""

import argparse
import json
from pathlib import Path

from numpy_xlstm import training
from numpy_xlstm.cli.arguments import (
    READING,
    TEXTS,
    Option,
    add_checkpoint,
    add_options,
    check_report,
    size,
    write_report,
)
from numpy_xlstm.cli.display import bar_of, show_losses
from numpy_xlstm.cli.language_models import open_language_model
from numpy_xlstm.errors import OptionError
from numpy_xlstm.generation import HuggingFaceTokenizer

DESCRIPTION = """\
Measure how well a language model predicts texts, which are joined in order: in bits per character,
in bits per token, and as the perplexity, 2 to the power of the bits per token. The text is read in
rows, as in the validations of a training, so that the results are the same. Each row begins with
the empty state; the state is carried to its end, or with --window to the end of each window."""

OPTIONS: dict[str, Option] = {
    "rows": (size, 32, "split the text into N rows, which are read at the same time"),
    "window": (size, None, "start again from the empty state after every N tokens"),
    "json": (Path, None, "also write the results to a file"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_checkpoint(parser)
    parser.add_argument("texts", metavar="TEXT", nargs="+", help=TEXTS)
    add_options(parser, OPTIONS | READING)


def run(args: argparse.Namespace) -> int:
    """Evaluate, and return 0."""
    check_report(args.json)
    pretrained = open_language_model(args.checkpoint, args.from_layout)
    given = args.tokenizer
    tokenizer = HuggingFaceTokenizer.from_file(given) if given else pretrained.load_tokenizer()
    if tokenizer is None:
        raise OptionError(f"--tokenizer: expected a file, because {args.checkpoint} has none")
    text = "".join(training.read_texts(args.texts).values())
    with bar_of("bytes") as progress:
        model = pretrained.load(progress=progress, weights=args.weights)
    show_losses(tokenizer, text)
    with bar_of("tokens") as progress:
        known = {"rows": args.rows, "window": args.window or 128, "carry": args.window is None}
        result = training.evaluate(model, tokenizer, text, progress=progress, **known)
    again = "" if args.window is None else f" and after every {args.window:,} tokens"
    length = (result.tokens - 1) // result.rows
    predicted = f"{result.rows * length:,} tokens" if result.tokens > 2 else "1 token"
    facts = {
        "bits per character": f"{result.bits_per_character:.3f}",
        "bits per token": f"{result.bits_per_token:.3f}",
        "perplexity": f"{result.perplexity:,.2f} per token, a mean over {predicted}",
        "text": f"{result.characters:,} characters, {result.tokens:,} tokens",
        "empty state": f"at the start of each row{again}",
        "rows": f"{result.rows:,}, each of {length:,} tokens",
    }
    for name, value in facts.items():
        print(f"{name:18}  {value}")
    if args.json is not None:
        write_report(args.json, json.dumps(result._asdict() | {"window": args.window}) + "\n")
    return 0
