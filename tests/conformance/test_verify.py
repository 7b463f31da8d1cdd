"""Wrong results are rows of the report, and all other cases are run."""

import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.conformance import (
    SUBJECTS,
    Case,
    PortError,
    Report,
    UnsupportedError,
    compare,
    from_layer,
    verify,
)
from numpy_xlstm.conformance.bounds import in_dtype
from numpy_xlstm.conformance.bugs import results
from numpy_xlstm.conformance.case_data import Content
from numpy_xlstm.conformance.compare import Row, listed
from numpy_xlstm.conformance.compare import table as report_table
from numpy_xlstm.conformance.contrast import SEVEN_DIGITS
from numpy_xlstm.conformance.files import header, write_tensors
from numpy_xlstm.conformance.ports import from_folder
from numpy_xlstm.conformance.verify import NO_GRADIENTS
from numpy_xlstm.errors import OptionError, ShapeError
from numpy_xlstm.numerics import Arrays
from tests.conformance.shared import cases, mistake
from tests.conformance.small_set import CASE, CASES, write


def changed(tensors: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the failed rows of correct results with other tensors; None removes one."""
    results = {n: a for n, a in {**CASE.expected, **tensors}.items() if a is not None}
    return [(row.tensor, row.note) for row in compare(CASE, results) if not row.passed]


KIND = "expected float32 (3, 7, 5); got "


DX = CASE.expected["dx"]


@pytest.mark.parametrize(
    ("tensors", "rows"),
    [
        ({}, []),
        ({"dx": None}, [("dx", f"{KIND}none")]),
        ({"dz": DX}, [("dz", "expected no tensor of this name")]),
        ({"dx": DX.astype(np.float64)}, [("dx", f"{KIND}float64 (3, 7, 5)")]),
        ({"dx": DX[:, :6]}, [("dx", f"{KIND}float32 (3, 6, 5)")]),
        ({"dx": DX.tolist()}, [("dx", f"{KIND}list")]),
        ({"dx": np.ma.masked_array(DX)}, [("dx", f"{KIND}MaskedArray")]),
    ],
)
def test_a_result_of_another_kind(tensors: dict[str, Any], rows: list[tuple[str, str]]) -> None:
    assert changed(tensors) == rows


def test_a_number_of_numpy_is_an_array_without_axes() -> None:
    case = cases("layer.cross-entropy", "float32")[0]
    assert verify([case], lambda case: {**case.results(), "y": case.expected["y"][()]}).passed


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none(value: float) -> None:
    R = CASE.expected["grads.R"].copy()
    R[1, 9, 2] = value
    ((name, note),) = changed({"grads.R": R})
    place = "first [1, 9, 2] (head 1, gate z, unit 1, from 2)"
    assert (name, note.split(":")[0]) == ("grads.R", f"1 of 128 entries; {place}")
    assert note.endswith(f"got {value}")


def test_minus_infinity_is_equal_to_itself_alone() -> None:
    case = next(c for c in cases("slstm.sequence", "float32") if "no-step-no-state" in c.id)
    assert np.isneginf(case.expected["final.m"]).all()
    case.check(case.expected)
    with pytest.raises(AssertionError, match=r"final\.m +inf +24 of 24 entries; .* got 0"):
        case.check({**case.expected, "final.m": np.zeros((3, 8), np.float32)})
    with pytest.raises(ShapeError, match="results: expected a mapping of arrays; got NoneType"):
        case.check(None)  # type: ignore[arg-type]


def test_the_entries_that_are_wrong_have_a_gate_in_common() -> None:
    W = CASE.expected["grads.W"].copy()
    W[8:16] *= 1.01
    ((_, note),) = changed({"grads.W": W})
    assert note.startswith("40 of 160 entries, all in gate f; first [8, 0] (gate f, head 0, unit 0")


def test_two_numbers_are_seen_to_differ() -> None:
    case = next(case for case in CASES if case.id == "slstm.sequence.sigmoid.lengths.float64")
    y = case.expected["y"] * (1 + 1e-11)
    (row,) = (row for row in compare(case, {**case.expected, "y": y}) if not row.passed)
    expected, got = row.note.split("expected ")[1].split("; got ")
    assert expected != got
    assert float(got) == y[y != case.expected["y"]][0]


def test_one_case_of_a_subject_is_shown_tensor_by_tensor() -> None:
    def port(case: Case) -> Arrays:
        return {name: a if name == "y" else a + 1 for name, a in case.results().items()}

    chosen = cases("elman.step")
    report = verify(chosen, port)
    lines = [line.split() for line in str(report).splitlines()]
    first, second = ([words[1:] for words in lines if words[0] == c.id] for c in chosen[:2])
    wrong = ["final.h", "dx", "dstate0.h", "grads.W", "grads.R", "grads.b"]
    assert [words[0] for words in first] == wrong
    ((_, *note),) = second
    assert " ".join(note) == f"6 of 7 tensors: {', '.join(wrong[:5])} … and 1 more"
    rows = Row("a", "x" * 70, 1.0, "long"), Row("a", "y", 1.0, "short")
    assert len(report_table([*rows]).splitlines()[2]) < 60
    (table, *_) = report.lines(verbose=True)
    assert table.count("entries; first") == len(wrong) * len(chosen)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"dx", "grads.W"}, "the forward is right; in the backward, dx, grads.W are wrong"),
        ({"y", "dx"}, "y is wrong"),
    ],
)
def test_what_is_right_where_no_mistake_is_known(
    wrong: set[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("numpy_xlstm.conformance.diagnosis.RUNS", 5)

    def port(case: Case) -> Arrays:
        return {n: a * (1.01 if n in wrong else 1) for n, a in case.results().items()}

    chosen = cases("lstm.step", "float64")[:3]
    line = f"lstm.step: no known mistake gives these numbers\n    {said}"
    (found,) = verify(chosen, port).diagnosis
    assert found.startswith(line)
    with pytest.raises(AssertionError, match=line):
        chosen[0].check(port(chosen[0]))


def test_nothing_is_said_of_a_subject_beside_what_is_known_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("numpy_xlstm.conformance.diagnosis.RUNS", 5)

    def port(case: Case) -> Arrays:
        if case.subject.name == "elman.step":
            raise ValueError
        return {n: a if n != "dx" else a + 1 for n, a in case.results().items()}

    chosen = [cases(name, "float64")[0] for name in ("gru.step", "elman.step", "lstm.step")]
    subjects = [line.split(":")[0] for line in verify(chosen, port).diagnosis]
    assert subjects == ["gru.step", "lstm.step"]


def test_no_name_is_cut() -> None:
    names = ["final.C", "final.n", "grads.W_q"]
    whole = ", ".join(names)
    assert listed(names, len(whole)) == whole
    assert listed(names, len(whole) - 1) == "final.C, final.n … and 1 more"
    assert listed(names, 1) == "final.C … and 2 more"


def narrow(case: Case) -> Arrays:
    """A port that computes in float32 for all inputs."""
    content = Content(in_dtype(case.inputs, np.float32), case.expected, case.bounds)
    return in_dtype(results(replace(case, content=lambda: content)), case.dtype)


@pytest.mark.parametrize("dtype", [None, "float64"])
@pytest.mark.parametrize("subject", ["lstm.step", "slstm.step"])
def test_float32_in_float64_is_named(subject: str, dtype: str | None) -> None:
    assert verify(cases(subject, dtype), narrow).diagnosis == [f"{subject}: {SEVEN_DIGITS}"]


def test_what_else_is_wrong_is_not_taken_for_float32() -> None:
    chosen = cases("lstm.step")

    def six_digits(case: Case) -> Arrays:
        wide = case.dtype == "float64"
        return {n: a * (1 + 1e-4 * wide) for n, a in case.expected.items()}

    (line,) = verify(chosen, six_digits).diagnosis
    assert "no known mistake gives these numbers" in line


def test_a_folder(tmp_path: Path) -> None:
    for case in CASES[2:]:
        write(tmp_path, case)
    write(tmp_path, CASES[0]).write_bytes(b"half a file")
    report = verify(CASES, from_folder(tmp_path))
    failed = [(v.case.id, v.rows[0].note) for v in report.verdicts if not v.passed]
    assert [name for name, _ in failed] == [CASES[0].id, CASES[1].id]
    assert failed[0][1].startswith("no results: ")
    assert failed[1][1] == f"expected {CASES[1].id}.safetensors; got no such file"


def test_results_of_another_version(tmp_path: Path) -> None:
    write_tensors(tmp_path / f"{CASE.id}.safetensors", CASE.expected, {"version": "2020.01"})
    (verdict,) = verify([CASE], from_folder(tmp_path)).verdicts
    assert verdict.rows[0].note.endswith("; got '2020.01'")


def test_results_with_the_header_of_the_inputs(tmp_path: Path) -> None:
    write_tensors(tmp_path / f"{CASE.id}.safetensors", CASE.expected, header(CASE))
    assert verify([CASE], from_folder(tmp_path)).passed


@pytest.mark.parametrize(
    ("error", "note"),
    [
        (ZeroDivisionError("of\nmine"), "ZeroDivisionError: of mine"),
        (SystemExit(0), "SystemExit: 0"),
        (PortError("skipped"), "skipped"),
    ],
)
def test_a_port_that_raises(error: BaseException, note: str) -> None:
    def port(case: Case) -> Arrays:
        if case.id == CASES[0].id:
            raise error
        return case.expected

    report = verify(CASES[:3], port)
    assert [v.passed for v in report.verdicts] == [False, True, True]
    assert report.verdicts[0].rows[0].note == note


@pytest.mark.parametrize("answer", [None, 3, {1: 2}, [CASE.expected]])
def test_a_port_that_returns_no_results(answer: Any) -> None:
    report = verify(CASES[:2], lambda case: case.expected if case.id == CASES[1].id else answer)
    assert [v.passed for v in report.verdicts] == [False, True]
    note = report.verdicts[0].rows[0].note
    assert note.startswith(f"expected a mapping of results; got {answer!r:.9}")
    assert str(report)


def test_no_case_is_no_success() -> None:
    report = verify([], lambda case: case.results())
    assert not report.passed
    assert str(report) == "expected at least one case; got none"


@pytest.mark.parametrize("number", [0.0, np.nan, 0.5])
def test_a_port_that_computes_nothing_has_made_no_known_mistake(number: float) -> None:
    def nothing(case: Case) -> Arrays:
        return {name: np.full_like(a, number) for name, a in case.expected.items()}

    report = verify(CASES[::4], nothing)
    assert not report.passed
    assert report.diagnosis
    assert all("no known mistake gives these numbers" in line for line in report.diagnosis)


def without_padding(case: Case) -> Arrays:
    """A port that has no lengths, and a wrong sLSTM without heads."""
    if "padding" in case.flags:
        raise UnsupportedError
    return {n: a + (case.options.get("num_heads") == 1) for n, a in case.expected.items()}


SLSTM = [case for case in CASES if case.subject.name == "slstm.sequence"]


def test_what_a_port_does_not_have_is_skipped() -> None:
    report = verify(SLSTM, without_padding, expect_fail=["num_heads=1"])
    assert report.passed
    n = len(SLSTM) - 2
    count = f"slstm.sequence: {n} of {n} cases passed, 1 failed as expected, 1 skipped"
    assert str(report) == count
    assert str(verify(SLSTM, without_padding, skip=["padding", "num_heads=1"])) == (
        f"slstm.sequence: {n} of {n} cases passed, 2 skipped"
    )
    assert {c["excused"] for c in report.to_dict()["cases"]} == {
        "",
        "skipped",
        "failed as expected",
    }
    assert sum(c["passed"] for c in report.to_dict()["cases"]) == n
    suite = ET.fromstring(report.to_junit())
    messages = [skipped.get("message") for skipped in suite.iter("skipped")]
    assert sorted(map(str, messages)) == ["failed as expected", "skipped"]
    assert (suite.get("tests"), suite.get("skipped")) == (str(len(SLSTM)), "2")


def test_a_report_of_skipped_cases_alone_is_no_success() -> None:
    assert not verify(SLSTM, Case.results, skip=["slstm"]).passed
    names = "an id or one of .*, num_heads=1, .*, tie, .*"
    with pytest.raises(OptionError, match=f"skip: expected {names}; got 'paddin'; did you mean"):
        verify(SLSTM, Case.results, skip=["paddin"])


def forward_alone(case: Case) -> Arrays:
    """A port without a backward."""
    return {n: a for n, a in case.results().items() if n == "y" or n.startswith("final")}


@pytest.mark.parametrize("subject", ["slstm.sequence", "layer.causal-conv1d", "layer.linear"])
def test_a_port_of_the_forward_alone_has_an_outcome_of_its_own(subject: str) -> None:
    chosen = cases(subject)[:6]
    n = len(chosen)
    count = f"{subject}: {n} of {n} cases passed, {n} forward only"
    report = verify(chosen, forward_alone)
    assert (report.outcome, report.passed) == ("forward only", False)
    assert str(report) == f"{count}\n{NO_GRADIENTS}"
    asked = verify(chosen, forward_alone, forward=True)
    assert (asked.outcome, asked.passed, str(asked)) == ("forward only", True, count)
    assert report.to_dict()["outcome"] == "forward only"
    skipped = [ET.fromstring(r.to_junit()).get("skipped") for r in (report, asked)]
    assert skipped == [str(n), "0"]


@pytest.mark.parametrize("subject", ["slstm.sequence", "lstm.sequence"])
def test_a_layer_without_a_backward_is_a_port_of_the_forward(subject: str) -> None:
    def make(case: Case) -> Any:
        layer = SUBJECTS[subject].public(case.options)  # type: ignore[misc]
        layer.backward = lambda *_: 1 / 0
        return layer

    assert verify(cases(subject)[:6], from_layer(make), forward=True).outcome == "forward only"
    assert verify(cases(subject)[:6], from_layer(make)).outcome == "failed"


def test_gradients_are_not_compared_if_the_forward_is_asked_for() -> None:
    def wrong_backward(case: Case) -> Arrays:
        return case.results() | {"dx": np.full_like(case.inputs["x"], np.nan)}

    chosen = cases("lstm.step")
    assert verify(chosen, wrong_backward, forward=True).passed
    assert not verify(chosen, wrong_backward).passed
    chosen[0].forward.check(forward_alone(chosen[0]))
    with pytest.raises(AssertionError, match=r"dx +inf +expected float64 \(3, 5\); got none"):
        chosen[0].check(forward_alone(chosen[0]))
    without = verify(chosen, lambda case: {n: a for n, a in case.results().items() if n != "dx"})
    assert (without.outcome, without.diagnosis) == ("failed", [])


@pytest.mark.parametrize("forward", [True, False])
@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("normaliser-clamped", "slstm.step"),
        ("gates-in-order-ifoz", "lstm.step"),
    ],
)
def test_a_mistake_of_a_forward_without_gradients_is_named(
    name: str, subject: str, forward: bool
) -> None:
    bug = mistake(name, subject)

    def port(case: Case) -> Arrays:
        return {n: a for n, a in results(case, bug).items() if n == "y" or n.startswith("final")}

    report = verify(cases(subject, "float64"), port, forward=forward)
    assert report.outcome == "failed"
    assert not {row.tensor for v in report.verdicts for row in v.rows} & {"dx", "grads.W"}
    (line,) = report.diagnosis
    assert f"({name})" in line


@pytest.mark.parametrize("missing", ["dx", "dstate0.c", "grads.b"])
def test_one_missing_gradient_is_a_failure(missing: str) -> None:
    def port(case: Case) -> Arrays:
        return {n: a for n, a in case.results().items() if n != missing}

    report = verify(cases("lstm.step"), port)
    assert report.outcome == "failed"
    assert {row.tensor for v in report.verdicts for row in v.rows if not row.passed} == {missing}


def test_one_missing_output_is_a_failure_of_the_forward() -> None:
    report = verify(cases("lstm.step"), lambda case: {"y": case.results()["y"]}, forward=True)
    assert report.outcome == "failed"
    wrong = {row.tensor for v in report.verdicts for row in v.rows if not row.passed}
    assert wrong == {"final.h", "final.c"}


def test_a_port_with_gradients_in_some_cases_does_not_pass() -> None:
    chosen = cases("lstm.step")
    some = {case.id for case in chosen[::2]}
    report = verify(chosen, lambda c: c.results() if c.id in some else forward_alone(c))
    assert report.outcome == "forward only"
    assert "lstm.step: 10 of 10 cases passed, 5 forward only" in str(report)


def test_a_forward_that_is_right_is_no_failure_as_expected() -> None:
    report = verify(cases("slstm.step"), forward_alone, forward=True, expect_fail=["tie"])
    notes = {row.note for v in report.verdicts for row in v.rows if not row.passed}
    assert (report.outcome, notes) == ("failed", {"expected this case to fail; it passes"})


def test_what_has_no_gradients_is_not_forward_only() -> None:
    chosen = [case.forward for case in cases("lstm.step")]
    assert verify(chosen, Case.results).outcome == "passed"
    assert verify(chosen, Case.results, forward=True).outcome == "passed"


def test_progress_and_times_are_those_of_each_case() -> None:
    def slow(case: Case) -> Arrays:
        time.sleep(0.01)
        return case.results()

    shown: list[str] = []
    chosen = cases("slstm.step")
    report = verify(chosen, slow, skip=["tie"], progress=lambda v: shown.append(v.case.id))
    assert shown == [case.id for case in chosen]
    assert {v.seconds >= 0.01 for v in report.verdicts if not v.excused} == {True}
    suite = ET.fromstring(report.to_junit())
    tests = {str(test.get("name")): float(str(test.get("time"))) for test in suite.iter("testcase")}
    assert {name for name, seconds in tests.items() if seconds} == {
        v.case.id for v in report.verdicts if not v.excused
    }
    assert float(str(suite.get("time"))) == pytest.approx(sum(tests.values()), abs=0.02)


class Tensor:
    """An array of another library."""

    def __array__(self) -> Any:
        raise NotImplementedError


class Torchlike(Tensor):
    """An array of a library with gradients."""

    def detach(self) -> None: ...


def test_an_array_of_another_library_is_one_hint() -> None:
    def port(case: Case) -> dict[str, Any]:
        return dict.fromkeys(case.expected, Tensor())

    (row,) = verify(cases("lstm.step")[:1], port).verdicts[0].rows
    assert row.note == "expected NumPy arrays; got tests.Tensor: return np.asarray(result)"
    case = cases("lstm.step")[0]
    with pytest.raises(AssertionError, match=r"Torchlike: return result\.detach\(\)\.cpu"):
        case.check({**case.results(), "y": Torchlike()})


def test_float32_results_of_float64_cases_are_said_to_be_that() -> None:
    report = verify(cases("lstm.step"), lambda case: in_dtype(case.results(), np.float32))
    notes = {row.note for v in report.verdicts for row in v.rows if not row.passed}
    assert {note.partition(":")[0] for note in notes} == {
        "expected float64; got float32 in all results"
    }
    assert str(report).endswith("lstm.step: 5 of 10 cases passed, including all float32 cases")


def test_what_a_port_says_is_harmless(tmp_path: Path) -> None:
    def port(case: Case) -> Arrays:
        raise ValueError("red \x1b[31m \x00 \ufffe")

    verdicts = verify(CASES[:2], port).verdicts
    report = Report(verdicts, ("a\x1b.safetensors",))
    assert "\x1b" not in str(report)
    suite = ET.fromstring(report.to_junit())
    assert (suite.get("tests"), suite.get("failures")) == ("3", "3")
    messages = [str(failure.get("message")) for failure in suite.iter("failure")]
    assert messages[0] == r"ValueError: red \x1b[31m \x00 \ufffe"
    assert messages[2] == "expected the id of a case as the name of the file; got another name"
