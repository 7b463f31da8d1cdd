"""Wrong results are rows of the report, and all other cases are run."""

import contextlib
import json
import os
import sys
import tarfile
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.cli import main
from numpy_xlstm.conformance import (
    SMALL,
    Case,
    PortError,
    Report,
    UnsupportedError,
    cases,
    compare,
    from_command,
    from_folder,
    read_vectors,
    verify,
)
from numpy_xlstm.conformance.bounds import in_dtype
from numpy_xlstm.conformance.bugs import results
from numpy_xlstm.conformance.case import Content
from numpy_xlstm.conformance.compare import listed
from numpy_xlstm.conformance.contrast import SEVEN_DIGITS
from numpy_xlstm.conformance.files import header, write_tensors
from numpy_xlstm.conformance.subjects import Arrays
from numpy_xlstm.errors import OptionError, ShapeError

CASES = read_vectors(SMALL)
CASE = next(case for case in CASES if case.id == "slstm.sequence.sigmoid.ordinary.float32")


def changed(change: Callable[[Arrays], Any]) -> list[tuple[str, str]]:
    """Return the failed rows of correct results with a change."""
    results = {name: array.copy() for name, array in CASE.expected.items()}
    change(results)
    return [(row.tensor, row.note) for row in compare(CASE, results) if not row.passed]


def test_nothing_is_wrong_with_the_truth() -> None:
    assert changed(lambda results: None) == []


def test_a_result_that_is_missing() -> None:
    assert changed(lambda results: results.pop("dx")) == [
        ("dx", "expected float32 (3, 7, 5); got none")
    ]


def test_a_result_too_many() -> None:
    assert changed(lambda results: results.update(dz=results["dx"])) == [
        ("dz", "expected no tensor of this name")
    ]


@pytest.mark.parametrize(
    ("other", "got"),
    [
        (lambda a: a.astype(np.float64), "float64 (3, 7, 5)"),
        (lambda a: a[:, :6], "float32 (3, 6, 5)"),
        (lambda a: a.tolist(), "list"),
    ],
)
def test_a_result_of_another_kind(other: Callable[[Any], Any], got: str) -> None:
    found = changed(lambda results: results.update(dx=other(results["dx"])))
    assert found == [("dx", f"expected float32 (3, 7, 5); got {got}")]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none(value: float) -> None:
    def change(results: Arrays) -> None:
        results["grads.R"][1, 9, 2] = value

    ((name, note),) = changed(change)
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
    def change(results: Arrays) -> None:
        results["grads.W"][8:16] *= 1.01

    ((_, note),) = changed(change)
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
    assert " ".join(note) == f"6 of 7 tensors: {', '.join(wrong)}"
    (table, *_) = report.lines(verbose=True)
    assert table.count("entries; first") == len(wrong) * len(chosen)


def test_a_dtype_that_is_right_is_named() -> None:
    def port(case: Case) -> Arrays:
        return {n: a * (1 if case.dtype == "float32" else 2) for n, a in case.results().items()}

    *_, count, _ = verify(cases("elman.step"), port).lines()
    assert count == "elman.step: 7 of 14 cases passed, including all float32 cases"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            {"dx", "grads.W_q"},
            "the forward is right; in the backward, dx, grads.W_q are wrong",
        ),
        ({"y", "dx"}, "y is wrong"),
    ],
)
def test_what_is_right_where_no_mistake_is_known(wrong: set[str], said: str) -> None:
    def port(case: Case) -> Arrays:
        return {n: a * (1.01 if n in wrong else 1) for n, a in case.results().items()}

    chosen = cases("mlstm.step", "float64")[:3]
    line = f"mlstm.step: no known mistake gives these numbers\n    {said}"
    (found,) = verify(chosen, port).diagnosis
    assert found.startswith(line)
    with pytest.raises(AssertionError, match=line):
        chosen[0].check(port(chosen[0]))


def test_nothing_is_said_of_a_subject_beside_what_is_known_of_another() -> None:
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


@pytest.mark.parametrize("subject", ["lstm.step", "slstm.step", "mlstm.step", "mlstm.sequence"])
def test_float32_in_float64_is_named(subject: str) -> None:
    line = f"{subject}: {SEVEN_DIGITS}"
    assert verify(cases(subject), narrow).diagnosis == [line]


def test_what_else_is_wrong_is_not_taken_for_float32() -> None:
    chosen = cases("mlstm.step")

    def six_digits(case: Case) -> Arrays:
        wide = case.dtype == "float64"
        return {n: a * (1 + 1e-4 * wide) for n, a in case.expected.items()}

    for few, port in ((chosen, six_digits), (cases("mlstm.step", "float64")[:1], narrow)):
        (line,) = verify(few, port).diagnosis
        assert "no known mistake gives these numbers" in line


def write(folder: Path, case: Case, change: Callable[[Arrays], Any] = lambda results: None) -> Path:
    folder.mkdir(exist_ok=True)
    results = dict(case.expected)
    change(results)
    path = folder / f"{case.id}.safetensors"
    write_tensors(path, results, {})
    return path


def test_a_folder(tmp_path: Path) -> None:
    for case in CASES[2:]:
        write(tmp_path, case)
    write(tmp_path, CASES[0]).write_bytes(b"half a file")
    report = verify(CASES, from_folder(str(tmp_path)))
    failed = [(v.case.id, v.rows[0].note) for v in report.verdicts if not v.passed]
    assert [name for name, _ in failed] == [CASES[0].id, CASES[1].id]
    assert failed[0][1].startswith("no results: ")
    assert failed[1][1] == f"expected {CASES[1].id}.safetensors; got no such file"


def test_results_of_another_version(tmp_path: Path) -> None:
    write_tensors(tmp_path / f"{CASE.id}.npz", CASE.expected, {"version": "2020.01"})
    (verdict,) = verify([CASE], from_folder(tmp_path)).verdicts
    assert verdict.rows[0].note.endswith("; got '2020.01'")


def test_results_with_the_header_of_the_inputs(tmp_path: Path) -> None:
    write_tensors(tmp_path / f"{CASE.id}.npz", CASE.expected, header(CASE))
    assert verify([CASE], from_folder(tmp_path)).passed


def test_a_port_that_raises() -> None:
    def port(case: Case) -> Arrays:
        if case is CASES[0]:
            raise ZeroDivisionError("of\nmine")
        return case.expected

    report = verify(CASES[:3], port)
    assert [v.passed for v in report.verdicts] == [False, True, True]
    assert report.verdicts[0].rows[0].note == "ZeroDivisionError: of mine"


PROGRAM = f"""
import os, pathlib, shutil, sys, time
into, out, how = sys.argv[1:]
name = pathlib.Path(into).name.removesuffix(".in.safetensors")
if how == "fail":
    sys.exit("a word of farewell")
if how == "lack":
    sys.exit(77)
if how == "hang":
    time.sleep(60)
if how == "crash":
    os.kill(os.getpid(), 9)
if how != "nothing":
    shutil.copy(pathlib.Path({str(SMALL)!r}, "results", name + ".safetensors"), out)
if how == "half":
    os.truncate(out, os.path.getsize(out) // 2)
"""


@pytest.mark.parametrize(
    ("how", "note"),
    [
        ("well", ""),
        ("lack", ""),
        ("fail", "the program has ended with exit status 1: a word of farewell"),
        ("hang", "stopped at the time limit of 0.5 s"),
        ("crash", "the program has ended with signal 9"),
        ("nothing", "the program has ended without an error, but has written no file"),
        ("half", "no results: "),
    ],
)
def test_a_program(tmp_path: Path, how: str, note: str) -> None:
    program = tmp_path / "a port.py"
    program.write_text(PROGRAM, "utf-8")
    command = f"'{sys.executable}' '{program}' {{in}} {{out}} {how}"
    port = from_command(command, tmp_path, 0.5 if how == "hang" else 60)
    for verdict in verify(CASES[:2], port).verdicts:
        found = [row.note for row in verdict.rows if not row.passed]
        assert bool(found) == bool(note)
        assert not note or found[0].startswith(note)
        assert verdict.excused == ("skipped" if how == "lack" else "")
    assert list(tmp_path.iterdir()) == [program]


def test_the_first_and_the_last_that_a_program_says(tmp_path: Path) -> None:
    program = tmp_path / "port.py"
    program.write_text("import sys; sys.exit('panicked\\n' + 'at ...\\n' * 100 + 'note')", "utf-8")
    port = from_command(f"'{sys.executable}' '{program}' {{in}} {{out}}", tmp_path, 60)
    note = verify([CASE], port).verdicts[0].rows[0].note
    assert note.startswith("the program has ended with exit status 1: panicked at ...")
    assert note.endswith("at ... note")
    assert len(note) < 400


def test_a_program_of_no_format(tmp_path: Path) -> None:
    program = tmp_path / "port"
    program.write_bytes(b"\x7fno program")
    program.chmod(0o755)
    port = from_command(f"'{program}' {{in}} {{out}}", tmp_path, 60)
    note = verify([CASE], port).verdicts[0].rows[0].note
    assert note.startswith("the program cannot be run: ")


def test_why_a_program_cannot_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "port").touch()
    monkeypatch.chdir(tmp_path)
    for program, why in (
        ("port", "'port', which is not on the PATH; did you mean ./port?"),
        ("./port", "'./port', which is not marked as executable"),
        ("./prot", "'./prot', no such file"),
    ):
        with pytest.raises(OptionError) as caught:
            from_command(f"{program} {{in}} {{out}}", tmp_path, 1)
        assert str(caught.value).endswith(f"got {why}")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("port {in}", "--run: expected a command with {out}; got 'port {in}'"),
        ("no-such-program {in} {out}", "expected a program that can be run; got 'no-such-program'"),
        ("port '{in} {out}", "--run: expected a command; got"),
    ],
)
def test_a_command_that_is_none(tmp_path: Path, command: str, message: str) -> None:
    with pytest.raises(OptionError, match=message.replace("{", r"\{")):
        from_command(command, tmp_path, 1)


@pytest.mark.parametrize("answer", [None, 3, {1: 2}, [CASE.expected]])
def test_a_port_that_returns_no_results(answer: Any) -> None:
    report = verify(CASES[:2], lambda case: case.expected if case is CASES[1] else answer)
    assert [v.passed for v in report.verdicts] == [False, True]
    assert (
        report.verdicts[0]
        .rows[0]
        .note.startswith(f"expected a mapping of results; got {answer!r:.9}")
    )
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


@pytest.mark.parametrize("message", ["", "skipped"])
def test_an_error_skips_no_case_whatever_its_message(message: str) -> None:
    def port(case: Case) -> Arrays:
        raise PortError(message)

    report = verify(CASES[:1], port)
    assert not report.passed
    assert {row.passed for v in report.verdicts for row in v.rows} == {False}


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
    suite = ET.fromstring(report.to_junit())
    said = [each.get("message") for each in suite.iter("skipped")]
    assert sorted(map(str, said)) == ["failed as expected", "skipped"]


def test_what_must_fail_and_passes_is_a_failure() -> None:
    report = verify(SLSTM, Case.results, expect_fail=["padding"])
    assert not report.passed
    (row,) = (row for v in report.verdicts for row in v.rows if not row.passed)
    assert row.note == "expected this case to fail; it passes"


def test_a_report_of_skipped_cases_alone_is_no_success() -> None:
    assert not verify(SLSTM, Case.results, skip=["slstm"]).passed
    with pytest.raises(OptionError, match=r"skip: expected a flag, .*; got 'paddin'; did you mean"):
        verify(SLSTM, Case.results, skip=["paddin"])


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
    report = Report(verdicts, ("a\x1b.npz",))
    assert "\x1b" not in str(report)
    suite = ET.fromstring(report.to_junit())
    assert (suite.get("tests"), suite.get("failures")) == ("3", "3")
    messages = [str(failure.get("message")) for failure in suite.iter("failure")]
    assert messages[0] == r"ValueError: red \x1b[31m \x00 \ufffe"
    assert messages[2] == "expected the id of a case as the name of the file; got another name"


CHILD = f"""
import pathlib, shutil, subprocess, sys, time
into, out, late, rest = sys.argv[1:]
code = "import pathlib, sys, time; time.sleep(4); pathlib.Path(sys.argv[1]).touch()"
subprocess.Popen([sys.executable, "-c", code, late], start_new_session=True)
time.sleep(float(rest))
name = pathlib.Path(into).name.removesuffix(".in.safetensors")
shutil.copy(pathlib.Path({str(SMALL)!r}, "results", name + ".safetensors"), out)
"""
"""A program whose child keeps its open files, and which then writes a file."""


@pytest.mark.parametrize(
    ("rest", "seconds", "note"), [(60, 1, "stopped at the time limit of 1 s"), (0, 3, "")]
)
def test_a_child_in_another_session_is_not_waited_for(
    tmp_path: Path, rest: int, seconds: float, note: str
) -> None:
    program, late = tmp_path / "port.py", tmp_path / "late"
    program.write_text(CHILD, "utf-8")
    command = f"'{sys.executable}' '{program}' {{in}} {{out}} '{late}' {rest}"
    (verdict,) = verify([CASE], from_command(command, str(tmp_path), seconds)).verdicts
    assert verdict.rows[0].note == note
    assert not late.exists()


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for case in CASES:
        write(tmp_path / "right", case)
    right = str(tmp_path / "right")
    assert main(["verify", right]) == 0
    assert "lstm.stack: 1 of 1 cases passed" in capsys.readouterr().out
    assert main(["verify", right, "--json", os.devnull, "--junit", os.devnull]) == 0

    write(tmp_path / "right", CASE, lambda results: results.update(y=-results["y"]))
    (tmp_path / "right" / "stranger.npz").write_bytes(b"")
    report, junit = tmp_path / "report.json", tmp_path / "report.xml"
    assert main(["verify", right, "--json", str(report), "--junit", str(junit)]) == 1
    out = capsys.readouterr().out
    count = sum(case.subject is CASE.subject for case in CASES)
    assert f"slstm.sequence: {count - 1} of {count} cases passed" in out
    assert "stranger.npz: expected the id of a case" in out
    said = json.loads(report.read_text("utf-8"))
    assert not said["passed"]
    assert [c["id"] for c in said["cases"] if not c["passed"]] == [CASE.id]
    suite = ET.parse(junit).getroot()
    assert (suite.get("tests"), suite.get("failures")) == (str(len(CASES) + 1), "2")
    failure, unmatched = suite.iter("failure")
    assert "168 of 168 entries" in str(failure.text)
    assert "got another name" in str(unmatched.get("message"))


def test_some_cases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, CASE)
    write(tmp_path, CASES[0])
    one = ["verify", str(tmp_path), "--case", CASE.id]
    assert main(one) == 0
    assert capsys.readouterr().out == "slstm.sequence: 1 of 1 cases passed\n"
    assert main([*one, "--case", CASES[0].id, "--case", CASE.id]) == 0
    assert capsys.readouterr().out == f"{counted(CASES[0])}\n{counted(CASE)}\n"
    assert main([*one, "--case", CASES[0].id, "--skip", "slstm"]) == 0
    skipped = "slstm.sequence: 0 of 0 cases passed, 1 skipped"
    assert capsys.readouterr().out == f"{counted(CASES[0])}\n{skipped}\n"
    assert main([*one, "--expect-fail", "slstm.sequence"]) == 1
    assert "expected this case to fail; it passes" in capsys.readouterr().out
    assert main([*one, "--case", CASES[1].id]) == 1
    assert f"expected {CASES[1].id}.safetensors" in capsys.readouterr().out


def counted(case: Case) -> str:
    return f"{case.subject.name}: 1 of 1 cases passed"


def test_which_case_a_program_is_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "port.py").write_text(PROGRAM, "utf-8")
    command = f"'{sys.executable}' '{tmp_path}/port.py' {{in}} {{out}} well"
    ids = [CASE.id, CASES[0].id]
    chosen = ["verify", "--run", command, *(word for name in ids for word in ("--case", name))]
    assert main(chosen) == 0
    assert capsys.readouterr() == (f"{counted(CASES[0])}\n{counted(CASE)}\n", "")

    shown: list[str] = []

    def display(text: str) -> contextlib.AbstractContextManager[None]:
        shown.append(text)
        return contextlib.nullcontext()

    monkeypatch.setattr("numpy_xlstm.cli.verify.busy_display", display)
    assert main(chosen) == 0
    assert shown == [f"{CASES[0].id}, 1 of 2", f"{CASE.id}, 2 of 2"]


def test_vectors_and_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "set")
    chosen = ["--subject", "elman.step", "--dtype", "float32"]
    assert main(["vectors", folder, *chosen, "--seed", "3"]) == 0
    assert capsys.readouterr().out == f"elman.step: 7 cases\n7 cases in {folder}, seed 3\n"
    assert main(["verify", f"{folder}/results", "--vectors", folder]) == 0
    assert capsys.readouterr().out == "elman.step: 7 of 7 cases passed\n"
    assert main(["vectors", folder, *chosen]) == 2
    assert "expected a new or empty folder" in capsys.readouterr().err


def test_an_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / name / "kit.tar.gz" for name in ("one", "two")]
    for path in paths:
        assert main(["vectors", str(path), "--small"]) == 0
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].stat().st_size < 1_000_000
    assert f"{len(CASES)} cases in {paths[0]}, seed 0\n" in capsys.readouterr().out
    before = paths[0].read_bytes()
    assert main(["vectors", str(paths[0]), "--small"]) == 2
    assert f"expected a new archive; got {paths[0]}, which exists" in capsys.readouterr().err
    assert paths[0].read_bytes() == before
    with tarfile.open(paths[0]) as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / "kit"
    assert [case.id for case in read_vectors(folder)] == [case.id for case in CASES]
    for name in ("README.md", "manifest.schema.json"):
        assert (folder / name).read_bytes() == (SMALL.parent / name).read_bytes()
    assert len((folder / "README.md").read_text("utf-8").splitlines()) < 60


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--seed", "1"], "--small: expected no --seed, as the small set is of seed 0; got 1"),
        (["--subject", "mlstm.stack"], "--small: expected a subject of the small set"),
    ],
)
def test_a_small_set_that_there_is_not(
    tmp_path: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["vectors", str(tmp_path / "kit"), "--small", *more]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_vectors_that_are_interrupted_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "made" / "set"
    chosen = ["vectors", str(folder), "--subject", "elman.step", "--dtype", "float32"]
    with monkeypatch.context() as patched:
        patched.setattr("numpy_xlstm.conformance.files.describe", interrupted)
        with contextlib.suppress(KeyboardInterrupt):
            main(chosen)
    assert not list(folder.parent.iterdir())
    assert main(chosen) == 0
    assert len(read_vectors(folder)) == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected a folder of results, or --run and a program; got neither"),
        ([".", "--run", "port {in} {out}"], "or --run and a program; got both"),
        (["nowhere"], "results: expected a folder; nowhere does not exist"),
        ([".", "--subject", "hlstm"], "--subject: expected one of block, "),
        ([".", "--subject", "slstm.sequnce"], "'slstm.sequnce'; did you mean slstm.sequence?"),
        ([__file__], f"results: expected a folder; {__file__} is a file"),
        ([".", "--vectors", "nowhere"], "got nowhere, which has no manifest.json"),
        ([".", "--subject", "mlstm.stak"], "'mlstm.stak'; did you mean mlstm.stack?"),
        (
            [".", "--subject", "mlstm.stack"],
            "--subject: the small set has no case of mlstm.stack; write some with: numpy-xlstm "
            "vectors DIR --subject mlstm.stack, and give --vectors DIR",
        ),
        (
            [".", "--subject", "elman", "--dtype", "float64"],
            f"verify: expected at least one case in {SMALL}; got none for elman float64",
        ),
        (
            [".", "--case", CASE.id.replace("slstm", "sltsm")],
            f"--case: expected a case in {SMALL}; got 'sltsm.sequence.sigmoid.ordinary.float32'; "
            f"did you mean {CASE.id}?",
        ),
        (["--run", "port {in} {out}", "--case", ""], f"--case: expected a case in {SMALL}; got ''"),
        (
            [".", "--subject", "elman", "--case", CASE.id],
            f"verify: expected at least one case in {SMALL}; got none for elman {CASE.id}",
        ),
        ([".", "--json", "nowhere/report.json"], "--json: expected an existing folder"),
    ],
)
def test_bad_options(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", *arguments]) == 2
    assert message in capsys.readouterr().err
