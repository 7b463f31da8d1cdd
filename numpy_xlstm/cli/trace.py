"""The command ``numpy-xlstm trace``."""

import argparse
from pathlib import Path

import numpy as np

from numpy_xlstm import conformance
from numpy_xlstm.cli.arguments import add_checkpoint, facts, ids
from numpy_xlstm.cli.display import bytes_display
from numpy_xlstm.cli.language_models import open_language_model
from numpy_xlstm.cli.vectors import new_set
from numpy_xlstm.conformance.bounds import SIXTEEN_BITS
from numpy_xlstm.errors import OptionError
from numpy_xlstm.models.layouts import LAYOUTS

DESCRIPTION = """\
Write a case for each part of the model of a checkpoint, such as a block: its exact input, output
and final state, and a bound on the error of each number. 'numpy-xlstm verify --trace' then says in
which part a port departs first. Matrices in 16 bits are read as they are needed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_checkpoint(parser)
    parser.add_argument("--ids", required=True, **facts(ids, None, "token ids of one row"))
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="a new or empty folder"
    )
    parser.add_argument(
        "--dtype",
        choices=SIXTEEN_BITS,
        help="for a port that stores what it computes in 16 bits (default: that of the model)",
    )
    parser.add_argument(
        "--gradients", action="store_true", help="with random cotangents, and all gradients"
    )
    parser.add_argument(
        "--from-layout", choices=LAYOUTS, help="layout of sLSTM's bias, if it is ambiguous"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the cases, and print the name of each."""
    pretrained = open_language_model(arguments.checkpoint, arguments.from_layout)
    tokens = np.array([arguments.ids], int)
    if not tokens.size:
        raise OptionError("--ids: expected at least one id; got none")
    try:
        pretrained.model.check_input(tokens)
    except IndexError as error:
        raise OptionError(f"--ids: {error}") from error
    with new_set("--out", arguments.out) as new:
        dtype = pretrained.dtype if arguments.dtype is None else "float32"
        weights = "stored" if dtype == "float32" else "widened"
        with bytes_display("reading") as progress:
            model = pretrained.load(dtype, progress=progress, weights=weights)
        cases = conformance.trace(model, tokens, arguments.dtype, gradients=arguments.gradients)
        for case in conformance.write_vectors(new, cases):
            print(f"{case.id}: {case.subject.name}, {len(case.expected)} tensors", flush=True)
    print(f"a trace of {tokens.size} tokens in {arguments.out}")
    return 0
