"""Random cases of LSTM and sLSTM, computed by the unrolled cell, the layer and the kernel."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from numpy_xlstm.cells.lstm import LSTMCell, LSTMState
from numpy_xlstm.cells.slstm import sLSTMCell, sLSTMState
from numpy_xlstm.cells.unroll import unroll, unroll_backward
from numpy_xlstm.kernels import (
    lstm_recurrent,
    lstm_recurrent_backward,
    slstm_recurrent,
    slstm_recurrent_backward,
)
from numpy_xlstm.layers.sequence import LSTMSequence
from numpy_xlstm.layers.slstm import sLSTM
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves, rebuild
from tests.variants import assert_close

KINDS = ("lstm", "slstm-sigmoid", "slstm-exp")
STATES = ("empty", "random", "zero", "far")


@dataclass(frozen=True)
class Sizes:
    """A random case: sizes, kinds of state and lengths, and a seed."""

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
    """Results of a forward and a backward."""

    y: Array
    state: Any
    dx: Array
    dstate0: Any
    grads: dict[str, Array]


class Case:
    """Make a cell with random parameters, its layer, inputs and cotangents."""

    def __init__(self, s: Sizes, dtype: Any = np.float64) -> None:
        self.rng, self.dtype = np.random.default_rng(s.seed), dtype
        self.options: dict[str, Any] = {} if s.kind == "lstm" else {"forget_gate": s.kind[6:]}
        NH = 1 if s.kind == "lstm" else s.NH
        H = NH * s.DH
        if s.kind == "lstm":
            self.cell: Any = LSTMCell(s.D, H, dtype=dtype)
            self.layer: Any = LSTMSequence(s.D, H, dtype=dtype)
        else:
            self.cell = sLSTMCell(s.D, H, NH, **self.options, dtype=dtype)
            self.layer = sLSTM(s.D, H, NH, **self.options, dtype=dtype)
        size = self.dtype(min(1, (4 / s.DH) ** 0.5))
        self.cell = self.cell.with_params(
            {name: size * self.normal(*array.shape) for name, array in self.cell.params.items()}
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
        """Return None or a random state, for an sLSTM also one with n = 0 and finite m."""
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
        """Run the kernel between two matrix products."""
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
    """Compare dtypes, and shapes and numbers as :func:`assert_close` does."""
    for (name, a), (_, b) in zip(leaves("", got), leaves("", expected), strict=True):
        assert a.dtype == b.dtype, name
    assert_close(got, expected, rtol, atol)


def assert_tied(got: Results, expected: Results, values: float, gradients: float) -> None:
    assert_same(got[:2], expected[:2], values, values / 1000)
    found, wanted = ((r.dx, r.dstate0, tuple(r.grads.values())) for r in (got, expected))
    assert got.grads.keys() == expected.grads.keys()
    largest = max(float(np.abs(a).max(initial=0)) for _, a in leaves("", wanted))
    assert_same(found, wanted, gradients, gradients / 100 * largest)
