"""Padding may hold any finite numbers: they change no bit of outputs, states and gradients."""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pytest

from numpy_xlstm import (
    ElmanCell,
    GRUCell,
    LSTMCell,
    LSTMPCell,
    PeepholeLSTMCell,
    SequenceLayer,
    lstm_recurrent,
    lstm_recurrent_backward,
    slstm_recurrent,
    slstm_recurrent_backward,
)
from numpy_xlstm.kernels import common, mlstm, scan
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves, tree_map
from tests.samples import draw_like, random_state

GATES = ("sigmoid", "exp")
LENGTHS = np.array([0, 5, 2, 1])
PADDING = np.arange(5) >= LENGTHS[:, None]
WX, X = (4, 5, 16), (4, 5, 3)
QKVIF = ((4, 2, 5, 3), (4, 2, 5, 3), (4, 2, 5, 2), (4, 2, 5), (4, 2, 5))


class Subject(NamedTuple):
    """A forward, its backward, and shapes and time axis of the inputs that have padding."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    time: int = 1


def subjects(dtype: Any) -> dict[str, Subject]:
    """Return every public recurrence, and a layer of every cell with a kernel."""
    rng = np.random.default_rng(1)
    R = rng.standard_normal((2, 8, 2)).astype(dtype)
    lstm = Subject(partial(lstm_recurrent, R=R), lstm_recurrent_backward, (WX,))
    recurrences = {"lstm": lstm}
    for gate in GATES:
        forward: Any = partial(slstm_recurrent, R=R, forget_gate=gate)
        recurrences[f"slstm {gate}"] = Subject(forward, slstm_recurrent_backward, (WX,))
    forms = {"recurrent": {}, "chunkwise": {"chunk_size": 2}, "parallel": {}}
    for form, forget, input_gate in product(forms, GATES, GATES):
        options = forms[form] | {"forget_gate": forget, "input_gate": input_gate}
        forward = partial(getattr(mlstm, f"mlstm_{form}"), **options)
        backward = getattr(mlstm, f"mlstm_{form}_backward")
        name = f"mlstm {form} {forget} {input_gate}"
        recurrences[name] = Subject(forward, backward, QKVIF, 2)
    cells: dict[str, Any] = {
        "LSTM": LSTMCell,
        "GRU": GRUCell,
        "tanh": ElmanCell,
        "relu": partial(ElmanCell, nonlinearity="relu"),
        "peephole": PeepholeLSTMCell,
        "projected": partial(LSTMPCell, proj_size=2),
    }
    for name, cell in cells.items():
        layer = SequenceLayer(cell(3, 4, dtype=dtype, rng=rng))
        recurrences[name] = Subject(layer.forward, layer.backward, (X,))
    return recurrences


def results(subject: Subject, seed: int, dtype: Any, most: float) -> list[Array]:
    """Return outputs, states and gradients, with ±``most`` in the padding of inputs and dy.

    Nothing that is given is changed.
    """
    rng = np.random.default_rng(seed)

    def drawn(shape: tuple[int, ...]) -> Array:
        array = rng.standard_normal(shape).astype(dtype)
        rows = np.moveaxis(array, subject.time, 1)
        rows[PADDING] = most * rng.choice([-1, 1], rows[PADDING].shape)
        return array

    inputs = [drawn(shape) for shape in subject.shapes]
    empty = subject.forward(*inputs, lengths=0 * LENGTHS)[1]
    state = (None, random_state(empty, rng), tree_map(np.zeros_like, empty))[seed % 3]
    given = tree_map(np.copy, (inputs, state, LENGTHS))
    y, last, cache = subject.forward(*inputs, state=state, lengths=LENGTHS)
    assert not np.moveaxis(y, subject.time, 1)[PADDING].any()
    dy, dlast = drawn(y.shape), draw_like(last, rng)
    given += tree_map(np.copy, (dy, dlast))
    gradients = subject.backward(dy, cache, dlast)
    for (_, before), (_, after) in zip(
        leaves("", given), leaves("", (inputs, state, LENGTHS, dy, dlast)), strict=True
    ):
        np.testing.assert_array_equal(after, before)
    return [array for _, array in leaves("", (y, last, gradients))]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", subjects(np.float64))
def test_padding_may_hold_any_number(
    name: str, dtype: Any, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fast:
        for module in (scan, common):
            monkeypatch.setattr(module, "compiled", lambda dtype: False)
    subject, most = subjects(dtype)[name], float(np.finfo(dtype).max)
    for seed in range(6):
        near = results(subject, seed, dtype, 0)
        for size in (most, 0.3 * most):  # with both signs: products and sums would overflow
            with np.errstate(over="raise"):
                far = results(subject, seed, dtype, size)
            for expected, array in zip(near, far, strict=True):
                np.testing.assert_array_equal(array, expected)
