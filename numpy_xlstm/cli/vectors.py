"""The command ``numpy-xlstm vectors``."""

import argparse
from itertools import groupby
from pathlib import Path

from numpy_xlstm import conformance
from numpy_xlstm.cli.arguments import whole
from numpy_xlstm.conformance.case import PRECISIONS, Case
from numpy_xlstm.disk import new_folder
from numpy_xlstm.errors import OptionError

DESCRIPTION = """\
Write the cases of the conformance kit: inputs, parameters, states and cotangents, all results and
all gradients, and a tolerance for each. A port reads inputs/ID.safetensors and writes its results,
and numpy-xlstm verify compares them with results/ID.safetensors."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new or empty folder")
    add_selection(parser)
    parser.add_argument("--seed", type=whole(0), default=0, metavar="N", help="(default: 0)")
    parser.add_argument("--format", choices=("safetensors", "npz"), default="safetensors")


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that select cases."""
    parser.add_argument(
        "--subject",
        action="append",
        metavar="NAME",
        help="a subject, such as slstm or slstm.sequence; may be repeated (default: all)",
    )
    parser.add_argument("--dtype", choices=PRECISIONS, help="(default: both)")


def selected(arguments: argparse.Namespace, seed: int) -> list[Case]:
    """Return the selected cases."""
    found = [
        case
        for subject in arguments.subject or [None]
        for case in conformance.cases(subject, arguments.dtype, seed=seed)
    ]
    return list({case.id: case for case in found}.values())


def run(arguments: argparse.Namespace) -> int:
    """Write the cases, and print their number."""
    folder, cases = arguments.folder, selected(arguments, arguments.seed)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OptionError(f"DIR: expected a new or empty folder; got {folder}")
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder) as new:
        written = conformance.write_vectors(
            new, cases, seed=arguments.seed, format=arguments.format
        )
        for name, group in groupby(written, key=lambda case: case.subject.name):
            print(f"{name}: {len(list(group))} cases", flush=True)
    print(f"{len(cases)} cases in {folder}, seed {arguments.seed}")
    return 0
