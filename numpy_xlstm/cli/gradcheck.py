"""The command ``numpy-xlstm gradcheck``."""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm import __version__, suite
from numpy_xlstm.cli.arguments import whole
from numpy_xlstm.cli.display import busy_display
from numpy_xlstm.cli.imported import imported_target
from numpy_xlstm.cli.reports import check_writable, write_report
from numpy_xlstm.errors import OptionError
from numpy_xlstm.gradcheck import gradcheck
from numpy_xlstm.gradcheck.check import METHODS

DESCRIPTION = """\
Check the hand-derived backward of every cell and layer against independent references: the complex
step, central differences with Richardson extrapolation, and the adjoint identity. To check your own
layer, give my_package.my_module:MyCell, or 'my_module:MyCell(3, 4)'; its zero parameters are
replaced by random numbers. Every parameter, every input and every part of the initial state is
checked, with random cotangents on every output and every part of the final state. The exit code is
0 only if all checks pass. Ctrl-C ends the command early, with the results so far."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "names",
        nargs="*",
        help="checks, such as sLSTM, mLSTM/exp-exp or my_module:MyCell(3, 4) (default: all)",
    )
    parser.add_argument(
        "--input",
        type=_shape,
        action="append",
        metavar="SHAPE",
        help="shape of an input of your own layer, such as 2,5,3; may be repeated",
    )
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument(
        "--method", choices=METHODS, action="append", help="may be repeated (default: all three)"
    )
    parser.add_argument("--seed", type=whole(0), default=0, metavar="N", help="(default: 0)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the full reports to FILE")
    parser.add_argument(
        "--verbose", action="store_true", help="show every tensor, not one line per case"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the checks, and print a table and the full reports of failures."""
    available, seed = _chosen(arguments), arguments.seed
    check_writable("--json", arguments.json)
    methods, width = arguments.method or METHODS, max(map(len, available))
    print(f"gradcheck, {arguments.dtype}: largest relative error of any tensor")
    print("checked".ljust(width), *(f"{method:>10}" for method in methods), " status")
    reports, started = {}, time.perf_counter()
    try:
        for number, (name, case) in enumerate(available.items(), 1):
            target, inputs = case(np.random.default_rng(seed), np.dtype(arguments.dtype))
            with busy_display(f"{name}, {number} of {len(available)}"):
                report = reports[name] = gradcheck(target, *inputs, rng=seed, methods=methods)
            print(name.ljust(width), *_row(report, methods), flush=True)
    except KeyboardInterrupt:
        print(f"interrupted after {len(reports)} of {len(available)}")
    for name, report in reports.items():
        if arguments.verbose or not report.passed:
            print(f"\n{name}\n{report}")
    failed = sum(not report.passed for report in reports.values())
    verdict = f"{failed} of {len(reports)} did not pass" if failed else f"all {len(reports)} passed"
    print(f"{verdict} in {time.perf_counter() - started:.1f} s, seed {seed}")
    done = len(reports) == len(available)
    if arguments.json is not None:
        found = {name: report.to_dict() for name, report in reports.items()}
        result = {"version": __version__, "dtype": arguments.dtype, "passed": done and not failed}
        text = json.dumps(result | {"reports": found}, indent=1, ensure_ascii=False)
        write_report(arguments.json, text)
    return 1 if failed else 0 if done else 130


def _row(report: Any, methods: Sequence[str]) -> Iterator[str]:
    """Yield the cells of a case in the table."""
    tried = {row.method for row in report.rows}
    yield from (f"{report.error(m):10.1e}" if m in tried else f"{'-':>10}" for m in methods)
    troubled = report.failures or report.undecided
    yield f" {troubled[0].status if troubled else 'ok'}"


def _chosen(arguments: argparse.Namespace) -> dict[str, suite.Case]:
    """Return the selected cases: the user's own, named with a colon, and those of the suite."""
    shapes, dtype = arguments.input or [], np.dtype(arguments.dtype)
    found: dict[str, suite.Case] = {}
    for name in (name for name in arguments.names if ":" in name):
        rng = np.random.default_rng(arguments.seed)
        found[name] = _ready(imported_target(name, shapes, rng, dtype))
    if shapes and not found:
        raise OptionError("--input: expected a layer of your own, such as my_module:MyCell")
    ours = [name for name in arguments.names if ":" not in name]
    if ours or not found:
        available = suite.cases()
        found |= {name: available[name] for name in suite.select(ours, available)}
    return found


def _ready(target: suite.Target) -> suite.Case:
    return lambda rng, dtype: target


def _shape(text: str) -> tuple[int, ...]:
    sizes = text.split(",")
    if not all(size.strip().isdigit() for size in sizes):
        raise argparse.ArgumentTypeError(f"expected sizes, such as 2,5,3; got {text!r}")
    return tuple(map(int, sizes))
