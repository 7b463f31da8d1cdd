"""The command ``numpy-xlstm trace``."""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from numpy_xlstm import conformance
from numpy_xlstm.checkpoints import Pretrained
from numpy_xlstm.cli.arguments import FROM_LAYOUT, Option, add_checkpoint, add_options, ids
from numpy_xlstm.cli.display import bar_of
from numpy_xlstm.cli.language_models import open_language_model
from numpy_xlstm.cli.vectors import new_set
from numpy_xlstm.conformance.bounds import SIXTEEN_BITS
from numpy_xlstm.conformance.compare import listed
from numpy_xlstm.conformance.files import MOST_BYTES
from numpy_xlstm.conformance.trace import parts
from numpy_xlstm.errors import OptionError
from numpy_xlstm.trees import leaves

DESCRIPTION = """\
Write a case for each part of the model of a checkpoint, such as a block: its exact input, output
and final state, and a bound on the error of each number. 'numpy-xlstm verify --trace' then says in
which part a port departs first. Matrices in 16 bits are read as they are needed."""

OPTIONS: dict[str, Option] = {
    "dtype": (
        SIXTEEN_BITS,
        None,
        "for a port that stores what it computes in 16 bits (default: that of the model)",
    ),
    "gradients": (bool, False, "with random cotangents, and all gradients"),
    "from_layout": FROM_LAYOUT,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_checkpoint(parser)
    row, folder = "token ids of one row", "a new or empty folder"
    known = partial(ids, words="")
    parser.add_argument("--ids", required=True, type=known, metavar="LIST", help=row)
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help=folder)
    add_options(parser, OPTIONS)


def run(arguments: argparse.Namespace) -> int:
    """Write the cases, and print the name of each."""
    pretrained = open_language_model(arguments.checkpoint, arguments.from_layout)
    tokens = np.array([arguments.ids], int)
    try:
        pretrained.model.check_input(tokens)
    except IndexError as error:
        raise OptionError(f"--ids: {error}") from error
    _check_sizes(pretrained, tokens.size, gradients=arguments.gradients)
    with new_set("--out", arguments.out) as new:
        dtype = pretrained.dtype if arguments.dtype is None else "float32"
        weights = "stored" if dtype == "float32" else "widened"
        with bar_of("bytes") as progress:
            model = pretrained.load(dtype, progress=progress, weights=weights)
        cases = conformance.trace(model, tokens, arguments.dtype, gradients=arguments.gradients)
        for case in conformance.write_vectors(new, cases):
            tensors = listed(list(case.expected))
            print(f"{case.id}: {case.subject.name}, {tensors}", flush=True)
    print(f"a trace of {tokens.size} {'tokens' if tokens.size > 1 else 'token'} in {arguments.out}")
    return 0


def _check_sizes(pretrained: Pretrained, T: int, *, gradients: bool) -> None:
    """Raise an error before the work if the results of a part would be too large for a file."""
    width = 0  # of x; ids have no gradient
    for name, part in parts(pretrained.model):
        state = leaves("", part.init_state(1)) if hasattr(part, "init_state") else ()
        numbers = T * part.out_features + sum(array.size for _, array in state)
        if gradients:
            numbers += T * (0 if name == "model" else width) + part.num_parameters
        size, width = numbers * np.dtype(pretrained.dtype).itemsize, part.out_features
        if size > MOST_BYTES:
            raise OptionError(
                f"{'--gradients' if gradients else '--ids'}: expected results of at most "
                f"{MOST_BYTES:,} bytes in each part; got {size:,} in {name}"
            )
