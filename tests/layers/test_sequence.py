"""Sequence layers and recurrences: layouts, any cell, memory, and bad input."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.cells.gru import GRUCell
from numpy_xlstm.cells.gru_original import OriginalGRUCell
from numpy_xlstm.cells.lstm import LSTMCell
from numpy_xlstm.cells.mlstm import mLSTMCell
from numpy_xlstm.cells.slstm import sLSTMCell, sLSTMState
from numpy_xlstm.cells.unroll import unroll, unroll_backward
from numpy_xlstm.errors import (
    CacheError,
    DTypeError,
    NonFiniteError,
    OptionError,
    ShapeError,
)
from numpy_xlstm.kernels import (
    lstm_recurrent,
    lstm_recurrent_backward,
    slstm_recurrent,
    slstm_recurrent_backward,
)
from numpy_xlstm.layers.conv import CausalConv1d
from numpy_xlstm.layers.lstm import LSTMSequence
from numpy_xlstm.layers.mlstm import mLSTM
from numpy_xlstm.layers.sequence import SequenceLayer
from numpy_xlstm.layers.slstm import sLSTM
from numpy_xlstm.models.language_model import LanguageModel
from numpy_xlstm.numerics import Array
from tests.ties.gated import assert_same


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kind", [GRUCell, OriginalGRUCell, mLSTMCell, sLSTMCell])
def test_a_layer_of_any_cell_is_the_cell_at_each_step(kind: Any, batch_first: bool) -> None:
    rng = np.random.default_rng(0)
    cell = kind(3, 4, rng=rng)
    layer = SequenceLayer(cell, batch_first=batch_first)
    bound = 1e-14 if layer.kernel else 0.0
    x, dy, lengths = rng.standard_normal((2, 5, 3)), rng.standard_normal((2, 5, 4)), [5, 2]

    def swapped(array: Array) -> Array:
        return array if batch_first else array.swapaxes(0, 1)

    y, state, cache = unroll(cell, x, lengths=np.array(lengths))
    got, last, kept = layer.forward(swapped(x), lengths=np.array(lengths))
    assert_same((swapped(got), last), (y, state), bound)
    assert_same(layer(swapped(x), lengths=np.array(lengths)), (got, last), 0.0)
    dx, dstate0, grads = unroll_backward(cell, dy, cache, state)
    found = layer.backward(swapped(dy), kept, state)
    assert_same((swapped(found[0]), found[1]), (dx, dstate0), bound)
    assert_same(tuple(found[2].values()), tuple(grads.values()), bound)
    assert found[2].keys() == layer.params.keys()


def test_evaluation_needs_no_more_memory_for_a_longer_sequence() -> None:
    layer, peaks = sLSTM(4, 16, 2), []
    for T in (1000, 4000):
        x = np.ones((2, T, 4))
        tracemalloc.start()
        y, _ = layer(x)
        peaks.append(tracemalloc.get_traced_memory()[1] - y.nbytes)
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


@pytest.mark.parametrize("dtype", [np.float32, np.longdouble])
@pytest.mark.parametrize(
    ("forward", "backward"),
    [(lstm_recurrent, lstm_recurrent_backward), (slstm_recurrent, slstm_recurrent_backward)],
)
def test_the_order_of_arrays_in_memory_does_not_matter(
    forward: Any, backward: Any, dtype: Any
) -> None:
    """R may be a transposed view, for example from a checkpoint."""
    rng = np.random.default_rng(3)
    Wx, R, dy = (rng.standard_normal(s).astype(dtype) for s in ((2, 5, 24), (2, 12, 3), (2, 5, 6)))
    found = []
    for order in (np.ascontiguousarray, np.asfortranarray):
        y, state, cache = forward(order(Wx), order(R))
        found.append((y, state, backward(order(dy), cache, state)))
    assert_same(found[1], found[0], 0)


GOOD = (np.zeros((2, 3, 16)), np.zeros((2, 8, 2)))


@pytest.mark.parametrize("forward", [lstm_recurrent, slstm_recurrent])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((GOOD[0][0], GOOD[1]), ShapeError, r"Wx: expected shape \(batch, time, 16\); got \(3, 1"),
        ((GOOD[0][:0], GOOD[1]), ShapeError, "Wx: expected a batch of at least 1"),
        ((GOOD[0], GOOD[1][:, :6]), ShapeError, r"R: expected shape \(NH, 4·DH, DH\); got \(2, 6"),
        ((GOOD[0], GOOD[1][:0]), ShapeError, r"R: expected shape .* got \(0, 8, 2\)"),
        ((GOOD[0].astype(np.float32), GOOD[1]), DTypeError, "Wx: expected float64"),
        ((GOOD[0] * np.nan, GOOD[1]), NonFiniteError, "Wx: expected finite"),
        ((*GOOD, (GOOD[0],)), ShapeError, "state: expected a tuple .*; got 1 entries"),
        ((*GOOD, 3), ShapeError, "state: expected a tuple .*; got int"),
    ],
)
def test_bad_arguments_of_the_recurrences(
    forward: Any, arguments: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        forward(*arguments)


def test_other_bad_arguments() -> None:
    with pytest.raises(OptionError, match="forget_gate: expected one of 'sigmoid', 'exp'"):
        slstm_recurrent(*GOOD, forget_gate="tanh")
    with pytest.raises(OptionError, match="lengths: expected integers from 0 to T = 3"):
        lstm_recurrent(*GOOD, lengths=np.array([4, 0]))
    with pytest.raises(OptionError, match="cell: expected an object with init_state"):
        SequenceLayer(3)
    with pytest.raises(OptionError, match=r"cell.input_size: expected a whole number.*; got None"):
        SequenceLayer(Sizeless())
    dstate = sLSTMState(*np.full((4, 2, 4), np.nan))
    y, _, cache = slstm_recurrent(*GOOD)
    with pytest.raises(NonFiniteError, match=r"dstate\.h"):
        slstm_recurrent_backward(y, cache, dstate)


class Sizeless:
    """An object with the methods of a cell, but without its sizes."""

    init_state = forward = backward = len


def test_foreign_caches() -> None:
    y, _, cache = slstm_recurrent(*GOOD)
    with pytest.raises(CacheError, match=r"expected the LSTMScanCache .*; got sLSTMScanCache"):
        lstm_recurrent_backward(y, cache)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"dy: expected shape \(2, 3, 4\)"):
        slstm_recurrent_backward(y[:1], cache)
    x, layers = (
        np.zeros((2, 3, 5)),
        (LSTMSequence(5, 4), sLSTM(5, 4), SequenceLayer(LSTMCell(5, 4))),
    )
    caches = [layer.forward(x)[2] for layer in layers]
    for n, layer in enumerate(layers):
        for foreign in (*caches[:n], *caches[n + 1 :]):
            with pytest.raises(CacheError, match=r"cache: expected (the|one made)"):
                layer.backward(y, foreign)
        with pytest.raises(CacheError, match="got NoneType"):
            layer.backward(y, None)
        with pytest.raises(ShapeError, match=r"dy: expected shape \(2, 3, 4\); got \(1, 3, 4\)"):
            layer.backward(y[:1], caches[n])


@pytest.mark.parametrize(
    ("layer", "other"),
    [
        (LSTMSequence(3, 4), LSTMSequence(5, 4)),
        (LSTMSequence(3, 4), LSTMSequence(3, 6)),
        (sLSTM(3, 4, 2), sLSTM(3, 4, 1)),
        (mLSTM(3, 4, 2), mLSTM(3, 4, 2, qk_dim=8)),
        (LSTMSequence(3, 4), LSTMSequence(3, 4, dtype=np.float32)),
        (LSTMSequence(3, 4), LSTMSequence(3, 4, batch_first=False)),
        (CausalConv1d(4, 3), CausalConv1d(4, 2)),
        (LanguageModel(4, 3, LSTMSequence(3, 4)), LanguageModel(4, 3, LSTMSequence(3, 5))),
    ],
    ids=str,
)
def test_a_cache_of_another_size_dtype_or_layout_is_refused(layer: Any, other: Any) -> None:
    tokens = isinstance(other, LanguageModel)
    x = np.ones((2, 2), int) if tokens else np.ones((2, 2, other.in_features), other.dtype)
    _, _, cache = other.forward(x)
    with pytest.raises(CacheError, match=r"cache: expected one made by a \w+ with \[.*; got one"):
        layer.backward(np.ones((2, 2, 4)), cache)
