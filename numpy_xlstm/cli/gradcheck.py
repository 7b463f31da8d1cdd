"""The command ``numpy-xlstm gradcheck``."""

import argparse
import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm import __version__, suite
from numpy_xlstm.cli.arguments import Option, add_options, check_writable, shape, whole
from numpy_xlstm.cli.display import count_display
from numpy_xlstm.cli.imported import imported_target
from numpy_xlstm.cli.workers import on_all_cores
from numpy_xlstm.errors import OptionError
from numpy_xlstm.gradcheck import Report, gradcheck
from numpy_xlstm.gradcheck.check import METHODS

DESCRIPTION = """\
Check the hand-derived backward of every cell and layer against independent references: the complex
step, central differences with Richardson extrapolation, and the adjoint identity. Every parameter,
every input and every part of the initial state is checked, with random cotangents on every output
and every part of the final state. Without names, everything is checked in less than a minute, on
all cores: each tensor along two random directions, by the complex step and the adjoint identity.
With names or --full, each entry of small tensors is checked, with central differences as a third
method. To check your own layer, give my_module:MyCell, or 'my_module:MyCell(3, 4, rng=rng)', where
rng is the generator of --seed, and dtype is that of --dtype; its parameters that are 0 are replaced
by random numbers. The exit code is 0 only if all checks pass. Ctrl-C ends the command early, with
the results so far."""

# Random directions are enough: a mistake in any entry changes the slope along almost all of them.
QUICK: dict[str, Any] = {"methods": ("complex", "adjoint"), "max_entries": 0, "directions": 2}

OPTIONS: dict[str, Option] = {
    "full": (bool, False, "check everything entry by entry, as with names"),
    "input": ([shape], None, "shape of an input of your own layer, such as 2,5,3"),
    "dtype": (("float64", "float32"), "float64", "dtype of parameters and inputs"),
    "method": ([METHODS], None, "use only this method"),
    "seed": (whole(0), 0, "seed of all random numbers"),
    "json": (Path, None, "write the full reports to a file"),
    "verbose": (bool, False, "show every tensor, not one line per case"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "names",
        nargs="*",
        help="checks, such as slstm, mlstm.step/exp or my_module:MyCell(3, 4) (default: all)",
    )
    add_options(parser, OPTIONS)


def run(arguments: argparse.Namespace) -> int:
    """Run the checks, and print a table and the full reports of failures."""
    available, seed = _chosen(arguments), arguments.seed
    check_writable(arguments.json)
    options = {} if arguments.full or arguments.names else QUICK
    if arguments.method:
        options = options | {"methods": arguments.method}
    reports, started = {}, time.perf_counter()
    with suppress(KeyboardInterrupt), count_display(len(available)) as count:
        line = _table(available, options.get("methods", METHODS), arguments.dtype)
        check = partial(_report, seed, arguments.dtype, options)
        reported: AbstractContextManager[Iterator[Report]] = on_all_cores(check, list(available))
        if arguments.names:
            reported = nullcontext(map(check, available.values()))
        with reported as checked:
            for name, report in zip(available, checked, strict=True):
                reports[name] = report
                print(line(name, report), flush=True)
                count()
    for name, report in reports.items():
        if arguments.verbose or not report.passed:
            print(f"\n{name}\n{report}")
    done, failed = len(reports) == len(available), sum(not r.passed for r in reports.values())
    verdict = f"{failed} of {len(reports)} did not pass" if failed else f"all {len(reports)} passed"
    if not done:
        print(f"{len(reports)} of {len(available)} checked, interrupted")
    if done or failed:
        print(f"{verdict} in {time.perf_counter() - started:.1f} s, seed {seed}")
    if arguments.json is not None:
        dicts = {name: report.to_dict() for name, report in reports.items()}
        result = {"version": __version__, "dtype": arguments.dtype, "passed": done and not failed}
        text = json.dumps(result | {"reports": dicts}, indent=1, ensure_ascii=False)
        arguments.json.write_text(text, encoding="utf-8")
    return 1 if failed else 0 if done else 130


def _report(seed: int, dtype: str, options: dict[str, Any], case: suite.Case | str) -> Report:
    if isinstance(case, str):
        case = suite.cases()[case]
    target, inputs = case(np.random.default_rng(seed), np.dtype(dtype))
    return gradcheck(target, *inputs, rng=seed, **options)


def _table(
    names: Collection[str], methods: Sequence[str], dtype: str
) -> Callable[[str, Report], str]:
    """Print the head of the table, and return a function that makes a line."""
    width = max(map(len, names))

    def joined(name: str, cells: Iterable[str], status: str) -> str:
        numbers = " ".join(f"{cell:>10}" for cell in cells)
        return f"{name:{width}} {numbers}  {status}"

    def line(name: str, report: Report) -> str:
        tried = {row.method for row in report.rows}
        cells = (f"{report.error(m):.1e}" if m in tried else "-" for m in methods)
        troubled = report.failures or report.undecided
        return joined(name, cells, troubled[0].status if troubled else "ok")

    checks = "1 check" if len(names) == 1 else f"{len(names)} checks"
    print(f"{checks}, {dtype}\nlargest relative error of any tensor")
    print(joined("checked", methods, "status"), flush=True)
    return line


def _chosen(arguments: argparse.Namespace) -> dict[str, suite.Case]:
    """Return the selected cases: the user's own, named with a colon, and those of the suite."""
    shapes, dtype = arguments.input or [], np.dtype(arguments.dtype)
    chosen: dict[str, suite.Case] = {}
    for name in (name for name in arguments.names if ":" in name):
        rng = np.random.default_rng(arguments.seed)
        chosen[name] = _ready(imported_target(name, shapes, rng, dtype))
    if shapes and not chosen:
        raise OptionError("--input: expected a layer of your own, such as my_module:MyCell")
    ours = [name for name in arguments.names if ":" not in name]
    if ours or not chosen:
        available = suite.cases()
        chosen |= {name: available[name] for name in suite.select(ours, available)}
    return chosen


def _ready(target: suite.Target) -> suite.Case:
    return lambda rng, dtype: target
