"""Sequence layers and recurrences: layouts, any cell, memory, and bad input."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm.cells.gru import GRUCell
from numpy_xlstm.cells.gru_original import OriginalGRUCell
from numpy_xlstm.cells.mlstm import mLSTMCell
from numpy_xlstm.cells.slstm import sLSTMCell
from numpy_xlstm.cells.unroll import unroll, unroll_backward
from numpy_xlstm.kernels import (
    lstm_recurrent,
    lstm_recurrent_backward,
    slstm_recurrent,
    slstm_recurrent_backward,
)
from numpy_xlstm.layers.sequence import SequenceLayer
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
