"""``numpy-xlstm info``: show the content of a checkpoint."""

import argparse
from collections.abc import Mapping
from typing import Any

from numpy_xlstm.checkpoints import Pretrained, open_pretrained
from numpy_xlstm.checkpoints.description import WEIGHTS
from numpy_xlstm.checkpoints.pretrained import formats_of
from numpy_xlstm.cli.arguments import add_checkpoint
from numpy_xlstm.errors import MissingExtraError
from numpy_xlstm.module import outline

DESCRIPTION = """\
Show the parameters of a checkpoint as a tree, with shapes and sizes, and other information about
it. Only the headers of its files are read."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_checkpoint(parser)


def run(args: argparse.Namespace) -> int:
    """Print the tree, and information about the model and its training."""
    # The layout is not used here; without one, an ambiguous checkpoint would be refused.
    pretrained = open_pretrained(args.checkpoint, layout="vanilla")
    paths = {stored.path for stored in pretrained.stored.values()}
    widened, stored = (pretrained.num_bytes(weights) for weights in WEIGHTS)
    narrower = f"; {stored:,} with --weights stored" if stored < widened else ""
    facts = {
        "format": pretrained.format,
        "files": f"{len(paths)}, {sum(path.stat().st_size for path in paths):,} bytes",
        "dtype": ", ".join(sorted({stored.dtype for stored in pretrained.stored.values()})),
        "parameters": f"{sum(stored.size for stored in pretrained.stored.values()):,}",
        "memory": f"{widened:,} bytes{narrower}",
        **_training(pretrained.training, type(pretrained.model).__name__),
        "special": _special(pretrained),
        "tokenizer": _tokenizer(pretrained),
        "convert to": ", ".join(formats_of(pretrained.model)),
    }
    print(outline(type(pretrained.model).__name__, pretrained.stored))
    for name, value in facts.items():
        if value:
            print(f"{name:10} {value}")
    return 0


def _training(training: Mapping[str, Any], kind: str) -> dict[str, str]:
    facts = {name: f"{training[name]:,}" for name in ("step", "tokens") if name in training}
    if validations := training.get("validations"):
        step, error = validations[-1]
        unit = "" if kind == "SmallModel" else " bits/char"  # that of an experiment
        facts["validation"] = f"{error:.3f}{unit} after step {step:,}"
    return facts


def _special(pretrained: Pretrained) -> str:
    tokens = pretrained.special_tokens
    named = {"BOS": tokens.bos, "EOS": ", ".join(map(str, tokens.eos)), "padding": tokens.pad}
    parts = [f"{name} {value}" for name, value in named.items() if value not in (None, "")]
    return "; ".join(parts) + ("; a text begins with BOS" if tokens.insert_bos else "")


def _tokenizer(pretrained: Pretrained) -> str:
    """Return the kind of the tokenizer and its number of ids."""
    try:
        tokenizer = pretrained.load_tokenizer()
    except MissingExtraError as error:
        return f"a tokenizer.json; {error}"
    return "" if tokenizer is None else f"{type(tokenizer).__name__}, {tokenizer.size:,} ids"
