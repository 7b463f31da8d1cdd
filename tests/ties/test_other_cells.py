"""Kernels of GRU, Elman, projected and peephole LSTM equal the unrolled cells."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm import (
    ElmanCell,
    GRUCell,
    LSTMPCell,
    PeepholeLSTMCell,
    SequenceLayer,
    unroll,
    unroll_backward,
)
from numpy_xlstm.kernels import scan
from numpy_xlstm.numerics import threads
from numpy_xlstm.trees import tree_map
from tests.ties.gated import assert_same

CELLS: dict[str, Any] = {
    "gru": GRUCell,
    "tanh": ElmanCell,
    "relu": lambda D, H, **options: ElmanCell(D, H, nonlinearity="relu", **options),
    "peephole": PeepholeLSTMCell,
    "projected": lambda D, H, **options: LSTMPCell(D, H, max(1, H // 2), **options),
}
DTYPES: dict[Any, float] = {np.float32: 2e-5, np.float64: 1e-12, np.longdouble: 1e-15}


def tied(kind: str, dtype: Any, sizes: tuple[int, ...], lengths: Any, seed: int) -> None:
    """Compare outputs, states and all gradients, under cotangents on everything."""
    (B, T, D, H), rng = sizes, np.random.default_rng(seed)

    def like(array: Any) -> Any:
        return rng.standard_normal(array.shape).astype(dtype)

    cell = CELLS[kind](D, H, dtype=dtype, rng=rng)
    cell = cell.with_params({name: 0.7 * like(a) for name, a in cell.params.items()})
    x, state = like(np.empty((B, T, D))), tree_map(like, cell.init_state(B))
    ends = (
        None
        if lengths is None
        else np.array([lengths[b % len(lengths)] % (T + 1) for b in range(B)])
    )
    layer = SequenceLayer(cell)
    assert layer.kernel is not None
    y, after, cache = layer.forward(x, state, lengths=ends)
    dy, dafter = like(y), tree_map(like, after)
    wanted_y, wanted_after, kept = unroll(cell, x, state, lengths=ends)
    wanted = unroll_backward(cell, dy, kept, dafter)
    before = tree_map(np.copy, (x, dy, tuple(cell.params.values())))
    found = layer.backward(dy, cache, dafter)
    assert_same((x, dy, tuple(cell.params.values())), before, 0.0)
    scale = max(1.0, *(float(np.abs(a).max(initial=0)) for a in (wanted[0], *wanted[2].values())))
    assert_same((y, after), (wanted_y, wanted_after), DTYPES[dtype], DTYPES[dtype])
    assert found[2].keys() == wanted[2].keys()
    got = found[0], found[1], tuple(found[2][name] for name in wanted[2])
    expected = wanted[0], wanted[1], tuple(wanted[2].values())
    assert_same(got, expected, 10 * DTYPES[dtype], DTYPES[dtype] * scale)


sizes = st.tuples(st.integers(1, 3), st.integers(0, 6), st.integers(1, 4), st.integers(1, 5))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", CELLS)
@given(
    sizes=sizes,
    lengths=st.none() | st.lists(st.integers(0, 6), min_size=1, max_size=3),
    seed=st.integers(0, 2**16),
)
def test_the_kernel_is_the_cell(
    kind: str, dtype: Any, sizes: tuple[int, ...], lengths: Any, seed: int
) -> None:
    tied(kind, dtype, sizes, lengths, seed)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", CELLS)
def test_over_arrays_too(kind: str, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where numba is installed."""
    monkeypatch.setattr(scan, "compiled", lambda dtype: False)
    for seed in range(10):
        tied(kind, dtype, (2, 5, 3, 4), [5, 2, 0], seed)


@pytest.mark.parametrize("kind", CELLS)
def test_pieces_do_not_depend_on_threads(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch split into rows for threads gives the same results as the whole batch."""
    monkeypatch.setattr(scan, "WORTH_THREADS", 0)
    monkeypatch.setattr(scan, "ROWS", 2)
    monkeypatch.setattr(threads, "num_threads", lambda: 2)
    tied(kind, np.float64, (5, 6, 3, 4), [6, 0, 3], 1)
