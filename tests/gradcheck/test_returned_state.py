"""A forward called without a state is also checked from the state that it returns."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm import gradcheck, mLSTMCell
from numpy_xlstm.gradcheck import Report
from numpy_xlstm.numerics import Array
from tests.gradcheck.layers import ExponentialStep, State, of_tensors

x = np.random.default_rng(1).standard_normal((2, 3))


def _failed(report: Report) -> set[tuple[str, str]]:
    return {(row.tensor, row.state) for row in report.failures if row.method != "adjoint"}


@pytest.mark.parametrize(("plant", "tensor"), [("n", "W"), ("c", "b"), ("h", "R")])
def test_a_term_that_an_empty_state_multiplies_by_zero(plant: str, tensor: str) -> None:
    report = gradcheck(ExponentialStep(plant=plant), x, rng=0)
    assert (tensor, "returned") in _failed(report), str(report)
    assert {state for _, state in _failed(report)} == {"returned"}


@pytest.mark.parametrize("given", [(), (None,)])
def test_a_right_step_passes_and_says_what_was_vacuous(given: tuple[None, ...]) -> None:
    report = gradcheck(ExponentialStep(), x, *given, rng=0)
    assert report.passed, str(report)
    rows = {(row.tensor, row.state): row for row in report.rows if row.method == "complex step"}
    assert rows["R", "none"].status == "vacuous"
    assert rows["R", "none"].note.startswith("the true gradient is zero here; unless another row ")
    assert rows["R", "returned"].status == "ok"
    assert rows["state.c", "returned"].status == "ok"
    assert ("state.c", "none") not in rows
    assert "vacuous" in str(report)


def test_a_state_that_is_given_is_the_only_one() -> None:
    state = State(*np.random.default_rng(2).random((4, 2, 2)))
    report = gradcheck(ExponentialStep(), x, state, rng=0)
    assert report.passed, str(report)
    assert {row.state for row in report.rows} == {"given"}
    assert gradcheck(ExponentialStep(plant="n"), x, state, rng=0).failures


def test_an_empty_state_that_is_given_is_not_the_only_one() -> None:
    zeros = np.zeros((2, 2))
    empty = State(zeros, zeros, zeros, zeros - np.inf)
    report = gradcheck(ExponentialStep(), x, empty, rng=0)
    assert report.passed, str(report)
    assert {row.state for row in report.rows} == {"given", "returned"}
    vacuous = {row.tensor for row in report.rows if row.status == "vacuous"}
    assert vacuous == {"R", "state.c", "state.n", "state.m"}
    report = gradcheck(ExponentialStep(plant="h"), x, empty, rng=0)
    assert _failed(report) == {("R", "returned")}


def test_what_no_state_decides_is_undecided() -> None:
    report = gradcheck(ExponentialStep(), 0 * x, rng=0)
    assert not report.failures, str(report)
    assert not report.passed
    assert {(row.tensor, row.state) for row in report.undecided} == {
        ("W", "none"),
        ("W", "returned"),
    }
    advice = "the true gradient is zero here; unless another row decides, pass a state, inputs and "
    assert {row.note for row in report.undecided} == {f"{advice}parameters where it is not"}
    assert "NOT PASSED (0 failures, 2 undecided)" in str(report)


def test_the_returned_state_is_that_of_other_inputs() -> None:
    """An mLSTM that has seen only one v returns v for any q: the gradient of q is zero."""
    cell, rng = mLSTMCell(1, 1, qk_dim=2, eps=0.0), np.random.default_rng(3)
    for array in cell.params.values():
        array[...] = 1 + rng.random(array.shape)
    report = gradcheck(cell, np.array([[0.7]]), rng=0)
    assert report.passed, str(report)
    assert {row.tensor for row in report.rows if row.status == "vacuous"} >= {"W_q", "b_q"}


def test_a_state_of_another_precision_than_the_layer() -> None:
    def forward(x: Array, state: Array | None = None) -> Any:
        s = np.float64(0) if state is None else state
        return x * (1 + s), s + x.sum(), (x, s)

    def backward(dy: Array, cache: Any, dstate: Any) -> Any:
        x, s = cache
        dx, ds = dy * (1 + s) + dstate, (dy * x).sum() + dstate
        return dx.astype(x.dtype), np.asarray(ds, np.asarray(s).dtype)

    report = gradcheck((forward, backward), x.astype(np.float32), rng=0)
    assert report.passed, str(report)
    assert {row.state for row in report.rows} == {"none", "returned"}


def test_an_argument_that_is_no_state_is_left_alone() -> None:
    def forward(x: Array, scale: float = 2.0) -> Any:
        return scale * x, x.sum(), scale

    report = gradcheck((forward, lambda dy, scale, ds: (scale * dy + ds, None)), x, rng=0)
    assert report.passed, str(report)
    assert {row.state for row in report.rows} == {""}


@pytest.mark.parametrize("max_entries", [0, 64])
@pytest.mark.parametrize("claimed", [0.0, 1e-3])
def test_a_gradient_that_is_zero_everywhere(claimed: float, max_entries: int) -> None:
    """y = a x + b z at x = 0, where nothing can be said about the gradient of a."""

    def forward(a: Array, x: Array, z: Array) -> Any:
        return a * x + 3 * z, (a, x)

    def backward(dy: Array, cache: Any) -> Any:
        a, x = cache
        return dy * x + claimed, dy * a, 3 * dy

    inputs = x, np.zeros_like(x), x
    report = gradcheck((forward, backward), *inputs, rng=0, max_entries=max_entries)
    status = {(row.tensor, row.status) for row in report.rows if row.method != "adjoint"}
    assert status == {("a", "FAIL" if claimed else "vacuous"), ("x", "ok"), ("z", "ok")}
    assert not report.passed
    assert claimed or report.undecided[0].note.startswith("the true gradient is zero here")


@pytest.mark.parametrize(
    ("claimed", "status"), [(0.0, "vacuous"), (2e-16, "vacuous"), (1e-16, "ok")]
)
def test_a_gradient_that_is_small_beside_another(claimed: float, status: str) -> None:
    """Within the rounding error of another tensor, only a correct gradient is evidence."""
    pair = (lambda a, z: (1e-16 * a + z, None)), (lambda dy, cache: (claimed * dy, dy))
    report = gradcheck(pair, x, x, rng=0)
    assert [row.status for row in of_tensors(report.rows)] == [status, "ok"]


def test_arrays_without_entries_are_ok() -> None:
    report = gradcheck((lambda a, z: (2 * z, a), lambda dy, a: (a, 2 * dy)), x[:0], x, rng=0)
    assert report.passed, str(report)
