"""The gradient of the forget gate has no cancellation where log f + m₋ is the maximum."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm import mLSTMCell, mLSTMState, sLSTM, sLSTMCell, sLSTMState
from numpy_xlstm.cells.unroll import unroll, unroll_backward
from numpy_xlstm.kernels import slstm_recurrent, slstm_recurrent_backward
from numpy_xlstm.numerics import Array
from tests.ties.test_mlstm import FORMS, pair


def worst(found: Array, exact: Array) -> float:
    return float(np.abs(found - exact).max() / np.abs(exact).max())


@pytest.mark.parametrize("spike", [20, 30])
@pytest.mark.parametrize("unrolled", [True, False])
def test_slstm_after_a_spike(spike: float, unrolled: bool) -> None:
    """Errors were 0.26 and 5e3 of the largest gradient in the kernel, and 3e-4 in the cell."""
    rng = np.random.default_rng(1)
    layer = sLSTM(4, 8, num_heads=2, dtype=np.float32, rng=rng)
    params = dict(layer.params)
    params["W"][:8, 0] = spike  # of ĩ, by an entry of x that is 1 at the first step and then 0
    x, dy = (rng.standard_normal((1, 64, n)).astype(np.float32) for n in (4, 8))
    x[:, :, 0] = 0
    x[:, 0, 0] = 1

    def gradient(dtype: Any) -> Array:
        cast = {name: array.astype(dtype) for name, array in params.items()}
        if unrolled:
            cell = sLSTMCell(4, 8, num_heads=2, dtype=dtype).with_params(cast)
            _, _, steps = unroll(cell, x.astype(dtype))
            return unroll_backward(dy.astype(dtype), steps)[2]["b"][8:16]
        same = sLSTM(4, 8, num_heads=2, dtype=dtype).with_params(cast)
        _, _, cache = same.forward(x.astype(dtype))
        return same.backward(dy.astype(dtype), cache)[2]["b"][8:16]

    assert worst(gradient(np.float32), gradient(np.float64)) < 3e-5


@pytest.mark.parametrize("spike", [20, 30])
@pytest.mark.parametrize("form", FORMS)
def test_mlstm_after_a_spike(spike: float, form: str) -> None:
    """With ε = 0 and the denominator |q·n|, errors of the forms were up to 10."""
    rng = np.random.default_rng(2)
    q, k, v, dh = rng.standard_normal((4, 1, 2, 64, 4)).astype(np.float32)
    k[..., 0], q[..., 0] = 2 + np.abs(k[..., 0]), 2 + np.abs(q[..., 0])
    i, f = rng.standard_normal((2, 1, 2, 64)).astype(np.float32)
    i[..., 0], f = spike, f + np.float32(3)
    run, back = pair(form)

    def gradient(dtype: Any) -> Array:
        *inputs, cotangent = (a.astype(dtype) for a in (q, k, v, i, f, dh))
        found: Array = back(cotangent, run(*inputs, eps=0.0)[2])[4]
        return found

    assert worst(gradient(np.float32), gradient(np.float64)) < 3e-5


@pytest.mark.parametrize("step", [10.0, 20.0, 30.0, 40.0])
@pytest.mark.parametrize("kernel", [True, False])
def test_a_loss_on_the_final_normaliser_of_an_slstm(step: float, kernel: bool) -> None:
    """n = f′ n₋ + 1 with f′ = e^(f̃ + m₋ − ĩ): the gradient of ĩ is −f′, and was 1 − 1 − f′."""
    pre = np.array([[[0.3, 0.5, 0.2, 0.1], [step, 0.7, -0.4, 0.6]]])
    zero, one, dy = np.zeros((1, 1)), np.ones((1, 1)), np.zeros((1, 2, 1))
    dstate = sLSTMState(zero, zero, one, zero)
    if kernel:
        _, _, cache = slstm_recurrent(pre, np.zeros((1, 4, 1)), forget_gate="exp")
        d, _, _ = slstm_recurrent_backward(dy, cache, dstate)
    else:
        cell = sLSTMCell(4, 1, forget_gate="exp").with_params(
            {"W": np.eye(4), "R": np.zeros((1, 4, 1)), "b": np.zeros(4)}
        )
        _, _, kept = unroll(cell, pre)
        d, _, _ = unroll_backward(dy, kept, dstate)
    left = np.exp(0.7 + 0.3 - step)
    np.testing.assert_allclose(d[0, :, :2], [[left, 0], [-left, left]], rtol=1e-13)


@pytest.mark.parametrize("step", [10.0, 20.0, 30.0, 40.0])
@pytest.mark.parametrize("form", ["cell", *FORMS])
def test_a_loss_on_the_final_normaliser_of_an_mlstm(step: float, form: str) -> None:
    """The same, with keys of 1 and −2."""
    inputs = np.array([[0.5, 0.7], [1.0, -2.0], [1.0, 1.0], [0.3, step], [0.5, 0.7]])  # q k v i f
    dstate = mLSTMState(np.zeros((1, 1, 1, 1)), np.ones((1, 1, 1)), np.zeros((1, 1)))
    if form == "cell":
        cell = mLSTMCell(5, 1, forget_gate="exp")
        params = {name: np.zeros_like(array) for name, array in cell.params.items()}
        params |= {f"W_{g}": row[None] for g, row in zip("qkvif", np.eye(5), strict=True)}
        cell = cell.with_params(params)
        _, _, kept = unroll(cell, inputs.T[None].copy())
        d, _, _ = unroll_backward(np.zeros((1, 2, 1)), kept, dstate)
        di, df = d[0, :, 3], d[0, :, 4]
    else:
        q, k, v, i, f = inputs[:, None, None]
        run, back = pair(form)
        _, _, cache = run(q[..., None], k[..., None], v[..., None], i, f, forget_gate="exp")
        _, _, _, di, df, _ = back(np.zeros((1, 1, 2, 1)), cache, dstate)
    left = np.exp(0.7 + 0.3 - step)
    np.testing.assert_allclose([di.ravel(), df.ravel()], [[left, -left], [0, left]], rtol=1e-13)
