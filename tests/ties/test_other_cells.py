"""Layers and public recurrences equal the unrolled cells: small ones, and at every threshold."""

from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm import (
    ElmanCell,
    GRUCell,
    LSTMCell,
    LSTMPCell,
    OriginalGRUCell,
    PeepholeLSTMCell,
    SequenceLayer,
    gate_rows,
    lstm_recurrent,
    lstm_recurrent_backward,
    slstm_recurrent,
    slstm_recurrent_backward,
    sLSTMCell,
)
from numpy_xlstm.cells.unroll import unroll, unroll_backward
from numpy_xlstm.kernels import common, compiled, scan
from numpy_xlstm.layers.sequence import KERNELS
from numpy_xlstm.numerics import Array, threads
from numpy_xlstm.trees import leaves, tree_map
from tests.samples import mostly, random_state, times
from tests.variants import assert_close, largest

OTHER_CELLS: dict[str, Any] = {
    "gru": GRUCell,
    "tanh": ElmanCell,
    "relu": partial(ElmanCell, nonlinearity="relu"),
    "peephole": PeepholeLSTMCell,
    "projected": lambda D, H, **options: LSTMPCell(D, H, max(1, H // 2), **options),
}
CELLS = OTHER_CELLS | {
    "lstm": LSTMCell,
    "slstm": partial(sLSTMCell, num_heads=2),
    "slstm exp": partial(sLSTMCell, num_heads=2, forget_gate="exp"),
    "slstm one head": sLSTMCell,
}
UNROLLED: dict[str, Any] = {"original GRU": OriginalGRUCell}
"""A cell without a kernel."""
DTYPES: dict[Any, float] = {np.float32: 1e-5, np.float64: 1e-12, np.longdouble: 1e-12}
if np.finfo(np.longdouble).eps < 1e-18:
    DTYPES[np.longdouble] = 1e-15
RECURRENCES: dict[str, Any] = {
    "lstm": (lstm_recurrent, lstm_recurrent_backward, {}),
    "slstm": (slstm_recurrent, slstm_recurrent_backward, {"forget_gate": "sigmoid"}),
    "slstm exp": (slstm_recurrent, slstm_recurrent_backward, {"forget_gate": "exp"}),
}
"""Public functions of given pre-activations, their backwards and options."""


class Results(NamedTuple):
    y: Array
    state: Any
    dx: Array
    dstate0: Any
    grads: dict[str, Array]


def assert_same(got: Any, expected: Any, rtol: float, atol: float = 0.0) -> None:
    """Compare dtypes, and shapes and numbers as :func:`assert_close` does."""
    for (name, a), (_, b) in zip(leaves("", got), leaves("", expected), strict=True):
        assert a.dtype == b.dtype, name
    assert_close(got, expected, rtol, atol)


def assert_tied(got: Results, expected: Results, bound: float) -> None:
    assert_same(got[:2], expected[:2], bound, bound / 1000)
    assert got.grads.keys() == expected.grads.keys()
    found, wanted = (
        (r.dx, r.dstate0, tuple(r.grads[name] for name in expected.grads)) for r in (got, expected)
    )
    assert_same(found, wanted, 10 * bound, bound / 10 * largest(wanted))


def starting_state(kind: str, cell: Any, B: int, rng: np.random.Generator) -> Any:
    """Return None or a random state, for an sLSTM also one with n = 0 and finite m."""
    state = random_state(cell.init_state(B), rng)
    if kind == "empty" or not hasattr(state, "m"):
        return None if kind == "empty" else state
    _, c, n, m = state
    if kind == "zero":
        return state._replace(c=0 * c, n=0 * n, m=0 * m)
    if kind == "far":
        place = rng.random(m.shape)
        c, n = np.where(place < 0.7, 0, c), np.where(place < 0.7, 0, n)
        m = np.where(rng.random(m.shape) < 0.5, m.dtype.type(2000), m)
        return state._replace(c=c, n=n, m=np.where(place < 0.2, -np.inf, m))
    return state


def recurrent(kind: str, cell: Any, x: Array, state: Any, ends: Any, dy: Array, d: Any) -> Results:
    """Run the public recurrence between two matrix products."""
    W, R, b = (cell.params[name] for name in "WRb")
    forward, backward, options = RECURRENCES[kind]
    heads = R.reshape(-1, 4 * R.shape[-1], R.shape[-1])
    Wx = np.einsum("gd,btd->btg", W, x) + b
    y, after, cache = forward(Wx, heads, state, lengths=ends, **options)
    dWx, dR, dstate0 = backward(dy, cache, d)
    assert dR.shape == heads.shape
    dW = np.einsum("btg,btd->gd", dWx, x)
    grads = {"W": dW, "R": dR.reshape(R.shape), "b": dWx.sum((0, 1))}
    return Results(y, after, np.einsum("btg,gd->btd", dWx, W), dstate0, grads)


def tied(
    kind: str,
    dtype: Any,
    sizes: tuple[int, ...],
    lengths: Any,
    seed: int,
    start: str = "random",
    extreme: float = 0,
    time_first: bool = False,
) -> None:
    """Compare outputs, states and all gradients, under cotangents on everything.

    With ``extreme``, every pre-activation is ±extreme or 0, except that the recurrence adds to
    gates other than those of input and forgetting.
    """
    (B, T, D, H), rng = sizes, np.random.default_rng(seed)

    def like(array: Any) -> Any:
        return rng.standard_normal(array.shape).astype(dtype)

    def turned(array: Any) -> Any:
        return array.swapaxes(0, 1) if time_first else array

    cell = (CELLS | UNROLLED)[kind](4 * H if extreme else D, H, dtype=dtype, rng=rng)
    size = dtype(0.7 * min(1, (5 / H) ** 0.5))
    cell = cell.with_params({name: size * like(a) for name, a in cell.params.items()})
    x, state = like(np.empty((B, T, cell.input_size))), starting_state(start, cell, B, rng)
    if extreme:
        cell.params["W"][...], cell.params["b"][...] = np.eye(4 * H), 0
        for gate in "if":
            gate_rows(cell.params["R"], gate)[...] = 0
        x[...] = extreme * rng.integers(-1, 2, x.shape)
    ends = (
        None
        if lengths is None
        else np.array([lengths[b % len(lengths)] % (T + 1) for b in range(B)])
    )
    layer = SequenceLayer(cell, batch_first=not time_first)
    assert (layer.kernel is None) == (kind in UNROLLED)
    bound = DTYPES[dtype] if layer.kernel else 0.0
    y, after, cache = layer.forward(turned(x), state, lengths=ends)
    evaluated, last = layer(turned(x), state, lengths=ends)
    assert_same((evaluated, last), (y, after), bound, bound)
    y = turned(y)
    dy, dafter = like(y), tree_map(like, after)
    wanted_y, wanted_after, kept = unroll(cell, x, state, lengths=ends)
    wanted = Results(wanted_y, wanted_after, *unroll_backward(dy, kept, dafter))
    before = tree_map(np.copy, (x, dy, tuple(cell.params.values())))
    dx, dstate0, grads = layer.backward(turned(dy), cache, dafter)
    assert_same((x, dy, tuple(cell.params.values())), before, 0.0)
    assert_tied(Results(y, after, turned(dx), dstate0, grads), wanted, bound)
    if kind in RECURRENCES:
        assert_tied(recurrent(kind, cell, x, state, ends, dy, dafter), wanted, bound)


def test_every_kernel_is_tied() -> None:
    assert {type(make(2, 2)) for make in CELLS.values()} == KERNELS.keys()


sizes = st.tuples(mostly(3, "batch"), st.integers(0, 9), mostly(4, "inputs"), mostly(5, "units"))
LENGTHS = st.none() | st.lists(st.integers(0, 9), min_size=1, max_size=3)
STATES = st.sampled_from(["empty", "random", "zero", "far"])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", CELLS)
@given(sizes=sizes, lengths=LENGTHS, seed=st.integers(0, 2**16), start=STATES)
def test_the_kernel_is_the_cell(
    kind: str, dtype: Any, sizes: tuple[int, ...], lengths: Any, seed: int, start: str
) -> None:
    B, T, D, H = sizes
    H += H % 2 if kind.startswith("slstm") else 0  # for two heads
    tied(kind, dtype, (B, T, D, H), lengths, seed, start)


@pytest.mark.parametrize("size", [30.0, 300.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["lstm", "slstm", "slstm exp"])
@times(0.3)
@given(sizes=sizes, lengths=LENGTHS, seed=st.integers(0, 2**16), start=STATES)
def test_extreme_gates(
    kind: str, dtype: Any, size: float, sizes: tuple[int, ...], lengths: Any, seed: int, start: str
) -> None:
    B, T, D, H = sizes
    tied(kind, dtype, (B, T, D, H + H % 2), lengths, seed, start, size)


@pytest.mark.parametrize("kind", ["gru", "slstm", *UNROLLED])
def test_the_first_axis_may_be_the_time(kind: str) -> None:
    tied(kind, np.float64, (2, 5, 3, 4), [5, 2], 0, time_first=True)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("kind", ["gru", "tanh", "relu", "peephole"])
def test_gradients_of_gates_at_zero_and_far_from_it(
    kind: str, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each gradient has its digits, however small it is; x are the pre-activations."""
    if not fast:
        monkeypatch.setattr(scan, "compiled", lambda dtype: False)
    gates = {"gru": 3, "peephole": 4}.get(kind, 1)
    rng, cell = np.random.default_rng(0), CELLS[kind](gates, 1)
    params = {n: np.zeros_like(a) for n, a in cell.params.items()} | {"W": np.eye(gates)}
    params |= {name: a + 0.5 for name, a in params.items() if name == "b_h"}
    cell = cell.with_params(params)
    x = rng.choice([-40.0, -0.5, 0.0, 0.5, 40.0], (200, 1, gates))
    state = tree_map(lambda a: rng.standard_normal(a.shape), cell.init_state(200))
    layer, dy = SequenceLayer(cell), rng.standard_normal((200, 1, 1))
    _, after, cache = layer.forward(x, state)
    found = layer.backward(dy, cache, after)
    wanted = unroll_backward(dy, unroll(cell, x, state)[2], after)
    for (name, a), (_, b) in zip(leaves("", found[:2]), leaves("", wanted[:2]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, err_msg=name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("kind", OTHER_CELLS)
def test_few_steps_at_a_time(
    kind: str, fast: bool, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies and derivatives of long sequences are made for some steps at a time."""
    monkeypatch.setattr(scan, "BLOCK", 30)
    if not fast:
        monkeypatch.setattr(scan, "compiled", lambda dtype: False)
    for seed in range(5):
        tied(kind, dtype, (3, 7, 3, 4), [7, 0, 4], seed)


SIZES = [(B, H) for B in (1, 2, 3, 7, 8, 9, 17) for H in (8, 14, 16, 18, 30, 32, 34, 66)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("B", "H"), SIZES)
@pytest.mark.parametrize("kind", ["lstm", "gru", "slstm"])
def test_on_both_sides_of_every_width(kind: str, B: int, H: int, dtype: Any) -> None:
    """Rows are multiplied 8, 6, 2 or 1 at a time, by 1, 2 or 4 panels of 8 or 16 columns."""
    tied(kind, dtype, (B, 3, 2, H), [3, 0, 2], 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("T", [4, 8, 16, 32])
@pytest.mark.parametrize("kind", [*OTHER_CELLS, "lstm", "slstm one head"])
def test_strides_of_a_vector_register(kind: str, T: int, dtype: Any) -> None:
    """With one row of one unit, steps have a stride of T, at which vectorised loops had bugs."""
    tied(kind, dtype, (1, T, 2, 1), None, T)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("kind", "DH"), [("lstm", 64), ("lstm", 35), ("slstm exp", 32)])
def test_bits_depend_neither_on_threads_nor_on_other_rows(
    kind: str, DH: int, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads are divided between threads, but not those of 35 units, no multiple of a vector."""
    if not compiled(dtype):
        pytest.skip("NumPy's products depend on the number of rows")
    B, T, NH = 9, 5, 4
    rng, (forward, backward, options) = np.random.default_rng(0), RECURRENCES[kind]
    Wx, dy = (rng.standard_normal((B, T, n * NH * DH)).astype(dtype) for n in (4, 1))
    R, lengths = rng.standard_normal((NH, 4 * DH, DH)).astype(dtype), rng.integers(0, T + 1, B)
    dlast = rng.standard_normal((4, B, NH * DH)).astype(dtype)

    def results(rows: slice = slice(None)) -> list[Array]:
        y, state, cache = forward(Wx[rows], R, lengths=lengths[rows], **options)
        dWx, _, dstate0 = backward(dy[rows], cache, type(state)(*dlast[: len(state), rows]))
        return [array for _, array in leaves("", (y, state, dWx, dstate0))]

    alone = [results(slice(b, b + 1)) for b in range(B)]
    expected = [np.concatenate(rows) for rows in zip(*alone, strict=True)]
    for module in (common, scan):
        monkeypatch.setattr(module, "WORTH_THREADS", 0)
    for count, rows in product((1, 2, 3, 4, 7), (2, 8)):
        monkeypatch.setattr(scan, "ROWS", rows)
        for module in (threads, scan):
            monkeypatch.setattr(module, "num_threads", lambda count=count: count)
        for array, wanted in zip(results(), expected, strict=True):
            np.testing.assert_array_equal(array, wanted)


@pytest.mark.parametrize("B", [4, 5])
@pytest.mark.parametrize("kind", CELLS)
def test_rows_and_heads_on_threads(kind: str, B: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (common, scan):
        monkeypatch.setattr(module, "WORTH_THREADS", 0)
    for module in (threads, scan):
        monkeypatch.setattr(module, "num_threads", lambda: 4)
    monkeypatch.setattr(scan, "ROWS", 2)
    monkeypatch.setattr(scan, "UNITS", 2)
    tied(kind, np.float64, (B, 6, 3, 4), [6, 0, 3], 1)
