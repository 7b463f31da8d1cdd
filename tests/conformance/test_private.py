"""A report does not modify the package, other threads or the inputs of a case."""

import ctypes
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from inspect import unwrap
from threading import Barrier, Event
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import LSTMCell, Module, sLSTMCell
from numpy_xlstm.cells.gates import pre_activations
from numpy_xlstm.cells.unroll import unroll
from numpy_xlstm.conformance import Case, cases, from_layer, verify
from numpy_xlstm.conformance.bugs import Bug, planted, results
from numpy_xlstm.errors import NonFiniteError
from numpy_xlstm.numerics import Arrays
from tests.conformance.shared import mistake

CASES = cases("lstm.step", "float64")
SIDE_EFFECTS = "expected the port to leave its inputs as they are; it writes into "


def package() -> dict[tuple[str, ...], int]:
    """Return the members of all modules and classes of the package, and the code of functions."""
    ids: dict[tuple[str, ...], int] = {}
    modules = {name: m for name, m in sys.modules.items() if name.startswith("numpy_xlstm")}
    for module, names in modules.items():
        for name, value in vars(names).items():
            ids[module, name] = id(value)
            for member, part in vars(value).items() if isinstance(value, type) else [("", value)]:
                ids[module, name, member] = id(part)
                if code := getattr(unwrap(part), "__code__", None):
                    ids[module, name, member, "code"] = id(code)
    return ids


def test_nothing_of_the_package_is_written_while_a_mistake_is_made() -> None:
    seen = []

    def around(run: Any, options: Any, inputs: Arrays) -> Arrays:
        seen.append(package())
        return {}

    for name in ("input-gate-coupled", "output-bias-in-all-gates"):
        results(CASES[0], mistake(name, "lstm.step")._replace(around=around))
    now = package()
    assert seen == [now, now]
    assert len(now) > 1000


def test_a_copy_has_its_own_of_what_a_mistake_reaches_and_no_more() -> None:
    wrong = planted(mistake("output-bias-in-all-gates", "lstm.step"))  # in cells/gates.py
    for reached in (pre_activations, LSTMCell, sLSTMCell):
        assert wrong.of(reached) is not reached
    for shared in (unroll, Module, NonFiniteError, np.tanh, "x"):
        assert wrong.of(shared) is shared
    assert wrong.of((LSTMCell, unroll)) == (wrong.of(LSTMCell), unroll)
    assert planted().of(LSTMCell) is LSTMCell


def test_a_forward_in_another_thread_is_what_it_was() -> None:
    rng, done = np.random.default_rng(0), Event()
    cell, x = LSTMCell(3, 4, rng=rng), rng.standard_normal((2, 3))
    right, hole = cell.forward(x)[0].tobytes(), np.full_like(x, np.nan)

    def others() -> list[bytes]:
        found = []
        while not done.is_set():
            found.append(cell.forward(x)[0].tobytes())
            with pytest.raises(NonFiniteError):
                cell.forward(hole)
        return found

    wrong = mistake("input-gate-coupled", "lstm.step")
    with ThreadPoolExecutor() as pool:
        found = pool.submit(others)
        try:
            said = str(verify(CASES, lambda case: results(case, wrong)))
        finally:
            done.set()
    assert "(input-gate-coupled)" in said
    assert {*found.result()} == {right}


@pytest.fixture
def many_switches() -> Iterator[None]:
    """Let threads take turns after a few steps of the interpreter."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("many_switches")
def test_reports_that_overlap_are_right_and_leave_the_package_as_it_was() -> None:
    names = ["input-gate-coupled", "b-ignored", "state-in-place", "output-slope-of-h"]
    before, start = package(), Barrier(len(names))

    def report(name: str) -> str:
        wrong = [results(case, mistake(name, "lstm.step")) for case in CASES]
        given = dict(zip([case.id for case in CASES], wrong, strict=True))
        start.wait()
        return str(verify(CASES, lambda case: given[case.id]).diagnosis)

    with ThreadPoolExecutor() as pool:
        said = list(pool.map(report, names))
    for name, text in zip(names, said, strict=True):
        assert [each for each in names if f"({each})" in text] == [name]
    assert package() == before
    assert verify(CASES, Case.results).passed


def in_place(case: Case) -> Arrays:
    """A correct port that updates the state in place, as many do."""
    right = dict(case.results())
    case.inputs["state.c"][...] = right["final.c"]
    return right | {"final.c": case.inputs["state.c"]}


def by_address(case: Case) -> Arrays:
    """The same in a language that ignores NumPy's read-only flag."""
    right = dict(case.results())
    for name in ("h", "c"):
        array = case.inputs[f"state.{name}"]
        ctypes.memmove(array.ctypes.data, right[f"final.{name}"].ctypes.data, array.nbytes)
    return right


def lost(case: Case) -> Arrays:
    right = dict(case.results())
    case.inputs.pop("x")
    return right


@pytest.mark.parametrize(
    ("port", "inputs"),
    [
        (in_place, "state.c: copy it first"),
        (by_address, "state.h, state.c: copy them first"),
        (lost, "x: copy it first"),
    ],
)
def test_a_port_that_writes_into_its_inputs_fails_and_hurts_no_other(
    port: Any, inputs: str
) -> None:
    chosen = [case for case in cases("lstm.step", "float64", seed=1) if "state.c" in case.inputs]
    before = [{n: a.tobytes() for n, a in case.inputs.items()} for case in chosen]
    report = verify(chosen, port)
    assert [row.note for v in report.verdicts for row in v.rows] == [SIDE_EFFECTS + inputs] * len(
        chosen
    )
    assert report.diagnosis == []
    assert before == [{n: a.tobytes() for n, a in case.inputs.items()} for case in chosen]
    assert not any(a.flags.writeable for case in chosen for a in case.inputs.values())
    assert verify(chosen, Case.results).passed


def test_what_numpy_refuses_elsewhere_is_not_laid_to_the_inputs() -> None:
    def port(case: Case) -> Arrays:
        np.broadcast_to(0.0, 2)[0] = 1
        return {}

    (verdict,) = verify(CASES[:1], port).verdicts
    assert [row.note for row in verdict.rows] == ["ValueError: assignment destination is read-only"]


class Buffers:
    """A port that writes all results of a name and shape into one array."""

    def __init__(self, *bugs: Bug) -> None:
        self.bugs, self.arrays = bugs, dict[Any, Any]()

    def __call__(self, case: Case) -> Arrays:
        found = results(case, *self.bugs)
        for name, array in found.items():
            self.arrays.setdefault((name, array.shape), np.empty_like(array))[...] = array
        return {name: self.arrays[name, array.shape] for name, array in found.items()}


def test_buffers_that_are_used_again_are_read_at_once() -> None:
    assert verify(CASES, Buffers()).passed
    report = verify(CASES, Buffers(mistake("input-gate-coupled", "lstm.step")))
    (line,) = report.diagnosis
    assert "(input-gate-coupled)" in line
    kept = [verdict.results["y"] for verdict in report.verdicts if verdict.results]
    assert len({array.tobytes() for array in kept}) == len(CASES)


def test_a_layer_may_use_the_memory_of_its_output_again() -> None:
    class Workspace(LSTMCell):
        def forward(self, x: Any, state: Any = None) -> Any:
            self.work, after, cache = super().forward(x, state)
            return self.work, after, cache

        def backward(self, dh: Any, cache: Any, dstate: Any = None) -> Any:
            found = super().backward(dh, cache, dstate)
            self.work[...] = 7
            return found

    assert verify(CASES, from_layer(lambda case: Workspace(**case.options))).passed
