"""The command ``numpy-xlstm trace``."""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from numpy_xlstm import conformance
from numpy_xlstm.checkpoints import Pretrained, save_pretrained
from numpy_xlstm.cli.arguments import (
    FROM_LAYOUT,
    Option,
    add_checkpoint,
    add_options,
    ids,
    names,
    natural,
)
from numpy_xlstm.cli.language_models import load_exactly, open_language_model
from numpy_xlstm.cli.vectors import new_set
from numpy_xlstm.conformance.bounds import SIXTEEN_BITS
from numpy_xlstm.conformance.compare import listed
from numpy_xlstm.conformance.demo import DEMOS, demo
from numpy_xlstm.conformance.files import MOST_BYTES
from numpy_xlstm.conformance.trace import check_parts, constants, parts_of
from numpy_xlstm.errors import OptionError
from numpy_xlstm.trees import leaves

DESCRIPTION = """\
Write a case for each part of the model of a checkpoint, such as a block: its exact input, output
and final state, and a bound on the error of each number. 'numpy-xlstm verify --trace' then says in
which part a port departs first. Matrices in 16 bits are read as they are needed."""

CONSTANT = "mistakes can hide in parameters that are one number:"

OPTIONS: dict[str, Option] = {
    "demo": (DEMOS, None, "a small model, all of whose parameters are random, in DIR/checkpoint"),
    "dtype": (
        SIXTEEN_BITS,
        None,
        "for a port that stores what it computes in 16 bits (default: that of the model)",
    ),
    "gradients": (bool, False, "with random cotangents, and all gradients"),
    "inside": (bool, False, "also the tensors within each block, in the order of computation"),
    "parts": (names, None, "parts that get a case, such as block.0,head (default: all)"),
    "last_logits": (natural, None, "logits of the last N tokens only (default: of all)"),
    "from_layout": FROM_LAYOUT,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_checkpoint(parser, nargs="?")
    row, folder = "token ids of one row", "a new or empty folder"
    known = partial(ids, words="")
    parser.add_argument("--ids", type=known, metavar="LIST", help=row)
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help=folder)
    add_options(parser, OPTIONS)


def run(arguments: argparse.Namespace) -> int:
    """Write the cases, and print the name of each."""
    if (arguments.checkpoint is None) == (arguments.demo is None):
        got = "neither" if arguments.demo is None else "both"
        raise OptionError(f"trace: expected CHECKPOINT, or --demo and a model; got {got}")
    pretrained = None if arguments.demo else _opened(arguments)
    with new_set("--out", arguments.out) as new:
        if pretrained is None:
            model, known = demo(arguments.demo)
            arguments.checkpoint, arguments.ids = new / "checkpoint", arguments.ids or known
            save_pretrained(model, arguments.checkpoint, dtype=arguments.dtype)
            pretrained = _opened(arguments)
        model = load_exactly(pretrained, arguments.dtype and "float32")
        chosen = {name: getattr(arguments, name) for name in ("gradients", "parts", "last_logits")}
        chosen["inside"] = arguments.inside or arguments.demo is not None
        cases = conformance.trace(model, np.array([arguments.ids]), arguments.dtype, **chosen)
        for case in conformance.write_vectors(new, cases):
            tensors = listed(list(case.expected))
            print(f"{case.id}: {case.subject.name}, {tensors}", flush=True)
    if same := constants(model):
        print(f"{CONSTANT} {', '.join(same)}")
    T = len(arguments.ids)
    print(f"a trace of {T} {'tokens' if T > 1 else 'token'} in {arguments.out}")
    return 0


def _opened(arguments: argparse.Namespace) -> Pretrained:
    """Open the checkpoint, and check the other arguments before the work."""
    pretrained = open_language_model(arguments.checkpoint, arguments.from_layout)
    if arguments.ids is None:
        raise OptionError("--ids: expected the ids of the tokens; got none")
    try:
        pretrained.model.check_input(np.array([arguments.ids]))
    except IndexError as error:
        raise OptionError(f"--ids: {error}") from error
    check_parts(pretrained.model, len(arguments.ids), arguments.parts)
    _check_sizes(pretrained, arguments)
    return pretrained


def _check_sizes(pretrained: Pretrained, arguments: argparse.Namespace) -> None:
    """Raise an error before the work if the results of a part would be too large for a file."""
    gradients, parts, T = arguments.gradients, arguments.parts, len(arguments.ids)
    width = 0  # of x; ids have no gradient
    for name, part in parts_of(pretrained.model, T).items():
        if name == "head":
            T = min(T, arguments.last_logits or T)
        out = getattr(part, "out_features", width)
        state = leaves("", part.init_state(1)) if hasattr(part, "init_state") else ()
        numbers = T * out + sum(array.size for _, array in state)
        if gradients:
            numbers += T * (0 if name == "model" else width) + part.num_parameters
        size, width = numbers * np.dtype(pretrained.dtype).itemsize, out
        if size > MOST_BYTES and (parts is None or name in parts):
            raise OptionError(
                f"{'--gradients' if gradients else '--ids'}: expected results of at most "
                f"{MOST_BYTES:,} bytes in each part; got {size:,} in {name} (--parts and "
                "--last-logits select fewer)"
            )
