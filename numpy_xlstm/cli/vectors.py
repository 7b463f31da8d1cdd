"""The command ``numpy-xlstm vectors``."""

import argparse
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from numpy_xlstm import conformance
from numpy_xlstm.cli.arguments import Option, add_options, whole
from numpy_xlstm.conformance.case import DTYPES
from numpy_xlstm.disk import new_folder
from numpy_xlstm.errors import OptionError

DESCRIPTION = """\
Write the cases of the conformance kit: inputs, parameters, states and cotangents, all results and
all gradients, and for each of their numbers a bound on its error. A port reads
inputs/ID.safetensors and writes its results, and 'numpy-xlstm verify' compares them with
results/ID.safetensors. The folder's README.md describes the format for programs in any language."""

OPTIONS: dict[str, Option] = {
    "small": (bool, False, "the small set of the package, less than 1 MB"),
    "subject": (["NAME"], None, "a subject, such as slstm or slstm.sequence (default: all)"),
    "dtype": (DTYPES, None, "(default: float64 and float32)"),
    "seed": (whole(0), 0, "seed of all random numbers"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new or empty folder")
    add_options(parser, OPTIONS)


def run(arguments: argparse.Namespace) -> int:
    """Write the cases, and print their number."""
    folder, seed = arguments.folder, arguments.seed
    if arguments.small and seed:
        raise OptionError(f"--small: expected no --seed, as the small set is of seed 0; got {seed}")
    chosen = {
        case.id: case
        for subject in arguments.subject or [None]
        for case in conformance.cases(subject, arguments.dtype, seed=seed)
    }
    cases = list(chosen.values())
    if arguments.small:
        stored = conformance.read_vectors(conformance.SMALL)
        if not (cases := [case for case in stored if case.id in chosen]):
            raise OptionError("--small: expected a subject of the small set; it has no such case")
    with new_set("DIR", folder) as new:
        writing = conformance.write_vectors(new, cases, seed=seed)
        for name, group in groupby(writing, key=lambda case: case.subject.name):
            print(f"{name}: {len(list(group))} cases", flush=True)
    print(f"{len(cases)} cases in {folder}, seed {seed}")
    return 0


@contextmanager
def new_set(name: str, folder: Path) -> Iterator[Path]:
    """Give a new folder for cases, which also gets the documents of the format."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OptionError(f"{name}: expected a new or empty folder; got {folder}")
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder) as new:
        yield new
        for document in ("README.md", "manifest.schema.json"):
            shutil.copy(conformance.SMALL.parent / document, new)
