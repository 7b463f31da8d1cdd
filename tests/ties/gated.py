"""Random cases of LSTM and sLSTM, computed by the unrolled cell, the layer and the kernel."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from numpy_xlstm.cells.unroll import unroll, unroll_backward
from numpy_xlstm.kernels import (
    lstm_recurrent,
    lstm_recurrent_backward,
    slstm_recurrent,
    slstm_recurrent_backward,
)
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves
from tests import variants
from tests.samples import random_state
from tests.variants import VARIANTS, Variant, assert_close


@dataclass(frozen=True)
class Sizes:
    """A random case: a cell, sizes, kinds of state and lengths, and a seed."""

    variant: Variant
    sizes: variants.Sizes
    state: str
    padded: bool

    @property
    def width(self) -> int:
        return self.sizes.DH * (self.sizes.NH if self.variant.has_heads else 1)


sizes = st.builds(
    Sizes,
    variant=st.sampled_from([variant for variant in VARIANTS if not variant.is_mlstm]),
    sizes=variants.sizes,
    state=st.sampled_from(["empty", "random", "zero", "far"]),
    padded=st.booleans(),
)


class Results(NamedTuple):
    """Results of a forward and a backward."""

    y: Array
    state: Any
    dx: Array
    dstate0: Any
    grads: dict[str, Array]


class Case:
    """Make a layer with random parameters, inputs and cotangents."""

    def __init__(self, s: Sizes, dtype: Any = np.float64) -> None:
        case, B, T = variants.make(s.variant, s.sizes, dtype=dtype), s.sizes.B, s.sizes.T
        self.layer, self.x, self.rng, self.options = case.layer, case.x, case.rng, s.variant.options
        self.state = self.starting_state(s.state, B)
        self.lengths: Any = self.rng.integers(0, T + 1, B) if s.padded else None
        self.dy = self.rng.standard_normal((B, T, s.width)).astype(dtype)
        self.dstate = case.like(self.layer.init_state(B))

    def starting_state(self, kind: str, B: int) -> Any:
        """Return None or a random state, for an sLSTM also one with n = 0 and finite m."""
        if kind == "empty":
            return None
        state: Any = random_state(self.layer.init_state(B), self.rng)
        if not hasattr(state, "m"):
            return state
        _, c, n, m = state
        if kind == "zero":
            return state._replace(c=0 * c, n=0 * n, m=0 * m)
        if kind == "far":
            place = self.rng.random(m.shape)
            c, n = np.where(place < 0.7, 0, c), np.where(place < 0.7, 0, n)
            m = np.where(self.rng.random(m.shape) < 0.5, m.dtype.type(2000), m)
            return state._replace(c=c, n=n, m=np.where(place < 0.2, -np.inf, m))
        return state

    def unrolled(self) -> Results:
        cell = self.layer.cell
        y, state, cache = unroll(cell, self.x, self.state, lengths=self.lengths)
        return Results(y, state, *unroll_backward(cell, self.dy, cache, self.dstate))

    def layered(self) -> Results:
        y, state, cache = self.layer.forward(self.x, self.state, lengths=self.lengths)
        return Results(y, state, *self.layer.backward(self.dy, cache, self.dstate))

    def recurrent(self) -> Results:
        """Run the kernel between two matrix products."""
        W, R, b = (self.layer.params[name] for name in "WRb")
        heads = R.reshape(-1, 4 * R.shape[-1], R.shape[-1])
        forward: Any = slstm_recurrent if self.options else lstm_recurrent
        backward: Any = slstm_recurrent_backward if self.options else lstm_recurrent_backward
        Wx = np.einsum("gd,btd->btg", W, self.x) + b
        y, state, cache = forward(Wx, heads, self.state, lengths=self.lengths, **self.options)
        dWx, dR, dstate0 = backward(self.dy, cache, self.dstate)
        assert dR.shape == heads.shape
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
