"""The compiled update of AdamW against its Python source."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from numpy_xlstm.errors import DivergenceError, OptionError
from numpy_xlstm.kernels import adamw
from numpy_xlstm.kernels.functions import compiled
from numpy_xlstm.numerics import Array
from numpy_xlstm.numerics import threads as pool
from numpy_xlstm.training import AdamW
from numpy_xlstm.training import adamw as optimiser

SHAPES = st.lists(st.integers(0, 7), min_size=1, max_size=3).map(tuple)


def drawn(shape: tuple[int, ...], dtype: Any, seed: int) -> list[Array]:
    """Return p, g, m and v of very different sizes, in any memory order."""
    rng = np.random.default_rng(seed)
    arrays = [(rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 6, shape)) for _ in "pgmv"]
    arrays[3] = arrays[3] ** 2
    orders = rng.choice(["C", "F"], 4)
    return [
        np.array(array, dtype, order=order) for array, order in zip(arrays, orders, strict=True)
    ]


@given(
    shape=SHAPES,
    dtype=st.sampled_from([np.float32, np.float64]),
    scale=st.sampled_from([1.0, 0.37]),
    beta1=st.sampled_from([0.0, 0.3, 0.9]),
    seed=st.integers(0, 2**32 - 1),
)
@example(shape=(4, 5), dtype=np.float64, scale=0.37, beta1=0.9, seed=1)  # v alone is transposed
@example(shape=(4, 5), dtype=np.float64, scale=0.37, beta1=0.9, seed=9)  # m alone
def test_compiled_and_over_arrays(
    shape: tuple[int, ...], dtype: Any, scale: float, beta1: float, seed: int
) -> None:
    """Accept two roundings of the terms of each sum, because compiled sums round less."""
    if not compiled(dtype):
        pytest.skip("needs numba")
    by = adamw.Factors(0.97, 0.013, 0.21, beta1, 1 - beta1, 0.98, 0.02, 1e-6)
    p, g, m, v = drawn(shape, dtype, seed)
    p1, m1, v1 = adamw.updated(p.copy(), g * scale, m.copy(), v.copy(), by)
    p2, g2, m2, v2 = (array.copy(order="K") for array in (p, g, m, v))
    adamw.update(p2, g2, m2, v2, scale, by)
    eps = np.finfo(dtype).eps
    of_m = 2 * eps * (abs(m) + abs(g))
    divisor = np.sqrt(v1) / by.root + by.eps
    step = abs(by.rate * m1 / divisor)
    of_step = by.rate * of_m / divisor + 4 * eps * step
    assert (abs(m2 - m1) <= of_m).all()
    assert (abs(v2 - v1) <= 2 * eps * v1).all()
    assert (abs(p2 - p1) <= of_step + 2 * eps * (abs(p) + step)).all()
    np.testing.assert_array_equal(g2, g)
    assert p2.dtype == m2.dtype == v2.dtype == dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_any_number_of_threads_has_the_same_bits(
    dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimiser, "BLOCK", 16)
    monkeypatch.setattr(optimiser, "SHARE", 40)
    found = []
    for threads in (1, 2, 3):
        for module in (optimiser, pool):
            monkeypatch.setattr(module, "num_threads", lambda threads=threads: threads)
        rng = np.random.default_rng(0)
        params = {str(n): rng.standard_normal((n, 9)).astype(dtype) for n in (1, 30, 7)}
        optimizer = AdamW(params, lr=0.1)
        for _ in range(3):
            grads = {n: rng.standard_normal(p.shape).astype(dtype) for n, p in params.items()}
            optimizer.step(grads, scale=0.3)
        found.append([*params.values(), *optimizer.m.values(), *optimizer.v.values()])
    for arrays in zip(*found, strict=True):
        np.testing.assert_array_equal(arrays[1], arrays[0])
        np.testing.assert_array_equal(arrays[2], arrays[0])


@pytest.mark.parametrize("scale", [0.125, 0.5, 0.55, 0.75, 0.95, 0.999, 1.5])
@pytest.mark.parametrize("kernel", ["compiled", "arrays"])
def test_gradients_count_times_their_scale(
    kernel: str, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel == "arrays":
        monkeypatch.setattr(adamw, "compiled", lambda dtype: False)
    rng = np.random.default_rng(0)
    params, grads = ({"w": rng.standard_normal((3, 4))} for _ in "pg")
    others = {"w": params["w"].copy()}
    one, two = AdamW(params, lr=0.1, eps=0.5), AdamW(others, lr=0.1, eps=0.5)
    one.step(grads, scale=scale)
    two.step({"w": scale * grads["w"]})
    np.testing.assert_allclose(params["w"], others["w"], rtol=1e-14)
    with pytest.raises(OptionError, match=r"scale: expected a number in \[0, inf\); got -1"):
        one.step(grads, scale=-1)


BETAS = [0.0, 5e-324, 1e-10, 0.1, 0.4, 0.5, 0.6, 0.9, 0.999]


@pytest.mark.parametrize("beta1", BETAS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kernel", ["compiled", "arrays"])
def test_a_spike_is_forgotten_at_any_rate(
    kernel: str, dtype: Any, beta1: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After gradients of very different sizes, m is β₁ m + (1 − β₁) g within two roundings."""
    if kernel == "arrays":
        monkeypatch.setattr(adamw, "compiled", lambda dtype: False)
    optimizer = AdamW({"w": np.ones(2, dtype)}, betas=(beta1, 0.5))
    for g in np.array([[1e6, -3e-6], [3e-6, 1e6], [-2e-6, 4e-6], [1.0, 1.0]], dtype):
        before = optimizer.m["w"].astype(np.longdouble)
        optimizer.step({"w": g})
        kept, added = before * beta1, g * (1 - np.longdouble(beta1))
        bound = 2 * np.finfo(dtype).eps * (abs(kept) + abs(added))
        assert (abs(optimizer.m["w"] - (kept + added)) <= bound).all()
        if beta1 == 0:
            np.testing.assert_array_equal(optimizer.m["w"], g)


def test_a_square_that_overflows_because_of_the_scale() -> None:
    params = {"w": np.ones(1, np.float32)}
    with pytest.raises(DivergenceError, match="w: expected finite numbers after the update"):
        AdamW(params, eps=1.0).step({"w": np.array([1e19], np.float32)}, scale=100.0)
    assert params["w"] == 1
