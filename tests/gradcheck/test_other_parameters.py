"""Backwards that are correct only at the given parameters or for similar inputs."""

import copy
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import gradcheck
from numpy_xlstm.gradcheck import Report
from numpy_xlstm.numerics import Array
from tests.gradcheck.layers import ExponentialStep, State

RNG = np.random.default_rng(3)
X = RNG.standard_normal((4, 5))
SYMMETRIC = X.T @ X


class Residual:
    """y = x + s tanh(x), whose backward forgets s."""

    def __init__(self, s: Array, right: bool) -> None:
        self.params, self.right = {"s": s}, right

    def forward(self, x: Array) -> Any:
        return x + self.params["s"] * np.tanh(x), x

    def backward(self, dy: Array, x: Array) -> Any:
        s = self.params["s"] if self.right else 1
        return dy + dy * s / np.cosh(x) ** 2, {"s": np.asarray((dy * np.tanh(x)).sum())}


class Product:
    """y = x A, whose backward forgets to transpose A."""

    def __init__(self, A: Array, right: bool) -> None:
        self.params, self.right = {"A": A}, right

    def forward(self, x: Array) -> Any:
        return x @ self.params["A"], x

    def backward(self, dy: Array, x: Array) -> Any:
        return dy @ (self.params["A"].T if self.right else self.params["A"]), {"A": x.T @ dy}


LAYERS = [(Residual, np.array(1.0)), (Product, SYMMETRIC)]
each_layer = pytest.mark.parametrize(("layer", "value"), LAYERS)
SUSPICION = "right at your parameters and wrong near them"


def _elsewhere(report: Report) -> set[str]:
    return {row.tensor for row in report.failures if row.note.startswith("at other parameters")}


@each_layer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_right_only_at_these_parameters(layer: Any, value: Array, dtype: Any) -> None:
    x, value = X.astype(dtype), value.astype(dtype)
    report = gradcheck(layer(value, right=False), x, rng=0)
    assert _elsewhere(report) == {"x", "⟨ȳ,Jv⟩ = ⟨Jᵀȳ,v⟩"}, str(report)
    assert len(report.failures) == sum("at other" in row.note for row in report.failures)
    assert SUSPICION in "\n".join(report.notes)
    right = gradcheck(layer(value, right=True), x, rng=0)
    assert right.passed, str(right)
    assert any(row.note == "at other parameters" for row in right.rows)
    assert SUSPICION not in "\n".join(right.notes)


@each_layer
def test_nothing_of_the_layer_is_changed(layer: Any, value: Array) -> None:
    params = {"unused": np.array(3), next(iter(layer(value, right=True).params)): value.copy()}
    target = layer(value, right=False)
    target.params = params
    before = {name: array.copy() for name, array in params.items()}
    value_of = dict(params)
    gradcheck(target, X, rng=0)
    assert target.params is params
    for name, array in params.items():
        assert array is value_of[name]
        np.testing.assert_array_equal(array, before[name])


class OfParts:
    """A layer whose forward passes its parameters to a part, which then keeps them."""

    def __init__(self, part: Any) -> None:
        self.part, self.params = part, part.params

    def forward(self, x: Array) -> Any:
        part = copy.copy(self.part)
        part.params = self.params
        return part.forward(x)

    def backward(self, dy: Array, cache: Any) -> Any:
        return self.part.backward(dy, cache)


@each_layer
def test_a_backward_that_reads_the_parameters_of_a_part(layer: Any, value: Array) -> None:
    part = layer(value.copy(), right=True)
    report = gradcheck(OfParts(part), X, rng=0)
    assert report.passed, str(report)
    np.testing.assert_array_equal(next(iter(part.params.values())), value)
    assert _elsewhere(gradcheck(OfParts(layer(value, right=False)), X, rng=0))


@pytest.mark.parametrize("scalar", [np.float64(1.0), np.array(1.0)])
def test_a_parameter_that_is_one_number(scalar: Any) -> None:
    assert _elsewhere(gradcheck(Residual(scalar, right=False), X, rng=0))
    assert gradcheck(Residual(scalar, right=True), X, rng=0).passed


class Refusing(Product):
    """A product that only takes symmetric matrices."""

    def forward(self, x: Array) -> Any:
        A = self.params["A"]
        if A.dtype.kind == "f" and abs(A - A.T).max() > 0.01:
            raise ValueError("expected a symmetric matrix")
        return super().forward(x)


class NotFinite(Product):
    def forward(self, x: Array) -> Any:
        A = self.params["A"]
        y, cache = super().forward(x)
        return (y * np.nan if abs((A - A.T).real).max() > 0.01 else y), cache


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (Refusing, "not checked at other parameters: ValueError: expected a symmetric matrix"),
        (NotFinite, "not checked at other parameters: ValueError: the forward gives NaN"),
    ],
)
def test_parameters_that_cannot_be_others_are_said_to_be_unchecked(layer: Any, said: str) -> None:
    target = layer(SYMMETRIC, right=True)
    report = gradcheck(target, X, rng=0)
    assert report.passed, str(report)
    assert said in "\n".join(report.notes)
    assert target.params["A"] is SYMMETRIC


def test_what_is_wrong_here_is_not_looked_for_elsewhere() -> None:
    report = gradcheck(Residual(np.array(0.5), right=False), X, rng=0)
    assert report.failures
    assert not _elsewhere(report)
    assert SUSPICION not in "\n".join(report.notes)


def test_an_empty_state_hides_no_mistake_of_this_kind() -> None:
    zeros = np.zeros((4, 2))
    report = gradcheck(ExponentialStep(5), X, State(zeros, zeros, zeros, zeros - np.inf), rng=0)
    assert report.passed, str(report)
    assert not report.notes
    moved = [row.state for row in report.rows if row.note == "at other parameters"]
    assert moved == ["returned"] * 2


def gather(ids: Array, table: Array) -> Any:
    return table[ids], (table, ids)


def overwriting(dy: Array, cache: Any) -> Any:
    table, ids = cache
    dtable = np.zeros_like(table)
    dtable[ids] = dy
    return None, dtable


def test_ids_that_never_repeat_are_said_to_hide_something() -> None:
    warning = "ids has no repeated number"
    report = gradcheck((gather, overwriting), np.array([2, 0, 3]), X, rng=0)
    assert report.passed
    assert {row.tensor for row in report.rows} >= {"table"}
    assert any(note.startswith(warning) for note in report.notes), str(report)
    again = gradcheck((gather, overwriting), np.array([2, 0, 2]), X, rng=0)
    assert {row.tensor for row in again.failures} >= {"table"}
    assert warning not in "\n".join(again.notes)
    assert warning not in "\n".join(gradcheck((gather, overwriting), np.array([2]), X).notes)


def test_an_input_that_hides_something_is_said_to() -> None:
    """Inputs stay as they are: some are masks, targets or probabilities."""

    def backward(dy: Array, cache: Any) -> Any:
        x, w = cache
        return dy * w, (dy * x).sum(0)

    pair = (lambda x, w: (x * w, (x, w))), backward
    (note,) = gradcheck(pair, X, np.ones(5), rng=0).notes
    assert note.startswith("w is 1 everywhere: a backward that forgets to multiply by it is not")
    assert not gradcheck(pair, X, RNG.standard_normal(5), rng=0).notes
