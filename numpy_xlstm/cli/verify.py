"""The command ``numpy-xlstm verify``."""

import argparse
import signal
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

from numpy_xlstm import conformance
from numpy_xlstm.cli.arguments import Option, add_options, check_report, positive, write_report
from numpy_xlstm.cli.display import bar_of
from numpy_xlstm.cli.language_models import load_exactly, open_language_model
from numpy_xlstm.cli.signals import handling
from numpy_xlstm.conformance import Case, Report
from numpy_xlstm.conformance.bounds import SIXTEEN_BITS
from numpy_xlstm.conformance.case import DTYPES
from numpy_xlstm.conformance.files import check_written
from numpy_xlstm.conformance.ports import from_command, from_folder, scratch, unmatched
from numpy_xlstm.conformance.trace import digest
from numpy_xlstm.errors import OptionError
from numpy_xlstm.numerics import did_you_mean

DESCRIPTION = """\
Check a port against cases of the conformance kit: those in a folder written by 'numpy-xlstm
vectors', or the small set in the package. Give a folder with the port's results, a file
ID.safetensors for each case; or, with --run, a program that is run once for each case and
writes them. The exit code is 0 only if all results are right, and 3 if only gradients are missing,
in a case all of them; with --forward, gradients are not checked, and the exit code is then 0."""

NAMES = "a flag, an option such as forget_gate=exp, a subject, a family or an id"
SOURCES: dict[str, Option] = {
    "vectors": (Path, None, "folder of the cases (default: the small set in the package)"),
    "trace": (Path, None, "folder of 'numpy-xlstm trace', to find the part where a port departs"),
}
OPTIONS: dict[str, Option] = {
    "checkpoint": (Path, None, "that of the port, which must be that of the trace"),
    "subject": (["NAME"], None, f"cases that are run: {NAMES} (default: all)"),
    "dtype": (DTYPES, None, "cases of this dtype (default: all)"),
    "forward": (bool, False, "check the forward alone, and ignore gradients"),
    "skip": (["NAME"], None, "cases that are not run, named like those of --subject"),
    "expect_fail": (["NAME"], None, "cases that must fail, named like those of --subject"),
    "timeout": (positive, 10.0, "time limit of the program for a case, in seconds"),
    "json": (Path, None, "write the report to a file"),
    "junit": (Path, None, "write the report as JUnit XML to a file"),
    "verbose": (bool, False, "show every tensor of every case"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("results", type=Path, nargs="?", help="the folder of the results")
    parser.add_argument(
        "--run", metavar="COMMAND", dest="program", help="run for each case: './my_port {in} {out}'"
    )
    folder = parser.add_mutually_exclusive_group()
    add_options(folder, SOURCES)
    add_options(parser, OPTIONS)


def run(arguments: argparse.Namespace) -> int:
    """Check the port, and print a table of failures."""
    if (arguments.results is None) == (arguments.program is None):
        asked = "a folder of results, or --run and a program"
        got = "neither" if arguments.results is None else "both"
        raise OptionError(f"verify: expected {asked}; got {got}")
    if arguments.checkpoint is not None and arguments.trace is None:
        raise OptionError("--checkpoint: expected the --trace to compare it with; got none")
    check_report(arguments.json)
    check_report(arguments.junit)
    if arguments.trace is not None:
        folder = arguments.trace
        check_written("--trace", folder, "trace")
        every = conformance.read_trace(folder)
        if arguments.checkpoint is not None:
            _check_same(every[0], arguments.checkpoint)
    else:
        folder = arguments.vectors or conformance.SMALL
        check_written("--vectors", folder, "vectors")
        every = conformance.read_vectors(folder)
    report = _report(arguments, every, _chosen(arguments, folder, every))
    for line in report.lines(verbose=arguments.verbose):
        print(line)
    if arguments.json is not None:
        write_report(arguments.json, report.to_json())
    if arguments.junit is not None:
        write_report(arguments.junit, report.to_junit())
    if report.passed:
        return 0
    return 3 if report.outcome == "forward only" else 1


def _check_same(case: Case, path: Path) -> None:
    """Raise :class:`OptionError` unless a checkpoint has the parameters that were traced."""
    expected, got = case.options.get("checkpoint"), digest(load_exactly(open_language_model(path)))
    if got != expected:
        raise OptionError(
            f"--checkpoint: expected the parameters of the trace, whose digest is {expected}; "
            f"got {got} in {path}"
        )


def _chosen(arguments: argparse.Namespace, folder: Path, cases: list[Case]) -> list[Case]:
    names = sorted({name for case in cases for name in case.tags})
    for name in arguments.subject or []:
        if name not in names:
            subjects = [subject.name for subject in conformance.SUBJECTS.values()]
            hint = "" if name in subjects else did_you_mean(name, [*names, *subjects])
            raise OptionError(
                f"--subject: expected the name of cases in {folder}; got {name!r}{hint}; "
                "'numpy-xlstm vectors DIR --subject NAME' writes others"
            )
    wanted = set(arguments.subject or names)
    dtypes = DTYPES if arguments.dtype is None else (arguments.dtype,)
    chosen = [case for case in cases if case.tags & wanted and case.dtype in dtypes]
    if not chosen:
        asked = " ".join(filter(None, [*(arguments.subject or []), arguments.dtype]))
        hint = ""
        if arguments.dtype in SIXTEEN_BITS:
            hint = f"; 'numpy-xlstm vectors DIR --dtype {arguments.dtype}' writes such cases"
        raise OptionError(
            f"verify: expected at least one case in {folder}; got none for {asked}{hint}"
        )
    return chosen


def _report(arguments: argparse.Namespace, every: list[Case], cases: list[Case]) -> Report:
    check = partial(
        conformance.verify,
        cases,
        skip=arguments.skip or (),
        expect_fail=arguments.expect_fail or (),
        forward=arguments.forward,
    )
    if arguments.results is not None:
        folder = arguments.results
        if not folder.is_dir():
            got = "is a file" if folder.exists() else "does not exist"
            raise OptionError(f"results: expected a folder; {folder} {got}")
        return replace(check(from_folder(folder)), unmatched=unmatched(folder, every))
    with ExitStack() as stack:
        # so that they raise KeyboardInterrupt, which also ends the program of --run
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP, and nohup ignores it
            if number and signal.getsignal(number) is not signal.SIG_IGN:
                stack.enter_context(handling(number, signal.default_int_handler))
        folder = stack.enter_context(scratch())
        port = from_command(arguments.program, folder, arguments.timeout)
        with bar_of("cases") as show:
            done = count(1)
            return check(port, progress=lambda verdict: show(next(done), len(cases)))
