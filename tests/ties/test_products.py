"""Products with stored matrices: 16-bit numbers are widened exactly, for any number of rows."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm.checkpoints.safetensors import numpy_dtype
from numpy_xlstm.kernels import products
from numpy_xlstm.kernels.functions import compiled
from numpy_xlstm.numerics import Array

KINDS = ["bfloat16", "float16", "float32"]


def stored(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """Return finite numbers with all exponents, among them subnormal ones, or of usual sizes."""
    if kind == "bfloat16":
        pytest.importorskip("ml_dtypes")
    if kind == "float32" or rng.random() < 0.5:
        return rng.standard_normal(shape).astype(numpy_dtype(kind))
    top = 0x7C00 if kind == "float16" else 0x5F80  # in bfloat16 up to 2⁶⁴, so that no sum overflows
    bits = rng.integers(0, top, shape) | rng.integers(0, 2, shape) << 15
    return bits.astype(np.uint16).view(numpy_dtype(kind))


@given(
    kind=st.sampled_from(KINDS),
    rows=st.integers(0, 33),
    D=st.integers(1, 70),
    out_features=st.integers(1, 70),
    on_threads=st.booleans(),
    use_numba=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_error_is_that_of_float32_sums(
    kind: str, rows: int, D: int, out_features: int, on_threads: bool, use_numba: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    W, x = stored(kind, (out_features, D), rng), rng.standard_normal((rows, D)).astype(np.float32)
    out = np.full((rows, out_features + 2), np.nan, np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "LARGE", 0)
        patch.setattr(products, "ROWS", 5)
        if on_threads:
            patch.setattr(products, "WORTH_THREADS", 0)
        if not use_numba:
            patch.setattr(products, "compiled", lambda dtype: False)
        products.times(x, W, out[:, 1:-1])
    wide, numbers = W.astype(np.float64), x.astype(np.float64)
    bound = (D + 2) * 2.0**-24 * (abs(numbers) @ abs(wide).T)
    assert (abs(out[:, 1:-1] - numbers @ wide.T) <= bound).all()
    assert np.isnan(out[:, [0, -1]]).all()


@pytest.mark.parametrize("rows", range(1, products.FEW + 2))
def test_float64_has_no_kernel(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "LARGE", 0)
    rng = np.random.default_rng(0)
    x, W, out = rng.standard_normal((rows, 7)), rng.standard_normal((5, 7)), np.empty((rows, 5))
    products.times(x, W, out)
    np.testing.assert_allclose(out, x @ W.T, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("kind", "widen"), [("bfloat16", products.from_bfloat16), ("float16", products.from_float16)]
)
@pytest.mark.parametrize("use_numba", [False, True])
def test_each_finite_number_is_widened_exactly(kind: str, widen: Any, use_numba: bool) -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    if kind == "bfloat16":
        pytest.importorskip("ml_dtypes")
    expected = bits.view(numpy_dtype(kind)).astype(np.float32)
    finite = np.isfinite(expected)
    if use_numba:
        if not compiled(np.float32):
            pytest.skip("needs numba")
        got = np.empty((1, 2**16), np.float32)
        products.WIDEN_ROWS[kind](bits[None], got)
        got = got[0]
    else:
        got = widen(bits)
    np.testing.assert_array_equal(got[finite].view(np.uint32), expected[finite].view(np.uint32))
