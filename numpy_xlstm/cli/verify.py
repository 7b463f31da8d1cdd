"""The command ``numpy-xlstm verify``."""

import argparse
import signal
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from numpy_xlstm import conformance
from numpy_xlstm.cli.arguments import check_writable, real
from numpy_xlstm.cli.display import count_display
from numpy_xlstm.cli.vectors import add_selection
from numpy_xlstm.conformance import Case, Report, Subject
from numpy_xlstm.conformance.bounds import SIXTEEN_BITS
from numpy_xlstm.conformance.files import check_written
from numpy_xlstm.conformance.programs import unmatched
from numpy_xlstm.errors import OptionError
from numpy_xlstm.numerics.arrays import did_you_mean

DESCRIPTION = """\
Check a port against cases of the conformance kit: those in a folder written by 'numpy-xlstm
vectors', or the small set in the package. Give a folder with the port's results, a file
ID.safetensors for each case; or, with --run, a program that is run once for each case and
writes them. The exit code is 0 only if all results are right, and 3 if only gradients are missing,
in a case all of them; with --forward, gradients are not checked, and the exit code is then 0."""

FORWARD_ALONE_IS_RIGHT = 3
"""Exit code if nothing is wrong, but gradients are missing that were not waived."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("results", type=Path, nargs="?", help="the folder of the results")
    parser.add_argument(
        "--run", metavar="COMMAND", dest="program", help="run for each case: './my_port {in} {out}'"
    )
    folder = parser.add_mutually_exclusive_group()
    folder.add_argument(
        "--vectors",
        type=Path,
        default=conformance.SMALL,
        metavar="DIR",
        help="folder of the cases (default: the small set in the package)",
    )
    folder.add_argument(
        "--trace",
        type=Path,
        metavar="DIR",
        help="folder of 'numpy-xlstm trace': say in which part of its model the port departs first",
    )
    add_selection(parser)
    parser.add_argument(
        "--case",
        action="append",
        metavar="ID",
        help="one case, by its name in the report; may be repeated (default: all)",
    )
    parser.add_argument(
        "--forward",
        action="store_true",
        help="check the forward alone: gradients need not be there, and are ignored if they are",
    )
    for option, what in (("--skip", "are not run"), ("--expect-fail", "must fail")):
        parser.add_argument(
            option,
            action="append",
            default=[],
            metavar="NAME",
            help=f"cases that {what}: a flag, an option such as forget_gate=exp, a subject, a "
            "family or an id; may be repeated",
        )
    parser.add_argument(
        "--timeout",
        type=real(0, exclusive=True),
        default=10.0,
        metavar="SECONDS",
        help="time limit of the program for a case (default: 10)",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the report to FILE")
    parser.add_argument("--junit", metavar="FILE", type=Path, help="write JUnit XML to FILE")
    parser.add_argument("--verbose", action="store_true", help="show every tensor of every case")


def run(arguments: argparse.Namespace) -> int:
    """Check the port, and print a table of failures."""
    if (arguments.results is None) == (arguments.program is None):
        asked = "a folder of results, or --run and a program"
        got = "neither" if arguments.results is None else "both"
        raise OptionError(f"verify: expected {asked}; got {got}")
    check_writable(arguments.json)
    check_writable(arguments.junit)
    if arguments.trace is not None:
        arguments.vectors = arguments.trace
        check_written("--trace", arguments.trace, "trace")
        every = conformance.read_trace(arguments.trace)
    else:
        check_written("--vectors", arguments.vectors, "vectors")
        every = conformance.read_vectors(arguments.vectors)
    report = _report(arguments, every, _chosen(arguments, every))
    for line in report.lines(verbose=arguments.verbose):
        print(line)
    if arguments.json is not None:
        arguments.json.write_text(report.to_json(), encoding="utf-8")
    if arguments.junit is not None:
        arguments.junit.write_text(report.to_junit(), encoding="utf-8")
    if report.passed:
        return 0
    return FORWARD_ALONE_IS_RIGHT if report.outcome == "forward only" else 1


def _chosen(arguments: argparse.Namespace, cases: list[Case]) -> list[Case]:
    names = _names(case.subject for case in cases)
    for name in arguments.subject or []:
        if name not in names:
            every = _names(conformance.SUBJECTS.values())
            hint = did_you_mean(name, every) if name not in every else ""
            raise OptionError(
                f"--subject: expected one of {', '.join(names)} in {arguments.vectors}; got "
                f"{name!r}{hint}; 'numpy-xlstm vectors DIR --subject NAME' writes others"
            )
    ids = [case.id for case in cases]
    for name in arguments.case or []:
        if name not in ids:
            got = f"{name!r}{did_you_mean(name, ids)}"
            raise OptionError(f"--case: expected a case in {arguments.vectors}; got {got}")
    wanted, called = set(arguments.subject or names), set(arguments.case or ids)
    chosen = [
        case
        for case in cases
        if {case.subject.name, case.subject.family} & wanted
        and arguments.dtype in (None, case.dtype)
        and case.id in called
    ]
    if not chosen:
        parts = [*(arguments.subject or []), arguments.dtype, *(arguments.case or [])]
        asked = " ".join(filter(None, parts)) or "no choice"
        hint = ""
        if arguments.dtype in SIXTEEN_BITS:
            hint = f"; 'numpy-xlstm vectors DIR --dtype {arguments.dtype}' writes such cases"
        raise OptionError(
            f"verify: expected at least one case in {arguments.vectors}; got none for {asked}{hint}"
        )
    return chosen


def _names(subjects: Iterable[Subject]) -> list[str]:
    return sorted({name for subject in subjects for name in (subject.name, subject.family)})


def _report(arguments: argparse.Namespace, every: list[Case], cases: list[Case]) -> Report:
    check = partial(
        conformance.verify,
        cases,
        skip=arguments.skip,
        expect_fail=arguments.expect_fail,
        forward=arguments.forward,
    )
    if arguments.results is not None:
        folder = arguments.results
        if not folder.is_dir():
            got = "is a file" if folder.exists() else "does not exist"
            raise OptionError(f"results: expected a folder; {folder} {got}")
        return replace(check(conformance.from_folder(folder)), unmatched=unmatched(folder, every))
    # so that SIGTERM raises KeyboardInterrupt, which also ends the program of --run
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        port = conformance.from_command(arguments.program, Path(scratch), arguments.timeout)
        with count_display(len(cases)) as count:
            return check(port, progress=lambda verdict: count())
