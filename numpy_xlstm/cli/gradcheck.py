"""The command ``numpy-xlstm gradcheck``."""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm import __version__, suite
from numpy_xlstm.cli.display import busy_display
from numpy_xlstm.cli.options import whole
from numpy_xlstm.disk import write_text
from numpy_xlstm.gradcheck import gradcheck
from numpy_xlstm.gradcheck.check import METHODS

DESCRIPTION = """\
Check the hand-derived backward pass of every cell and layer against references that know nothing of
it: the complex step, central differences with Richardson extrapolation, and the adjoint identity.
Every parameter, every input and every part of the initial state is checked, under random cotangents
on every output and every part of the final state. The exit code is 0 only if all pass. Ctrl-C ends
it early, and still shows what has been found."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "names", nargs="*", help="what to check, such as sLSTM or mLSTM/exp-exp (default: all)"
    )
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument(
        "--method", choices=METHODS, action="append", help="may be repeated (default: all three)"
    )
    parser.add_argument("--seed", type=whole(0), default=0, metavar="N", help="(default: 0)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the full reports there")
    parser.add_argument(
        "--verbose", action="store_true", help="show every tensor, not one line per case"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the checks, and print a table and all that is known of what did not pass."""
    available, seed = suite.cases(), arguments.seed
    names = suite.select(arguments.names, available)
    if arguments.json is not None:
        _check_writable(arguments.json)
    methods, width = arguments.method or METHODS, max(map(len, names))
    print(f"gradcheck, {arguments.dtype}: largest relative error of any tensor")
    print("checked".ljust(width), *(f"{method:>10}" for method in methods), " status")
    reports, started = {}, time.perf_counter()
    try:
        for number, name in enumerate(names, 1):
            target, inputs = available[name](np.random.default_rng(seed), np.dtype(arguments.dtype))
            with busy_display(f"{name}, {number} of {len(names)}"):
                report = reports[name] = gradcheck(target, *inputs, rng=seed, methods=methods)
            print(name.ljust(width), *_row(report, methods), flush=True)
    except KeyboardInterrupt:
        print(f"interrupted after {len(reports)} of {len(names)}")
    for name, report in reports.items():
        if arguments.verbose or not report.passed:
            print(f"\n{name}\n{report}")
    failed = sum(not report.passed for report in reports.values())
    verdict = f"{failed} of {len(reports)} did not pass" if failed else f"all {len(reports)} passed"
    print(f"{verdict} in {time.perf_counter() - started:.1f} s, seed {seed}")
    done = len(reports) == len(names)
    if arguments.json is not None:
        found = {name: report.to_dict() for name, report in reports.items()}
        result = {"version": __version__, "dtype": arguments.dtype, "passed": done and not failed}
        text = json.dumps(result | {"reports": found}, indent=1, ensure_ascii=False)
        write_text(arguments.json, text)
    return 1 if failed else 0 if done else 130


def _row(report: Any, methods: Sequence[str]) -> Iterator[str]:
    """What the table says of a case."""
    yield from (f"{report.error(method):10.1e}" for method in methods)
    troubled = report.failures or report.undecided
    yield f" {troubled[0].status if troubled else 'ok'}"


def _check_writable(file: Path) -> None:
    """Raise an error now, not after all the work, if the file cannot be written."""
    if not file.absolute().parent.is_dir():
        raise FileNotFoundError(f"--json: expected an existing folder; got {file}")
    if file.is_dir():
        raise IsADirectoryError(f"--json: expected a file; got the folder {file}")
    file.open("a", encoding="utf-8").close()
