from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm.layers import LayerNorm, MultiHeadLayerNorm, MultiHeadRMSNorm, RMSNorm
from numpy_xlstm.numerics import Array
from tests.layers.points import arrays, filled, leading, seeds
from tests.variants import assert_close

PLAIN: list[type[Any]] = [LayerNorm, RMSNorm]
BY_HEAD: list[type[Any]] = [MultiHeadLayerNorm, MultiHeadRMSNorm]

options = st.fixed_dictionaries(
    {"eps": st.sampled_from([0.0, 1e-6, 0.3]), "weight": st.booleans(), "bias": st.booleans()}
)


def build(kind: type[Any], NH: int, DH: int, **options: Any) -> Any:
    sizes = (NH, DH) if kind in BY_HEAD else (DH,)
    return kind(*sizes, **options)


def expected_norm(x: Array, eps: float, centred: bool) -> Array:
    """The equations, row by row."""
    y = np.empty_like(x)
    for row in np.ndindex(x.shape[:-1]):
        c = x[row] - x[row].sum() / x.shape[-1] * centred
        y[row] = c / ((c**2).sum() / x.shape[-1] + eps) ** 0.5
    return y


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize(("dtype", "large"), [(np.float32, 9e18), (np.float64, 6e153)])
def test_numbers_whose_squares_are_in_range(kind: type[Any], dtype: Any, large: float) -> None:
    x = large * np.array([1, -1, 1, -1], dtype)
    layer = kind(4, dtype=dtype)
    y, cache = layer.forward(x)
    np.testing.assert_allclose(y, np.sign(x), rtol=1e-6)
    dx, _ = layer.backward(np.array([2, 1, 0, 0], dtype), cache)
    by_hand = np.array([1.75, 1.25, -0.25, 0.25]) - 0.75 * layer.centred  # δy − x̂ / 4 − mean of δy
    np.testing.assert_allclose(dx * large, by_hand, rtol=1e-6)


@pytest.mark.parametrize("kind", PLAIN)
@given(st.integers(1, 5), options, leading, seeds)
def test_values_are_those_of_the_equations(
    kind: type[Any], D: int, options: dict[str, Any], leading: tuple[int, ...], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    layer = filled(kind(D + 1, **options), rng)
    x = 3 + rng.standard_normal((*leading, D + 1))
    y = expected_norm(x, options["eps"], layer.centred)
    if options["weight"]:
        y = y * (layer.params["weight"] + (kind is LayerNorm))
    if options["bias"]:
        y = y + layer.params["bias"]
    np.testing.assert_allclose(layer(x), y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pair", list(zip(BY_HEAD, PLAIN, strict=True)))
@given(st.integers(1, 3), st.integers(3, 5), options, leading, seeds)
def test_a_norm_by_head_is_a_norm_of_each_slice(
    pair: tuple[type[Any], type[Any]],
    NH: int,
    DH: int,
    options: dict[str, Any],
    leading: tuple[int, ...],
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    whole = filled(pair[0](NH, DH, **options), rng)
    x, dy = rng.standard_normal((2, *leading, NH * DH))
    slices = []
    for part in (slice(h * DH, (h + 1) * DH) for h in range(NH)):
        alone = pair[1](DH, **options)
        alone = alone.with_params({name: a[part] for name, a in whole.params.items()})
        slices.append(arrays(alone, x[..., part], dy[..., part]))
    joined = [np.concatenate(found, axis=-1) for found in zip(*slices, strict=True)]
    assert_close(tuple(arrays(whole, x, dy)), tuple(joined), 1e-13, 1e-13)


def test_a_large_mean_costs_no_more_than_its_own_rounding() -> None:
    x = np.array([[-1.5, 0.5, 1.0]])
    shifted = LayerNorm(3, eps=0.0)(x + 2.0**40)
    np.testing.assert_allclose(shifted, LayerNorm(3, eps=0.0)(x), rtol=1e-12)


@pytest.mark.parametrize("kind", [LayerNorm, MultiHeadLayerNorm])
def test_a_weight_may_be_stored_as_the_factor(kind: type[Any]) -> None:
    rng = np.random.default_rng(5)
    residual = filled(build(kind, 2, 3), rng)
    plain = build(kind, 2, 3, residual_weight=False)
    assert (plain.params["weight"] == 1).all()
    plain = plain.with_params({"weight": residual.params["weight"] + 1})
    x, dy = rng.standard_normal((2, 4, residual.in_features))
    for got, expected in zip(arrays(plain, x, dy), arrays(residual, x, dy), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [1, 6])
def test_a_constant_of_many_features_is_centred_to_its_last_digits(dtype: Any, rows: int) -> None:
    x = np.full((rows, 2048), 1.1e6, dtype)
    y = LayerNorm(2048, eps=1.0, dtype=dtype)(x)
    assert np.abs(y).max() <= 4 * np.finfo(dtype).eps * 1.1e6


NORMS: dict[str, tuple[Any, float]] = {
    "LayerNorm": (lambda **o: LayerNorm(6, **o), 1e-5),
    "MultiHeadLayerNorm": (lambda **o: MultiHeadLayerNorm(2, 3, **o), 1e-5),
    "RMSNorm": (lambda **o: RMSNorm(6, **o), 1e-6),
    "MultiHeadRMSNorm": (lambda **o: MultiHeadRMSNorm(2, 3, **o), 1e-6),
}
"""Norms with their values of ε by default."""


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
