"""Correct ports pass every case, and a wrong entry anywhere fails."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import conformance, xLSTMLMModel
from numpy_xlstm.cells import mlstm as mlstm_cell
from numpy_xlstm.cells import slstm as slstm_cell
from numpy_xlstm.cells import sLSTMCell
from numpy_xlstm.conformance import Case, Subject
from numpy_xlstm.conformance.bounds import SAMPLES, RoundedLogGate
from numpy_xlstm.conformance.copies import Copy
from numpy_xlstm.gradcheck.axes import Axes
from numpy_xlstm.kernels import slstm
from numpy_xlstm.kernels.mlstm import forms
from numpy_xlstm.layers.sequence import KERNELS
from numpy_xlstm.numerics import Array
from tests.conformance import ports, shared
from tests.models.build import lm_config

PORTED = [case for name in ports.KERNELS for case in conformance.cases(name)]
"""Each in float64 and float32, one after the other."""
FEW = shared.one_of_each(PORTED)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """In one trial each pair of a kernel and a flag, in more trials all cases of kernels."""
    if "ported" in metafunc.fixturenames:
        trials = metafunc.config.getoption("--trials")
        metafunc.parametrize("ported", FEW if trials < 2 else PORTED, ids=str)


def test_the_kernels_pass(ported: Case) -> None:
    ported.check(ports.kernel(ported))


@pytest.mark.parametrize("subject", conformance.SUBJECTS.values(), ids=lambda s: s.name)
def test_every_entry_has_a_name(subject: Subject) -> None:
    for options in subject.variants.values():
        for name, array in subject.blank(options, 3, 7).items():
            pattern = subject.pattern(name, array.ndim).format(**options)
            sizes = [len(values) for _, values in Axes(name, array.shape, pattern).parts]
            assert int(np.prod(sizes, dtype=int)) == array.size
            assert bool(pattern) == bool(array.ndim)


@pytest.mark.parametrize("case", conformance.read_vectors(conformance.SMALL))
def test_an_entry_that_is_off_is_found(case: Case) -> None:
    rng = np.random.default_rng(0)
    for times in (0.9, 2.0):
        results, moved = {}, []
        for name, array in case.expected.items():
            off = array.astype(np.longdouble)
            if array.size:
                at = tuple(rng.integers(n) for n in array.shape)
                off[at] += times * case.bounds[name][at]
                moved += [name] if np.isfinite(off[at]) else []
            results[name] = off.astype(case.dtype)
        wrong = [row.tensor for row in conformance.compare(case, results) if not row.passed]
        assert wrong == (moved if times > 1 else [])


GATED = [s for s in conformance.SUBJECTS if s.startswith(("slstm", "mlstm", "block", "model"))]


@pytest.mark.parametrize("name", [*GATED, "trace"])
def test_every_exponent_takes_part_in_the_bound(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is rounded in each run from which the bound is measured, as it is in a port."""
    exact, rounded = list[Any](), list[Any]()

    def count(owner: Any, name: str, is_rounded: Callable[..., bool]) -> None:
        function = getattr(owner, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            (rounded if is_rounded(*arguments) else exact).append(owner)
            return function(*arguments, **options)

        monkeypatch.setattr(owner, name, counted)

    for cell in (mlstm_cell, slstm_cell):
        count(cell, "log_gate", lambda *_: False)
    count(RoundedLogGate, "__call__", lambda *_: True)
    count(forms, "stabilise", lambda log_i, *_: log_i.dtype == np.float32)
    count(slstm, "forward", lambda Wx, *_: Wx.dtype == np.float32)
    table = KERNELS[sLSTMCell]._replace(forward=slstm.forward)  # a copy makes its table anew
    monkeypatch.setitem(KERNELS, sLSTMCell, table)
    if name == "trace":
        model = xLSTMLMModel(lm_config(bias=True), dtype="float32", rng=0)
        cases = list(conformance.trace(model, np.array([[2, 1, 0]])))
    else:
        cases = conformance.cases(name, "float32")[:1]
    for case in cases:
        assert case.bounds
    in_bounds = len(rounded)
    rounded.clear()
    exact.clear()
    for case in cases:
        case.results()
    assert in_bounds == SAMPLES * len(exact + rounded)
    assert in_bounds or name == "model.lstm"


def replaced(case: Case, functions: dict[str, Any]) -> Any:
    """Return the specification of a case with other functions."""
    places = {f"numpy_xlstm.{place}": function for place, function in functions.items()}
    other = Copy({}, functions=places).of(case.subject.specification)
    assert other is not case.subject.specification
    return other


def test_exponents_that_are_rounded_as_sums_are_move_results_within_their_bounds() -> None:
    case = conformance.cases("slstm.sequence", "float64")[0]
    noise = RoundedLogGate(np.random.default_rng(0))
    found = case.results(replaced(case, {"cells.gates:log_gate": noise}))
    for name, array in case.results().items():
        apart = np.abs(found[name] - array).max()
        assert 0 < apart <= case.bounds[name].max(), name


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):
        y: Array = 1 / (1 + np.exp(-x))
    return y


VALUES: dict[str, Any] = {
    "numerics.activations:sigmoid_slope": lambda x: _sigmoid(x) * (1 - _sigmoid(x)),
    "numerics.activations:tanh_slope": lambda x: 1 - np.tanh(x) ** 2,
    "cells.gates:log_gate_slope": lambda x, kind: (
        1 - _sigmoid(x) if kind == "sigmoid" else np.ones_like(x)
    ),
}
NAIVE = [{name: slope} for name, slope in VALUES.items()]
NAIVE += [{"cells.gates:log_gate": lambda x, kind: -np.log(1 + np.exp(-x))}]


@pytest.mark.parametrize("family", ["lstm", "slstm", "mlstm", "mlstmsig", "gru", "peephole"])
def test_slopes_that_are_formed_from_values_are_right(family: str) -> None:
    """Gradients of a saturated gate have no correct digit, but an error of one rounding."""
    for case in shared.one_of_each(conformance.cases(f"{family}.step")):
        other = replaced(case, VALUES)
        if "open-gates" not in case.flags:
            case.check(case.results(other))


@pytest.mark.parametrize("functions", NAIVE, ids=["y(1-y)", "1-z*z", "1-f", "log(1+e)"])
def test_open_gates_show_each_function_that_loses_its_digits(functions: Any) -> None:
    chosen = [c for c in conformance.cases("slstm") if "open-gates" in c.flags]
    assert len(chosen) == 4
    naive = [case.results(replaced(case, functions)) for case in chosen]
    for case, results in zip(chosen, naive, strict=True):
        assert not all(row.passed for row in conformance.compare(case, results))
    if functions is NAIVE[0]:  # a search takes seconds
        with pytest.raises(AssertionError, match="is an edge case"):
            chosen[0].check(naive[0])


NEAR = [case for case in conformance.cases("mlstm.recurrent") if "near-tie" in case.flags]


@pytest.mark.parametrize("case", NEAR)
def test_a_near_tie_has_a_winner_in_powers_of_2_too(case: Case) -> None:
    A, log_i = case.inputs["f"][0], case.inputs["i"][0]
    assert (np.exp(A - log_i) == 1).all()
    unit = A.dtype.type(1 / np.log(2))
    assert (A * unit < log_i * unit).all()


@pytest.mark.parametrize(
    "subject",
    [name for name in conformance.SUBJECTS if name[-6:] != ".stack" or name == "lstm.stack"],
)
def test_without_cotangents_there_is_the_forward_alone(subject: str) -> None:
    case = shared.cases(subject, "float64")[0]
    if "dy" in case.inputs:
        results, alone = case.results(), case.forward.results()
        assert alone.keys() == case.forward.expected.keys() < results.keys()
        for name, array in alone.items():
            np.testing.assert_array_equal(array, results[name], strict=True)
