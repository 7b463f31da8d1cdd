"""The sequences of LSTM and sLSTM are their cells at every step: kernels and layers."""

import tracemalloc
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm.cells.gru import GRUCell
from numpy_xlstm.cells.lstm import LSTMCell, LSTMState
from numpy_xlstm.cells.mlstm import mLSTMCell
from numpy_xlstm.cells.slstm import sLSTMCell, sLSTMState
from numpy_xlstm.cells.unroll import unroll, unroll_backward
from numpy_xlstm.errors import (
    CacheError,
    DTypeError,
    NonFiniteError,
    OptionError,
    ShapeError,
    StateError,
)
from numpy_xlstm.kernels import (
    lstm_recurrent,
    lstm_recurrent_backward,
    slstm_recurrent,
    slstm_recurrent_backward,
)
from numpy_xlstm.layers import sequence
from numpy_xlstm.layers.lstm import LSTM
from numpy_xlstm.layers.sequence import SequenceLayer
from numpy_xlstm.layers.slstm import sLSTM
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves, rebuild

KINDS = ("lstm", "slstm-sigmoid", "slstm-exp")
STATES = ("empty", "random", "zero", "far")


@dataclass(frozen=True)
class Sizes:
    """A random case: its sizes, what its state and lengths are, and the seed of its numbers."""

    kind: str
    B: int
    T: int
    D: int
    NH: int
    DH: int
    state: str
    padded: bool
    seed: int


sizes = st.builds(
    Sizes,
    kind=st.sampled_from(KINDS),
    B=st.integers(1, 4),
    T=st.integers(0, 12),
    D=st.integers(1, 4),
    NH=st.integers(1, 3),
    DH=st.integers(1, 4),
    state=st.sampled_from(STATES),
    padded=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)


class Results(NamedTuple):
    """All that a forward and a backward give."""

    y: Array
    state: Any
    dx: Array
    dstate0: Any
    grads: dict[str, Array]


class Case:
    """A cell with random parameters, its layer, inputs and cotangents."""

    def __init__(self, s: Sizes, dtype: Any = np.float64) -> None:
        self.rng, self.dtype = np.random.default_rng(s.seed), dtype
        self.options: dict[str, Any] = {} if s.kind == "lstm" else {"forget_gate": s.kind[6:]}
        NH = 1 if s.kind == "lstm" else s.NH
        H = NH * s.DH
        if s.kind == "lstm":
            self.cell: Any = LSTMCell(s.D, H, dtype=dtype)
            self.layer: Any = LSTM(s.D, H, dtype=dtype)
        else:
            self.cell = sLSTMCell(s.D, H, NH, **self.options, dtype=dtype)
            self.layer = sLSTM(s.D, H, NH, **self.options, dtype=dtype)
        self.cell = self.cell.with_params(
            {name: self.normal(*array.shape) for name, array in self.cell.params.items()}
        )
        self.layer = self.layer.with_params(self.cell.params)
        self.x = self.normal(s.B, s.T, s.D)
        self.state = self.starting_state(s.state, s.B)
        self.lengths: Any = self.rng.integers(0, s.T + 1, s.B) if s.padded else None
        self.dy = self.normal(s.B, s.T, H)
        like = self.cell.init_state(s.B)
        self.dstate = rebuild(like, (self.normal(*a.shape) for _, a in leaves("", like)))

    def normal(self, *shape: int) -> Array:
        return np.asarray(self.rng.standard_normal(shape)).astype(self.dtype)

    def starting_state(self, kind: str, B: int) -> Any:
        """None; or any; or, of an sLSTM, with n = 0 beside a finite m, which may be far above ĩ."""
        if kind == "empty":
            return None
        like = self.cell.init_state(B)
        h, c, *rest = (self.normal(*a.shape) for _, a in leaves("", like))
        if not rest:
            return LSTMState(h, c)
        n, m = np.abs(rest[0]) + self.dtype(0.1), rest[1]
        if kind == "zero":
            return sLSTMState(h, 0 * c, 0 * n, 0 * m)
        if kind == "far":
            some = self.rng.random(m.shape)
            c, n = np.where(some < 0.7, 0, c), np.where(some < 0.7, 0, n)
            m = np.where(self.rng.random(m.shape) < 0.5, self.dtype(2000), m)
            m = np.where(some < 0.2, -np.inf, m)
        return sLSTMState(h, c, n, m)

    def unrolled(self) -> Results:
        y, state, cache = unroll(self.cell, self.x, self.state, lengths=self.lengths)
        return Results(y, state, *unroll_backward(self.cell, self.dy, cache, self.dstate))

    def layered(self) -> Results:
        y, state, cache = self.layer.forward(self.x, self.state, lengths=self.lengths)
        return Results(y, state, *self.layer.backward(self.dy, cache, self.dstate))

    def recurrent(self) -> Results:
        """The kernel between two products."""
        W, R, b = (self.cell.params[name] for name in "WRb")
        heads = R.reshape(-1, 4 * R.shape[-1], R.shape[-1])
        lstm = isinstance(self.cell, LSTMCell)
        forward: Any = lstm_recurrent if lstm else slstm_recurrent
        backward: Any = lstm_recurrent_backward if lstm else slstm_recurrent_backward
        Wx = np.einsum("gd,btd->btg", W, self.x) + b
        y, state, cache = forward(Wx, heads, self.state, lengths=self.lengths, **self.options)
        dWx, dR, dstate0 = backward(self.dy, cache, self.dstate)
        dW = np.einsum("btg,btd->gd", dWx, self.x)
        grads = {"W": dW, "R": dR.reshape(R.shape), "b": dWx.sum((0, 1))}
        return Results(y, state, np.einsum("btg,gd->btd", dWx, W), dstate0, grads)


def assert_same(got: Any, expected: Any, rtol: float, atol: float = 0.0) -> None:
    """Same shapes and numbers, to rtol of the largest entry of each array; −inf equals −inf."""
    for (name, a), (_, b) in zip(leaves("", got), leaves("", expected), strict=True):
        assert a.shape == b.shape, name
        assert a.dtype == b.dtype, name
        empty = np.isneginf(a.real) & np.isneginf(b.real)
        a, b = np.where(empty, 0, a), np.where(empty, 0, b)
        assert np.isfinite(a).all(), name
        distance, scale = np.abs(a - b).max(initial=0), np.abs(b).max(initial=0)
        assert distance <= rtol * scale + atol, f"{name}: {distance:.2e} of {scale:.2e}"


def assert_tied(got: Results, expected: Results, values: float, gradients: float) -> None:
    assert_same(got[:2], expected[:2], values, values / 1000)
    found, wanted = ((r.dx, r.dstate0, tuple(r.grads.values())) for r in (got, expected))
    assert got.grads.keys() == expected.grads.keys()
    largest = max(float(np.abs(a).max(initial=0)) for _, a in leaves("", wanted))
    assert_same(found, wanted, gradients, gradients / 100 * largest)


@given(sizes)
def test_sequences_are_their_steps(s: Sizes) -> None:
    case = Case(s)
    expected = case.unrolled()
    assert_tied(case.layered(), expected, 1e-12, 1e-11)
    assert_tied(case.recurrent(), expected, 1e-12, 1e-11)


@given(sizes)
def test_in_extended_precision_to_a_thousandth_of_that(s: Sizes) -> None:
    """What the two compute is the same, and the rest is rounding."""
    case = Case(s, np.longdouble)
    bound = 1e-15 if np.finfo(np.longdouble).eps < 1e-18 else 1e-12
    assert_tied(case.layered(), case.unrolled(), bound, 10 * bound)


@given(sizes)
def test_in_single_precision(s: Sizes) -> None:
    case = Case(s, np.float32)
    assert_tied(case.layered(), case.unrolled(), 1e-4, 1e-3)


@given(sizes)
def test_an_infinitesimal_imaginary_part_goes_the_same_way(s: Sizes) -> None:
    """As far as complex128 is concerned, what the layer differentiates is the cell."""
    real = Case(s)
    case, step = Case(s, np.complex128), 1e-150
    case.cell = real.cell.astype(np.complex128)
    case.layer = case.layer.with_params(case.cell.params)
    case.state = real.state and type(real.state)(*(a.astype(complex) for a in real.state))
    case.x = real.x + 1j * step * real.rng.standard_normal(real.x.shape)
    y, state, _ = unroll(case.cell, case.x, case.state, lengths=real.lengths)
    got, last, cache = case.layer.forward(case.x, case.state, lengths=real.lengths)
    for part in (np.real, lambda a: np.imag(a) / step):
        found, wanted = ((part(a), *map(part, b)) for a, b in ((got, last), (y, state)))
        assert_same(found, wanted, 1e-11, 1e-13)
    dx, dstate0, grads = case.layer.backward(got, cache, case.dstate)
    assert {a.dtype for _, a in leaves("", (dx, dstate0, tuple(grads.values())))} == {got.dtype}


@given(sizes, st.sampled_from([30.0, 300.0]), st.sampled_from([np.float32, np.float64]))
def test_extreme_gates(s: Sizes, size: float, dtype: Any) -> None:
    """Every gate of every step is ±size or 0, but for what the recurrence adds to z and o."""
    case = Case(Sizes(**{**s.__dict__, "D": 4 * (1 if s.kind == "lstm" else s.NH) * s.DH}), dtype)
    params = case.cell.params
    params["W"][...], params["b"][...] = np.eye(len(params["W"])), 0
    R = params["R"].reshape(-1, 4, s.DH, s.DH)
    R[:, :2] = 0
    case.x[...] = size * case.rng.integers(-1, 2, case.x.shape)
    bounds = (1e-12, 1e-11) if dtype == np.float64 else (1e-5, 1e-4)
    assert_tied(case.layered(), case.unrolled(), *bounds)


@given(sizes)
def test_what_is_at_padding_does_not_matter(s: Sizes) -> None:
    case = Case(Sizes(**{**s.__dict__, "padded": True}))
    expected = case.layered()
    there = np.arange(s.T) < case.lengths[:, None]
    for array in (case.x, case.dy):
        array[~there] = 1e308  # whose products overflow
    assert_tied(case.layered(), expected, 1e-15, 1e-14)
    assert not expected.y[~there].any()
    assert not expected.dx[~there].any()


@given(sizes, st.integers(1, 5))
def test_evaluation_in_blocks(s: Sizes, block: int) -> None:
    case = Case(s)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequence, "EVALUATION_BLOCK", block)
        got = case.layer(case.x, case.state, lengths=case.lengths)
    assert_same(got, case.unrolled()[:2], 1e-12, 1e-15)


@given(sizes)
def test_time_major_is_batch_major_transposed(s: Sizes) -> None:
    case, expected = Case(s), Case(s).layered()
    case.layer.batch_first = False
    for array in ("x", "dy"):
        setattr(case, array, getattr(case, array).swapaxes(0, 1))
    got = case.layered()
    assert got.y.flags.c_contiguous
    got = got._replace(y=got.y.swapaxes(0, 1), dx=got.dx.swapaxes(0, 1))
    assert_tied(got, expected, 1e-13, 1e-12)


@pytest.mark.parametrize(("dtype", "f"), [(np.float64, 40.0), (np.float32, 17.5)])
@pytest.mark.parametrize("gate", ["sigmoid", "exp"])
def test_a_near_tie_sends_the_gradient_to_the_winner(dtype: Any, f: float, gate: str) -> None:
    """log σ(40) = −4e-18, which is log f here, loses to ĩ = 0, although f′ rounds to 1."""
    Wx, R = np.zeros((1, 2, 4), dtype), np.zeros((1, 4, 1), dtype)
    Wx[..., 1] = f if gate == "sigmoid" else -np.exp(-f)
    _, state, cache = slstm_recurrent(Wx, R, forget_gate=gate)
    zero = np.zeros((1, 1), dtype)
    dWx, _, _ = slstm_recurrent_backward(
        np.zeros((1, 2, 1), dtype), cache, sLSTMState(zero, zero, zero, zero + 1)
    )
    assert cache.gates[1, 1] == 1
    assert state.m == 0
    assert dWx[0, :, 0].tolist() == [0, 1]
    assert not dWx[..., 1:].any()


def test_a_tie_goes_to_the_past() -> None:
    Wx, R = np.zeros((1, 3, 4)), np.zeros((1, 4, 1))
    Wx[0, 0, 0] = 0.5
    Wx[0, 1:, 0] = Wx[0, 1:, 1] = [1.0, 2.0]
    Wx[0, 1, 1] = 0.5
    Wx[0, 2, 1] = 1.0
    _, state, cache = slstm_recurrent(Wx, R, forget_gate="exp")
    zero = np.zeros((1, 1))
    dWx, *_ = slstm_recurrent_backward(
        np.zeros((1, 3, 1)), cache, sLSTMState(zero, zero, zero, zero + 1)
    )
    assert state.m == 2
    assert dWx[0, :, 0].tolist() == [1, 0, 0]
    assert dWx[0, :, 1].tolist() == [0, 1, 1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_without_steps_keeps_the_zero_state(dtype: Any) -> None:
    """Beside a row that takes steps from it, in which i′ underflows."""
    Wx, R = np.zeros((2, 3, 4), dtype), np.zeros((1, 4, 1), dtype)
    Wx[..., 0] = -800
    zero, lengths = np.zeros((2, 1), dtype), np.array([0, 3])
    y, state, cache = slstm_recurrent(Wx, R, (zero,) * 4, lengths=lengths)
    assert [float(part[0, 0]) for part in state] == [0, 0, 0, 0]
    assert state.n[1] > 1
    dstate = sLSTMState(*(zero + k for k in (1, 2, 3, 4)))
    _, _, dstate0 = slstm_recurrent_backward(np.ones_like(y), cache, dstate)
    assert [float(part[0, 0]) for part in dstate0] == [1, 2, 3, 4]


def test_a_first_step_that_underflows_because_of_the_previous_output() -> None:
    """R h₋ = −800 for the input gate: e^−800 is 0, and so would n be."""
    cell = sLSTMCell(1, 2)
    for name, array in cell.params.items():
        array[...] = 0 if name == "R" else np.linspace(-1, 1, array.size).reshape(array.shape)
    cell.params["R"][0, :2, 0] = -800, 1
    layer = sLSTM(1, 2).with_params(cell.params)
    zero, x = np.zeros((1, 2)), np.ones((1, 3, 1))
    state = sLSTMState(zero + 1, zero, zero, zero)
    y, last, cache = layer.forward(x, state)
    expected = unroll(cell, x, state)
    assert_same((y, last), expected[:2], 1e-14)
    got = layer.backward(y, cache, last)
    wanted = unroll_backward(cell, y, expected[2], last)
    assert_same(got[:2], wanted[:2], 1e-13)


@pytest.mark.parametrize(
    ("c", "n", "message"),
    [
        (0.5, -0.1, r"state\.n: expected numbers of at least 0; got -0\.1"),
        (0.5, 0.0, r"state\.c: expected 0 where n is 0; got 0\.5"),
    ],
)
def test_states_of_no_slstm(c: float, n: float, message: str) -> None:
    state = sLSTMState(*(np.full((1, 2), value) for value in (0.0, c, n, 0.0)))
    layer = sLSTM(3, 2)
    x = np.zeros((1, 4, 3))
    for call in (layer.forward, layer):
        with pytest.raises(StateError, match=message):
            call(x, state)
    with pytest.raises(StateError, match=message):
        slstm_recurrent(np.zeros((1, 4, 8)), np.zeros((1, 8, 2)), state)


@given(sizes)
def test_nothing_that_went_in_is_changed_and_a_cache_can_be_used_again(s: Sizes) -> None:
    case = Case(s)

    def inputs() -> list[Array]:
        trees = (case.x, case.state, case.dy, case.dstate, tuple(case.layer.params.values()))
        return [array.copy() for _, array in leaves("", trees)]

    before = inputs()
    _, state, cache = case.layer.forward(case.x, case.state, lengths=case.lengths)
    for _, array in leaves("", state):
        array[...] = 7  # a state is the caller's
    first, again = (case.layer.backward(case.dy, cache, case.dstate) for _ in range(2))
    for one, other in zip(before, inputs(), strict=True):
        assert np.array_equal(one, other)
    assert_same((*first[:2], tuple(first[2].values())), (*again[:2], tuple(again[2].values())), 0.0)


@pytest.mark.parametrize("batch_first", [True, False])
def test_states_as_pytorch_has_them(batch_first: bool) -> None:
    rng = np.random.default_rng(0)
    layer = LSTM(5, 3, 1, batch_first=batch_first, rng=rng)
    x, (h, c) = rng.standard_normal((2, 10, 5)), rng.standard_normal((2, 1, 10, 3))
    if batch_first:
        x = x.swapaxes(0, 1)
    y, state, cache = layer.forward(x, (h, c))
    flat, flat_state, flat_cache = layer.forward(x, (h[0], c[0]))
    assert_same((y, state.h[0], state.c[0]), (flat, *flat_state), 0.0)
    assert state.h.shape == layer(x, (h, c))[1].h.shape == (1, 10, 3)
    dy = rng.standard_normal(y.shape)
    expected = layer.backward(dy, flat_cache, flat_state)[1]
    for dstate in (state, flat_state):
        got = layer.backward(dy, cache, dstate)[1]
        assert_same((got.h[0], got.c[0]), expected, 0.0)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kind", [GRUCell, mLSTMCell, sLSTMCell])
def test_any_cell_is_unrolled(kind: Any, batch_first: bool) -> None:
    rng = np.random.default_rng(0)
    cell = kind(3, 4, rng=rng)
    layer = SequenceLayer(cell, batch_first=batch_first)
    x, dy, lengths = rng.standard_normal((2, 5, 3)), rng.standard_normal((2, 5, 4)), [5, 2]

    def swapped(array: Array) -> Array:
        return array if batch_first else array.swapaxes(0, 1)

    y, state, cache = unroll(cell, x, lengths=np.array(lengths))
    got, last, kept = layer.forward(swapped(x), lengths=np.array(lengths))
    assert_same((swapped(got), last), (y, state), 0.0)
    assert_same(layer(swapped(x), lengths=np.array(lengths)), (got, last), 0.0)
    dx, dstate0, grads = unroll_backward(cell, dy, cache, state)
    found = layer.backward(swapped(dy), kept, state)
    assert_same((swapped(found[0]), found[1]), (dx, dstate0), 0.0)
    assert_same(tuple(found[2].values()), tuple(grads.values()), 0.0)
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
    with pytest.raises(OptionError, match="num_layers: expected 1"):
        LSTM(3, 4, 2)
    h = np.zeros((1, 10, 5))
    with pytest.raises(ShapeError, match=r"expected shape \(2, 5\); got \(10, 5\); x is read as"):
        LSTM(5, 5).forward(np.zeros((2, 10, 5)), (h, h))
    dstate = sLSTMState(*np.full((4, 2, 4), np.nan))
    y, _, cache = slstm_recurrent(*GOOD)
    with pytest.raises(NonFiniteError, match=r"dstate\.h"):
        slstm_recurrent_backward(y, cache, dstate)


def test_foreign_caches() -> None:
    y, _, cache = slstm_recurrent(*GOOD)
    with pytest.raises(CacheError, match=r"expected the LSTMScanCache .*; got sLSTMScanCache"):
        lstm_recurrent_backward(y, cache)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"dy: expected shape \(2, 3, 4\)"):
        slstm_recurrent_backward(y[:1], cache)
    x, layers = np.zeros((2, 3, 5)), (LSTM(5, 4), sLSTM(5, 4), SequenceLayer(LSTMCell(5, 4)))
    caches = [layer.forward(x)[2] for layer in layers]
    for n, layer in enumerate(layers):
        for foreign in (*caches[:n], *caches[n + 1 :]):
            with pytest.raises(CacheError, match=r"cache: expected the .* that this forward has"):
                layer.backward(y, foreign)
        with pytest.raises(CacheError, match="got NoneType"):
            layer.backward(y, None)  # type: ignore[arg-type]
        with pytest.raises(ShapeError, match=r"dy: expected shape \(2, 3, 4\); got \(1, 3, 4\)"):
            layer.backward(y[:1], caches[n])
