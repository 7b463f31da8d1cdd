"""LSTM with a projection: 50 digits, all gradients, LSTM as a special case, seeded mistakes."""

from typing import Any

import numpy as np
import pytest
from mpmath import mpf, tanh

from numpy_xlstm import LSTMCell, LSTMPCell, gradcheck, unroll, unroll_backward
from numpy_xlstm.numerics import Array
from tests.cells.custom_cells import Unrolled, normal
from tests.cells.plain import Vector, affine, exactly, sigma
from tests.variants import assert_close, spoiled

B, T, D, H, P = 2, 5, 3, 4, 2


def build(dtype: Any = np.float64, proj_size: int = P) -> tuple[Any, Array, Any, Any]:
    """A cell, a sequence and a state, all random."""
    rng = np.random.default_rng(0)
    cell = LSTMPCell(D, H, proj_size, dtype=dtype, rng=rng)
    for array in cell.params.values():
        array[...] = normal(array, rng)
    xs = normal(np.zeros((B, T, D), dtype), rng)
    return cell, xs, normal(cell.init_state(B), rng), rng


def plain_step(params: dict[str, Any], x: Vector, h: Vector, c: Vector) -> tuple[Vector, Vector]:
    """The state after a step, from the equations; one row of a batch."""
    p, units = {name: exactly(array) for name, array in params.items()}, range(H)
    recurrent = affine(p["R"], h, [mpf(0)] * (4 * H))
    a = [u + v for u, v in zip(affine(p["W"], x, p["b"]), recurrent, strict=True)]
    i, f, o = ([sigma(a[k * H + j]) for j in units] for k in (0, 1, 3))
    c = [f[j] * c[j] + i[j] * tanh(a[2 * H + j]) for j in units]
    m = [o[j] * tanh(c[j]) for j in units]
    return affine(p["W_hr"], m, [mpf(0)] * P), c


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_are_those_of_the_equations_in_50_digits(dtype: Any) -> None:
    cell, xs, state, _ = build(dtype)
    ys, last, _ = unroll(cell, xs, state)
    assert {a.dtype for a in (ys, *last)} == {np.dtype(dtype)}
    for row in range(B):
        h, c = exactly(state.h[row]), exactly(state.c[row])
        for t in range(T):
            h, c = plain_step(cell.params, exactly(xs[row, t]), h, c)
            for got, expected in zip(ys[row, t], h, strict=True):
                assert abs(float(got) - expected) < 30 * np.finfo(dtype).eps
        for got, expected in zip(last.c[row], c, strict=True):
            assert abs(float(got) - expected) < 30 * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("lengths", [None, np.array([5, 2])])
def test_gradients(dtype: Any, lengths: Any) -> None:
    cell, xs, state, _ = build(dtype)
    report = gradcheck(Unrolled(cell, lengths), xs, state, rng=1)
    assert report.passed, str(report)
    report = gradcheck(cell, xs[:, 0], state, rng=1)
    assert report.passed, str(report)
    assert {row.tensor for row in report.rows} >= {"W", "R", "b", "W_hr", "state.h", "state.c"}


def test_with_the_identity_as_projection_it_is_an_lstm() -> None:
    projected, xs, state, rng = build(proj_size=H)
    projected.params["W_hr"][...] = np.eye(H)
    lstm = LSTMCell(D, H).with_params({name: projected.params[name] for name in "WRb"})
    dys, dlast = normal(np.zeros((B, T, H)), rng), normal(state, rng)
    results = []
    for cell in (projected, lstm):
        ys, last, cache = unroll(cell, xs, state)
        dxs, dstate0, grads = unroll_backward(cell, dys, cache, dlast)
        results.append((ys, last, dxs, dstate0, *(grads[name] for name in "WRb")))
    assert_close(results[0], results[1], 1e-14)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("dh = dh + dh_next", "dh = dh"),
        ("dW_hr = dh.T @ m", "dW_hr = dh.T @ c"),
        ('dm = dh @ self.params["W_hr"]', 'dm = dh @ np.roll(self.params["W_hr"], 1, 1)'),
        ("do_pre = dm * np.tanh(c)", "do_pre = dm * m"),
        ("sigmoid_slope(o_pre)", "sigmoid_slope(i_pre)"),
        ("dc = dc_next + dm", "dc = dm"),
        ("* tanh_slope(c)", "* tanh_slope(z_pre)"),
        ("dz_pre = dc * i", "dz_pre = dc * f"),
        ("di_pre = dc * z", "di_pre = dc * c"),
        ("df_pre = dc * c_prev", "df_pre = dc * c"),
        ("dc_prev = f * dc", "dc_prev = dc"),
        ("[di_pre, df_pre, dz_pre", "[df_pre, di_pre, dz_pre"),
        ('dx = da @ self.params["W"]', 'dx = -da @ self.params["W"]'),
        ('da @ self.params["R"]', 'da @ np.roll(self.params["R"], 1, 0)'),
        ("dW = da.T @ x", "dW = da.T @ x / len(x)"),
        ("dR = da.T @ h_prev", "dR = da.T @ (m @ self.params['W_hr'].T)"),
        ("db = da.sum(axis=0)", "db = da.mean(axis=0)"),
    ],
)
def test_planted_errors_are_caught(right: str, wrong: str) -> None:
    rng = np.random.default_rng(8)
    layer = spoiled(LSTMPCell, right, wrong)(D, H, P, rng=rng)
    x, state = rng.standard_normal((3, D)), normal(layer.init_state(3), rng)
    report = gradcheck(layer, x, state, rng=1)
    assert {row.method for row in report.failures} == {"complex", "difference", "adjoint"}
