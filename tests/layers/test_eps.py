"""The number ε of each norm and of each mLSTM, where the result depends on its digits."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm import mLSTM, mLSTMCell
from numpy_xlstm.layers import LayerNorm, MultiHeadLayerNorm, MultiHeadRMSNorm, RMSNorm

LAYER, RMS, DENOMINATOR = 1e-5, 1e-6, 1e-6
"""Values of ε by default: of a layer norm, of an RMS norm, and of the denominator of an mLSTM."""

NORMS: dict[str, tuple[Any, float]] = {
    "LayerNorm": (lambda **o: LayerNorm(6, **o), LAYER),
    "MultiHeadLayerNorm": (lambda **o: MultiHeadLayerNorm(2, 3, **o), LAYER),
    "RMSNorm": (lambda **o: RMSNorm(6, **o), RMS),
    "MultiHeadRMSNorm": (lambda **o: MultiHeadRMSNorm(2, 3, **o), RMS),
}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("given", [None, 0.3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_a_norm_of_small_numbers_divides_by_the_root_of_eps(
    name: str, given: float | None, dtype: Any
) -> None:
    """Numbers of 1e-3 √ε, with which ε times 1.0001 changes the result by 5e-5."""
    make, default = NORMS[name]
    layer = make(dtype=dtype) if given is None else make(eps=given, dtype=dtype)
    eps, rng = given or default, np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 4, 6)).astype(dtype)
    x *= 1e-3 * eps**0.5
    heads = x.reshape(4, -1, layer.head_dim)
    centre = heads.mean(axis=-1, keepdims=True) * layer.centred
    variance = ((heads - centre) ** 2).mean(axis=-1, keepdims=True)
    y, cache = layer.forward(x)
    expected = (heads - centre) / np.sqrt(variance + np.longdouble(eps))
    np.testing.assert_allclose(y, expected.reshape(x.shape), rtol=2e-6, atol=2e-9)
    dx, _ = layer.backward(dy, cache)
    by_head = dy.reshape(heads.shape)
    straight = (by_head - by_head.mean(axis=-1, keepdims=True) * layer.centred) / eps**0.5
    np.testing.assert_allclose(dx, straight.reshape(x.shape), rtol=1e-5, atol=1e-5 / eps**0.5)


FORMS: dict[str, Any] = {
    "cell": mLSTMCell,
    **{
        form: lambda *sizes, form=form, **o: mLSTM(*sizes, form=form, **o)
        for form in ("recurrent", "parallel", "chunkwise", "auto")
    },
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("given", [None, 0.3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_eps_of_the_denominator(form: str, given: float | None, dtype: Any) -> None:
    """After one step h = (q·k) v / (|q·k| + ε) / 2, because e^−m is 0; q·k is ε or −2 ε."""
    eps = DENOMINATOR if given is None else given
    options = {} if given is None else {"eps": given}
    layer = FORMS[form](2, 1, **options, dtype=dtype, rng=0)
    weights = {"W_q": [[1, 0]], "W_k": [[0, 1]], "W_v": [[0, 0]], "W_o": [[0, 0]], "b_v": 3}
    for name, array in layer.params.items():
        array[...] = weights.get(name, 0)
    layer.params["b_i"][...] = 80
    x = np.array([[eps, 1], [-2 * eps, 1]], dtype)
    h = layer.forward(x if form == "cell" else x[:, None])[0].reshape(2)
    np.testing.assert_allclose(h, [3 / 2 / 2, -3 * 2 / 3 / 2], rtol=1e-6)
