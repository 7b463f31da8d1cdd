import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm import gradcheck
from numpy_xlstm.layers import CausalConv1d
from tests.layers.points import filled, seeds
from tests.samples import times

kernels = st.integers(1, 5)
steps = st.integers(0, 7)
widths = st.integers(1, 3)


def make(D: int, K: int, seed: int) -> tuple[CausalConv1d, np.random.Generator]:
    rng = np.random.default_rng(seed)
    return filled(CausalConv1d(D, K, rng=rng), rng), rng


def test_two_taps_by_hand() -> None:
    layer = CausalConv1d(1, 2)
    layer.params["conv.weight"][...] = 1.0, 10.0
    layer.params["conv.bias"][...] = 0.5
    x, state = np.array([[[2.0], [3.0]]]), np.array([[[4.0]]])
    y, after, cache = layer.forward(x, state)
    assert y.ravel().tolist() == [24.5, 32.5]
    assert after.ravel().tolist() == [3.0]
    dx, dstate0, grads = layer.backward(np.array([[[1.0], [-2.0]]]), cache, np.array([[[100.0]]]))
    assert dx.ravel().tolist() == [10 - 2, -20 + 100]
    assert dstate0.ravel().tolist() == [1.0]
    assert grads["conv.weight"].ravel().tolist() == [4 - 2 * 2, 2 - 2 * 3]
    assert grads["conv.bias"].tolist() == [-1.0]


@times(0.6)
@given(widths, kernels, st.integers(1, 2), steps, st.booleans(), seeds)
def test_the_backward_is_exact(D: int, K: int, B: int, T: int, with_state: bool, seed: int) -> None:
    layer, rng = make(D, K, seed)
    x = rng.standard_normal((B, T, D))
    given_state = (rng.standard_normal((B, K - 1, D)),) if with_state else ()
    report = gradcheck(layer, x, *given_state, rng=rng)
    assert not report.failures, str(report)


@given(widths, kernels, st.integers(1, 7), st.booleans(), seeds)
def test_it_is_the_convolution_of_each_feature(
    D: int, K: int, T: int, with_state: bool, seed: int
) -> None:
    layer, rng = make(D, K, seed)
    x = rng.standard_normal((2, T, D))
    past = rng.standard_normal((2, K - 1, D)) * with_state
    padded = np.concatenate((past, x), axis=1)
    y, _ = layer(x, past if with_state else None)
    for b, d in np.ndindex(2, D):
        kernel = layer.params["conv.weight"][d, 0, ::-1]
        expected = np.convolve(padded[b, :, d], kernel, "valid") + layer.params["conv.bias"][d]
        np.testing.assert_allclose(y[b, :, d], expected, rtol=1e-13, atol=1e-13)


@given(kernels, steps, seeds)
def test_step_by_step_equals_the_whole(K: int, T: int, seed: int) -> None:
    layer, rng = make(2, K, seed)
    x = rng.standard_normal((3, T, 2))
    whole, last = layer(x)
    state = layer.init_state(3)
    for t in range(T):
        y, state = layer(x[:, t : t + 1], state)
        np.testing.assert_array_equal(y[:, 0], whole[:, t])
    np.testing.assert_array_equal(state, last)


def test_what_comes_out_is_no_view_of_what_is_kept() -> None:
    layer, rng = make(2, 3, 7)
    x, dy = rng.standard_normal((2, 2, 4, 2))
    y, state, cache = layer.forward(x)
    before = layer.backward(dy, cache)
    y += 1
    state += 1
    after = layer.backward(dy, cache)
    np.testing.assert_array_equal(after[2]["conv.weight"], before[2]["conv.weight"])
    np.testing.assert_array_equal(after[0], before[0])
