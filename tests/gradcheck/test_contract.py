"""Backwards that are wrong only in one way of calling, and functions that write to their arguments.

gradcheck tries each way, and gives only copies.
"""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm import gradcheck
from numpy_xlstm.gradcheck import Report
from numpy_xlstm.numerics import Array
from tests.gradcheck.layers import ExponentialStep, Square, X, of_tensors, real, square

ON_SELF = "a forward with other inputs changes the gradient from a cache"
WRITTEN_OVER = "another backward overwrites it"
LAYOUT = "a dy that is not contiguous gives another gradient"
ALONE = "without dstate the gradient is not that of a dstate of zeros"
AGAIN = "a second backward from the same cache gives another gradient"
BY_FORWARD, BY_BACKWARD, BY_NEXT = (
    f"the {by} writes to it" for by in ("forward", "backward", "next forward")
)


def complaints(report: Report) -> set[tuple[str, str]]:
    """Return tensor and kind of each failure, all of which are violations of the contract."""
    assert report.failures, str(report)
    assert all(row.method == "contract" for row in report.failures), str(report)
    return {(row.tensor, row.note.split(";")[0]) for row in report.failures}


class KeepsItsInput(Square):
    """A layer that stores its residuals on itself."""

    def forward(self, x: Array) -> Any:
        y, self.kept = super().forward(x)
        return y, None

    def backward(self, dy: Array, cache: Any) -> Any:
        return super().backward(dy, self.kept)


class KeepsItsTokens:
    def __init__(self) -> None:
        self.params = {"rows": np.random.default_rng(0).standard_normal((4, 3))}

    def forward(self, index: Array) -> Any:
        self.index = index
        return self.params["rows"][index], None

    def backward(self, dy: Array, cache: None) -> Any:
        grad = np.zeros_like(self.params["rows"])
        np.add.at(grad, self.index, dy)
        return None, {"rows": grad}


class OneBuffer(Square):
    """A layer whose gradients are in one array, which may be added to from call to call."""

    def __init__(self, add: bool) -> None:
        super().__init__()
        self.buffer, self.add = np.zeros(2), add

    def backward(self, dy: Array, x: Array) -> Any:
        dx, grads = super().backward(dy, x)
        self.buffer[...] = grads["w"] + self.add * self.buffer
        return dx, {"w": self.buffer}


class WritesToItsParameter(Square):
    def __init__(self, by: str) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Array) -> Any:
        y, w = self.params["w"] * x**2, self.params["w"].copy()
        if self.by == "forward":
            self.params["w"][...] += 1
        return y, (x, w)

    def backward(self, dy: Array, cache: Any) -> Any:
        x, w = cache
        if self.by == "backward":
            self.params["w"][...] -= dy.sum(0)
        return 2 * w * x * dy, {"w": (dy * x**2).sum(0)}


def keeping(keep: Any) -> Any:
    """Return a pair of functions that share what ``keep`` makes of the last input."""
    kept: dict[str, Array] = {}

    def forward(x: Array) -> Any:
        kept["last"] = keep(x.real)
        return x * kept["last"], None

    return forward, lambda dy, cache: dy * kept["last"]


def into_one_buffer() -> Any:
    buffer: Array = np.empty(X.shape, complex)

    def forward(x: Array) -> Any:
        y = buffer if x.dtype.kind == "c" else buffer.real
        y[...] = x**2
        return y, x.copy()

    return forward, lambda dy, x: 2 * x * dy


def drawing() -> Any:
    rng = np.random.default_rng(0)

    def forward(x: Array) -> Any:
        mask = rng.random(x.shape)
        return x * mask, mask

    return forward, lambda dy, mask: dy * mask


def exponential(x: Array) -> Any:
    y = np.exp(x)
    return y, y


def once() -> Any:
    """Return a pair whose backward returns a gradient only the first time."""
    calls: list[Array] = []

    def backward(dy: Array, x: Array) -> Any:
        calls.append(dy)
        return 2 * x * dy if len(calls) == 1 else None

    return square, backward


WRONG: dict[str, tuple[Any, set[tuple[str, str]]]] = {
    "a cache on the layer": (KeepsItsInput(), {("w", ON_SELF), ("x", ON_SELF)}),
    "a mask on the layer": (keeping(np.sign), {("x", ON_SELF)}),
    "a rare mask on the layer": (keeping(lambda x: x > 0.7), {("x", ON_SELF)}),
    "a buffer of gradients": (OneBuffer(add=False), {("w", WRITTEN_OVER)}),
    "gradients that add up": (OneBuffer(add=True), {("w", AGAIN)}),
    "a gradient that is missing at the second call": (once(), {("x", AGAIN)}),
    "a buffer of outputs": (into_one_buffer(), {("y", BY_NEXT)}),
    "a forward that draws anew": (drawing(), {("y", "a second forward gives another output")}),
    "the order of dy in memory": (
        (square, lambda dy, x: 2 * x * dy.ravel("K").reshape(x.shape)),
        {("x", LAYOUT)},
    ),
    "the order of dstate in memory": (
        (
            lambda x: (2 * x, 3 * x, None),
            lambda dy, cache, dstate: (2 * dy + 3 * dstate.ravel("K").reshape(dy.shape), None),
        ),
        {("x", LAYOUT)},
    ),
    "a backward that writes to dy": (
        (lambda x: (2 * x, None), lambda dy, cache: np.multiply(dy, 2, out=dy)),
        {("dy", BY_BACKWARD)},
    ),
    "a backward that writes to dstate": (
        (
            lambda x: (x, (x, x), None),
            lambda dy, cache, ds: (ds[0] + np.add(ds[1], dy, out=ds[1]), None),
        ),
        {("dstate.1", BY_BACKWARD)},
    ),
    "a forward that writes to its parameter": (
        WritesToItsParameter("forward"),
        {("w", BY_FORWARD)},
    ),
    "a backward that writes to its parameter": (
        WritesToItsParameter("backward"),
        {("w", BY_BACKWARD)},
    ),
}


@pytest.mark.parametrize(("target", "expected"), WRONG.values(), ids=WRONG)
def test_wrong_in_one_way(target: Any, expected: set[tuple[str, str]]) -> None:
    before = getattr(target, "params", {"w": None})["w"]
    assert complaints(gradcheck(target, X, rng=0)) == expected
    np.testing.assert_array_equal(before, getattr(target, "params", {"w": None})["w"])


@pytest.mark.parametrize(
    ("pair", "tensor"),
    [
        ((exponential, lambda dy, y: dy * y * np.multiply(y, 0.5, out=y) / y), "y"),
        ((square, lambda dy, x: np.multiply(x, 2, out=x) * dy), "x"),
    ],
)
def test_a_backward_that_writes_through_its_cache(pair: Any, tensor: str) -> None:
    x = X.copy()
    assert (tensor, BY_BACKWARD) in complaints(gradcheck(pair, x, rng=0))
    np.testing.assert_array_equal(x, X)


@pytest.mark.parametrize("which", [0, 1])
def test_a_forward_that_writes_to_an_input(which: int) -> None:
    def forward(x: Array, n: Array) -> Any:
        y = n * x**2
        (x, n)[which][...] *= 3
        return y, (x / (3 if which == 0 else 1), n / (3 if which else 1))

    def backward(dy: Array, cache: Any) -> Any:
        x, n = cache
        return 2 * n * x * dy, None

    x, n = X.copy(), np.array([[2, 4]])
    assert complaints(gradcheck((forward, backward), x, n, rng=0)) == {("xn"[which], BY_FORWARD)}
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(n, [[2, 4]])


def test_tokens_on_the_layer() -> None:
    report = gradcheck(KeepsItsTokens(), np.array([0, 2, 3]), rng=0)
    assert complaints(report) == {("rows", ON_SELF)}


@pytest.mark.parametrize(
    ("target", "start", "end"),
    [
        (
            (lambda x: (x**2, [x]), lambda dy, cache: 2 * dy * cache.pop()),
            AGAIN,
            "IndexError: pop from empty list",
        ),
        (
            (square, lambda dy, x: 2 * x * np.frombuffer(dy.data).reshape(x.shape)),
            LAYOUT,
            "not C-contiguous",
        ),
    ],
)
def test_an_error_in_one_way(target: Any, start: str, end: str) -> None:
    first = gradcheck(target, X, rng=0).failures[0]
    assert first.tensor == "backward"
    assert first.note.startswith(f"{start}: ")
    assert first.note.endswith(end)


class WrongAlone(ExponentialStep):
    def backward(self, dy: Array, cache: Any, dstate: Any = None) -> Any:
        dx, dstate0, grads = super().backward(dy, cache, dstate)
        return dx * (1 + 1e-9 * (dstate is None)), dstate0, grads


class RaisingAlone(ExponentialStep):
    def backward(self, dy: Array, cache: Any, dstate: Any = None) -> Any:
        return super().backward(dy + 0 * dstate.h, cache, dstate)


def test_wrong_only_without_dstate() -> None:
    x = np.random.default_rng(1).standard_normal((2, 3))
    assert complaints(gradcheck(WrongAlone(), x, rng=0)) == {("x", ALONE)}
    (row,) = gradcheck(RaisingAlone(), x, rng=0).failures
    assert row.tensor == "backward"
    assert "AttributeError" in row.note


def twice(dy: Array, x: Array) -> Array:
    return 2 * x * dy


def test_nan_under_other_cotangents_is_not_linear() -> None:
    """NaN in a tensor that is not the first, for all cotangents but those of the first call."""
    calls = []

    def backward(dy: Array, cache: Any) -> Any:
        calls.append(dy)
        return dy, dy * (1 if np.array_equal(dy, calls[0]) else np.nan)

    pair = (lambda x, z: (x + z, None)), backward
    report = gradcheck(pair, X, X, rng=0)
    assert [row.tensor for row in report.failures] == ["linear in ȳ"]


def test_a_backward_that_is_linear_in_size_but_not_in_sums() -> None:
    report = gradcheck((lambda x: (x + 1, None), lambda dy, cache: np.abs(dy)), X, rng=0)
    (row,) = [row for row in report.rows if row.tensor == "linear in ȳ"]
    assert row.note == "2ȳ − 3ȳ′ does not give this sum of the gradients of x"


@pytest.mark.parametrize("pair", [(square, twice), real((square, twice))])
@pytest.mark.parametrize(
    ("max_entries", "checked"),
    [(0, "5 directions"), (3, "5 directions"), (4, "4 entries"), (5, "4 entries")],
)
def test_max_entries_is_the_largest_size_that_is_checked_entry_by_entry(
    max_entries: int, checked: str, pair: Any
) -> None:
    report = gradcheck(pair, X, rng=0, max_entries=max_entries, directions=5)
    assert [row.checked for row in of_tensors(report.rows)] == [checked]
    assert report.passed, str(report)
