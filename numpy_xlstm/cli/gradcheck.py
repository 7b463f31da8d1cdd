"""The command ``numpy-xlstm gradcheck``."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm import __version__, suite
from numpy_xlstm.cli.options import whole
from numpy_xlstm.gradcheck import Report, gradcheck
from numpy_xlstm.gradcheck.check import METHODS

DESCRIPTION = """\
Check the hand-derived backward pass of every cell and layer against references that know nothing of
it: the complex step, central differences with Richardson extrapolation, and the adjoint identity.
Every parameter, every input and every part of the initial state is checked, under random cotangents
on every output and every part of the final state. The exit code is 0 only if all pass."""


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
    """Run the checks and print a table."""
    available = suite.cases()
    names = suite.select(arguments.names, available)
    if arguments.json is not None:
        _check_writable(arguments.json)
    methods = arguments.method or METHODS
    reports, started = {}, time.perf_counter()
    for name in names:
        rng = np.random.default_rng(arguments.seed)
        target, inputs = available[name](rng, np.dtype(arguments.dtype))
        reports[name] = gradcheck(target, *inputs, rng=arguments.seed, methods=methods)
    passed = all(report.passed for report in reports.values())
    _show(reports, methods, arguments, time.perf_counter() - started)
    if arguments.json is not None:
        found = {name: report.to_dict() for name, report in reports.items()}
        result = {"version": __version__, "dtype": arguments.dtype, "passed": passed}
        text = json.dumps(result | {"reports": found}, indent=1, ensure_ascii=False)
        arguments.json.write_text(text, encoding="utf-8")
    return 0 if passed else 1


def _check_writable(file: Path) -> None:
    """Raise an error now, not after all the work, if the file cannot be written."""
    if not file.absolute().parent.is_dir():
        raise FileNotFoundError(f"--json: expected an existing folder; got {file}")
    if file.is_dir():
        raise IsADirectoryError(f"--json: expected a file; got the folder {file}")
    file.open("a", encoding="utf-8").close()


def _show(
    reports: dict[str, Report], methods: Any, arguments: argparse.Namespace, seconds: float
) -> None:
    """Print a table, and all that is known of what did not pass."""
    width = max(map(len, reports))
    print(f"gradcheck, {arguments.dtype}: largest relative error of any tensor")
    print("checked".ljust(width), *(f"{method:>10}" for method in methods), " status")
    for name, report in reports.items():
        errors = (f"{report.error(method):10.1e}" for method in methods)
        troubled = report.failures or report.undecided
        print(name.ljust(width), *errors, f" {troubled[0].status if troubled else 'ok'}")
    for name, report in reports.items():
        if arguments.verbose or not report.passed:
            print(f"\n{name}\n{report}")
    failed = sum(not report.passed for report in reports.values())
    verdict = f"{failed} of {len(reports)} did not pass" if failed else f"all {len(reports)} passed"
    print(f"{verdict} in {seconds:.1f} s, seed {arguments.seed}")
