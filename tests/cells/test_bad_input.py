"""Caches of both forms of mLSTM, entries without a memory, and options of layers."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    mLSTM,
    mlstm_chunkwise,
    mlstm_chunkwise_backward,
    mlstm_parallel,
    mlstm_parallel_backward,
    sLSTM,
)


def test_parallel_and_chunkwise_form_read_each_others_caches() -> None:
    """The caches of both forms record the chunks, and the gradients are the same."""
    rng = np.random.default_rng(0)
    q, k, v, dh = rng.standard_normal((4, 1, 2, 5, 4))
    i, f = rng.standard_normal((2, 1, 2, 5))
    whole = mlstm_parallel(q, k, v, i, f)[2]
    cut = mlstm_chunkwise(q, k, v, i, f, chunk_size=2)[2]
    expected = mlstm_parallel_backward(dh, whole)[:5]
    for found in (mlstm_chunkwise_backward(dh, whole), mlstm_parallel_backward(dh, cut)):
        for got, want in zip(found[:5], expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("make", [sLSTM, mLSTM])
def test_without_a_stabiliser_there_is_no_memory(make: Any) -> None:
    """Where m is −inf, the entry is empty for any c and n."""
    rng = np.random.default_rng(0)
    layer = make(3, 4, rng=rng)
    x, state = rng.standard_normal((2, 3, 3)), layer.init_state(2)
    memory = {
        name: rng.standard_normal(getattr(state, name).shape)
        for name in {"c", "C", "n"} & {*state._fields}
    }
    y, after = layer(x, state._replace(**memory))
    expected, empty = layer(x, state)
    np.testing.assert_array_equal(y, expected)
    for got, want in zip(after, empty, strict=True):
        np.testing.assert_array_equal(got, want)


def test_options_of_a_layer_are_those_of_its_cell() -> None:
    layer = mLSTM(3, 4, eps=0.5, forget_gate="exp")
    assert (layer.eps, layer.cell.eps, layer.options["eps"]) == (0.5, 0.5, 0.5)
    with pytest.raises(AttributeError):
        layer.eps = 1.0
    with pytest.raises(AttributeError):
        sLSTM(3, 4).forget_gate = "exp"
