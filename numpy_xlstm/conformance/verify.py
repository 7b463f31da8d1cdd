"""Verification of ports: a report with a row for each tensor, and a diagnosis."""

import json
import math
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from numpy_xlstm.conformance.case import PRECISIONS, Case
from numpy_xlstm.conformance.case_data import Content
from numpy_xlstm.conformance.compare import Row, compare, departures, listed, table
from numpy_xlstm.conformance.diagnosis import diagnose
from numpy_xlstm.conformance.evidence import hidden
from numpy_xlstm.conformance.files import VERSION
from numpy_xlstm.conformance.subjects import Part, copied
from numpy_xlstm.errors import OptionError, printable
from numpy_xlstm.numerics import Array, did_you_mean

Port = Callable[[Case], Mapping[str, Any]]
"""Function from a case to the names and arrays of its results."""

UNMATCHED = "expected the id of a case as the name of the file; got another name"
SKIPPED, EXPECTED, FORWARD_ONLY = "skipped", "failed as expected", "forward only"
NO_GRADIENTS = (
    "forward only: nothing is wrong, but there are cases without any gradient; to check the "
    "forward alone, use --forward, or forward=True in Python"
)


class PortError(Exception):
    """A port has no results for a case; the message gives the reason."""


class UnsupportedError(PortError):
    """A port does not have what a case needs; the case is skipped."""


@dataclass(frozen=True)
class Verdict:
    """Outcome of one case."""

    case: Case
    rows: tuple[Row, ...] = ()
    results: Mapping[str, Any] | None = None
    """Results of the port; None if there are none to compare."""
    excused: str = ""
    """SKIPPED or EXPECTED, for a case without rows; FORWARD_ONLY if gradients are not compared."""
    seconds: float = 0.0
    """Time that the port took."""

    @property
    def wrong(self) -> list[Row]:
        """Rows that failed."""
        return [row for row in self.rows if not row.passed]

    @property
    def passed(self) -> bool:
        """Whether tensors were compared, and all are correct."""
        return bool(self.rows) and not self.wrong


@dataclass(frozen=True)
class Report:
    """Result of :func:`verify`, of which ``str`` is a table.

    Attributes
    ----------
    verdicts : tuple[Verdict, ...]
        Outcome of each case.
    unmatched : tuple[str, ...]
        Unmatched files: files of results whose name is not that of a case.
    forward : bool
        Whether only the forward was to be checked.

    Examples
    --------
    >>> from numpy_xlstm import conformance
    >>> cases = conformance.cases("elman.step", "float64")
    >>> print(conformance.verify(cases, lambda case: case.results()))
    elman.step: 7 of 7 cases passed
    """

    verdicts: tuple[Verdict, ...]
    unmatched: tuple[str, ...] = ()
    forward: bool = False

    @property
    def outcome(self) -> str:
        """``"passed"``, ``"forward only"`` or ``"failed"``.

        A report is not failed if cases were run, all passed or are excused, and there are no
        unmatched files. It is then forward only if the gradients of a case were not compared.
        """
        run = any(v.excused != SKIPPED for v in self.verdicts)
        if not run or self.unmatched or any(v.wrong for v in self.verdicts):
            return "failed"
        partly = any(v.excused == FORWARD_ONLY for v in self.verdicts)
        return FORWARD_ONLY if partly else "passed"

    @property
    def passed(self) -> bool:
        """Whether the outcome is passed, or forward only as was asked."""
        return self.outcome == "passed" or (self.forward and self.outcome == FORWARD_ONLY)

    @cached_property
    def diagnosis(self) -> list[str]:
        """Known mistakes of the port, or the results that are wrong, as lines of text.

        Of a trace, the first part in which the port departs. If all is right in 16 bits, the number
        of known mistakes that would be right too.
        """
        if any(isinstance(v.case.subject, Part) for v in self.verdicts):
            return departures([(v.case, v.rows) for v in self.verdicts if v.rows])
        failed = [(v.case, v.results or {}) for v in self.verdicts if v.wrong]
        passed = [v.case for v in self.verdicts if v.passed]
        try:
            return diagnose(failed, passed) if failed else list(hidden(passed))
        except Exception as error:  # such as the vectors of other cases
            return [f"no diagnosis: the search for mistakes failed with {error!r}"]

    def lines(self, *, verbose: bool = False) -> Iterator[str]:
        """Yield the table of failed rows, or of all rows; then counts and the diagnosis.

        The first failed case of a subject has a row for each wrong tensor. Each further failed case
        has a single row with the names of its wrong tensors.
        """
        rows = [row for v in self.verdicts for row in v.rows] if verbose else self._short()
        if rows:
            yield table(rows)
        if not self.verdicts:
            yield "expected at least one case; got none"
        yield from (f"{printable(name)}: {UNMATCHED}" for name in self.unmatched)
        for name in dict.fromkeys(v.case.subject.name for v in self.verdicts):
            every = [v for v in self.verdicts if v.case.subject.name == name]
            compared = [v for v in every if v.rows]
            wrong = {v.case.dtype for v in compared if not v.passed}
            right = {v.case.dtype for v in compared} - wrong
            passed = f"{sum(v.passed for v in compared)} of {len(compared)} cases passed"
            counts = [f"{name}: {passed}"]
            counts += [f"including all {right.pop()} cases"] if right and wrong else []
            excuses = Counter(v.excused for v in every if v.excused)
            counts += [f"{count} {excuse}" for excuse, count in sorted(excuses.items())]
            yield ", ".join(counts)
        if self.outcome == FORWARD_ONLY and not self.forward:
            yield NO_GRADIENTS
        yield from self.diagnosis

    def _short(self) -> list[Row]:
        """Return the failed rows: all of a subject's first failed case, then one for each case."""
        rows: list[Row] = []
        seen: set[str] = set()
        for v in self.verdicts:
            wrong = v.wrong
            if wrong[1:] and v.case.subject.name in seen:
                names = listed([row.tensor for row in wrong], 48)
                note = f"{len(wrong)} of {len(v.rows)} tensors: {names}"
                wrong = [Row(v.case.id, "", max(row.ratio for row in wrong), note)]
            rows += wrong
            if wrong:
                seen.add(v.case.subject.name)
        return rows

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values; ratios that are not finite become strings."""
        cases = []
        for v in self.verdicts:
            rows = [asdict(row) | {"passed": row.passed} for row in v.rows]
            for row in rows:
                row["ratio"] = row["ratio"] if math.isfinite(row["ratio"]) else str(row["ratio"])
            about: dict[str, Any] = {"id": v.case.id, "subject": v.case.subject.name}
            about |= {"flags": list(v.case.flags), "passed": v.passed, "excused": v.excused}
            cases.append(about | {"seconds": v.seconds, "rows": rows})
        return {
            "version": VERSION,
            "passed": self.passed,
            "outcome": self.outcome,
            "diagnosis": self.diagnosis,
            "unmatched": list(self.unmatched),
            "cases": cases,
        }

    def to_json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False)

    def to_junit(self) -> str:
        """Return the report as JUnit XML, with a test for each case."""
        suite = ET.Element("testsuite", name="numpy-xlstm conformance")
        for v in self.verdicts:
            test = ET.SubElement(suite, "testcase", classname=v.case.subject.name, name=v.case.id)
            test.set("time", f"{v.seconds:.3f}")
            if v.excused and not v.wrong and not (self.forward and v.excused == FORWARD_ONLY):
                ET.SubElement(test, "skipped", message=v.excused)
            if v.wrong:
                failure = ET.SubElement(test, "failure", message=printable(v.wrong[0].note))
                failure.text = table(v.wrong)
        for name in map(printable, self.unmatched):
            test = ET.SubElement(suite, "testcase", classname="unmatched", name=name)
            ET.SubElement(test, "failure", message=UNMATCHED)
        for name, kind in (("tests", ""), ("failures", "/failure"), ("skipped", "/skipped")):
            suite.set(name, str(len(suite.findall(f"testcase{kind}"))))
        suite.set("time", f"{sum(v.seconds for v in self.verdicts):.3f}")
        return ET.tostring(suite, encoding="unicode", xml_declaration=True)


def verify(
    cases: Sequence[Case],
    port: Port,
    *,
    skip: Collection[str] = (),
    expect_fail: Collection[str] = (),
    forward: bool = False,
    progress: Callable[[Verdict], object] = lambda verdict: None,
) -> Report:
    """Run a port on cases, and report its errors; an exception is a row of the report.

    Parameters
    ----------
    cases : Sequence[Case]
        Cases from :func:`cases` or :func:`read_vectors`.
    port : callable
        Function that takes a case and returns a mapping of arrays, its results, which are then
        copied. A port that writes into the inputs of a case fails that case. It raises
        ``UnsupportedError`` to skip a case.
    skip, expect_fail : collection of str
        Names of cases that are not run, and of cases that must fail: a flag (``"padding"``), an
        option (``"forget_gate=exp"``), a subject, a family or an id.
    forward : bool
        Whether to check the forward alone. The port need not return gradients, and any that it
        returns are ignored. Without this, a case in which the port returns no gradient at all is
        checked in the same way, but the report does not pass: its outcome is "forward only".
    progress : Callable[[Verdict], object]
        Function that is called with the verdict on each case as soon as there is one.

    Returns
    -------
    Report
        Report that prints as a table of failures with counts and a diagnosis.

    Examples
    --------
    >>> from numpy_xlstm import conformance
    >>> cases = conformance.cases("elman.step", "float64")
    >>> report = conformance.verify(cases, lambda case: case.results())
    >>> report.passed
    True
    """
    known = sorted({tag for case in cases for tag in case.tags})
    names = [name for name in known if name not in {case.id for case in cases}]
    for kind, wanted in (("skip", skip), ("expect_fail", expect_fail)):
        for name in wanted:
            if name not in known:
                got = f"{name!r}{did_you_mean(name, known)}"
                raise OptionError(f"{kind}: expected an id or one of {', '.join(names)}; got {got}")
    verdicts = []
    for case in cases:
        skipped = Verdict(case, excused=SKIPPED)
        outcome = skipped if case.tags & {*skip} else verdict(case, port, forward=forward)
        if case.tags & {*expect_fail} and outcome.excused != SKIPPED:
            row = Row(case.id, "", math.inf, "expected this case to fail; it passes")
            failed = Verdict(case, excused=EXPECTED, seconds=outcome.seconds)
            outcome = replace(failed, rows=(row,), excused="") if outcome.passed else failed
        verdicts.append(outcome)
        progress(outcome)
    return Report(tuple(verdicts), forward=forward)


def verdict(case: Case, port: Port, *, forward: bool = False) -> Verdict:
    """Run a port on one case, with its own copies of the inputs."""
    given, gradients = case.inputs, case.expected.keys() - case.forward.expected.keys()
    own = case.forward if forward else case
    own = replace(own, content=partial(Content, copied(given), own.expected, own.bounds))
    for array in own.inputs.values():
        array.flags.writeable = True
    results: Mapping[str, Any] = {}
    note, start = "", time.perf_counter()
    try:
        results = port(own)
        if not isinstance(results, Mapping) or not all(isinstance(n, str) for n in results):
            raise PortError(f"expected a mapping of results; got {results!r:.80}")
        results = copied(results)
    except UnsupportedError:
        return Verdict(case, excused=SKIPPED, seconds=time.perf_counter() - start)
    except (Exception, SystemExit) as error:  # whatever a port raises, run the other cases
        note = str(error) if isinstance(error, PortError) else f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - start
    if note := _written(own, given) or " ".join(note.split()) or _other_dtype(case, results):
        return Verdict(case, (Row(case.id, "", math.inf, note),), seconds=seconds)
    results = case.widened(results)
    if not gradients or not (forward or gradients.isdisjoint(results)):
        return Verdict(case, tuple(compare(case, results)), results, seconds=seconds)
    outputs = {name: array for name, array in results.items() if name not in gradients}
    rows = tuple(compare(case.forward, outputs))
    return Verdict(case.forward, rows, outputs, FORWARD_ONLY, seconds)


def _written(case: Case, given: Mapping[str, Array]) -> str:
    """Describe the inputs into which the port has written; empty if there are none."""
    now = {name: np.asarray(case.inputs.get(name)) for name in given}
    written = [name for name, array in given.items() if now[name].tobytes() != array.tobytes()]
    where = f"{', '.join(written)}: copy {'them' if written[1:] else 'it'} first"
    leave = "expected the port to leave its inputs as they are; it writes into "
    return leave + where if written else ""


def _other_dtype(case: Case, results: Mapping[str, Any]) -> str:
    """Describe the dtype that all results have in place of that of the case, or return ""."""
    kinds = {array.dtype.name for array in results.values() if isinstance(array, np.ndarray)}
    how = "compute in the dtype of the case, or select the cases of the other dtype (--dtype)"
    other = kinds and kinds <= {*PRECISIONS}.difference(case.dtypes)
    return f"expected {case.dtype}; got {kinds.pop()} in all results: {how}" if other else ""
