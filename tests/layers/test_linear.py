from typing import Any

import numpy as np
import pytest

from numpy_xlstm.layers import Linear
from numpy_xlstm.numerics import Array
from tests.layers.complex_step import assert_close, gradient

LEADING: list[tuple[int, ...]] = [(), (4,), (2, 3), (2, 1, 3)]


def layer_with_params(bias: bool = True) -> Linear:
    return Linear(3, 2, bias, rng=np.random.default_rng(1))


def value(layer: Linear, x: Array, dy: Array) -> Any:
    return (dy * layer(x)).sum()


def test_a_product_by_hand() -> None:
    layer = layer_with_params().with_params(
        {"weight": np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]]), "bias": np.array([10.0, -2.0])}
    )
    y, _ = layer.forward(np.array([[1.0, -1.0, 2.0]]))
    assert y.tolist() == [[15.0, -3.5]]


@pytest.mark.parametrize("leading", LEADING)
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_by_complex_step(leading: tuple[int, ...], bias: bool) -> None:
    rng = np.random.default_rng(2)
    layer = layer_with_params(bias)
    x, dy = rng.standard_normal((*leading, 3)), rng.standard_normal((*leading, 2))
    y, cache = layer.forward(x)
    dx, grads = layer.backward(dy, cache)
    assert y.shape == dy.shape
    wide = layer.astype(np.complex128)
    assert_close(dx, gradient(lambda z: value(wide, z, dy), x))
    assert grads.keys() == layer.params.keys()
    for name, grad in grads.items():

        def moved(parameter: Array, name: str = name) -> Any:
            changed = wide.with_params(dict(wide.params) | {name: parameter})
            return value(changed, x.astype(complex), dy)

        assert_close(grad, gradient(moved, layer.params[name]))


def test_strided_input_equals_contiguous_input() -> None:
    rng = np.random.default_rng(3)
    layer, x, dy = (
        layer_with_params(),
        rng.standard_normal((3, 5, 4)),
        rng.standard_normal((4, 5, 2)),
    )
    strided = x.T
    for got, expected in zip(
        flat(layer, strided, dy), flat(layer, strided.copy(), dy), strict=True
    ):
        np.testing.assert_array_equal(got, expected)


def flat(layer: Linear, x: Array, dy: Array) -> list[Array]:
    y, cache = layer.forward(x)
    dx, grads = layer.backward(dy, cache)
    return [y, dx, *grads.values()]


def test_no_rows_give_zero_gradients() -> None:
    layer = layer_with_params()
    y, dx, dweight, dbias = flat(layer, np.empty((2, 0, 3)), np.empty((2, 0, 2)))
    assert y.shape == (2, 0, 2)
    assert dx.shape == (2, 0, 3)
    assert not dweight.any()
    assert not dbias.any()


def test_initial_values_are_uniform_as_in_torch() -> None:
    layer = Linear(400, 300, rng=np.random.default_rng(6))
    for array in layer.params.values():
        assert 0.99 / 20 < np.abs(array).max() <= 1 / 20
        assert abs(array.std() * 20 - 3**-0.5) < 0.05
    again = Linear(400, 300, rng=np.random.default_rng(6))
    np.testing.assert_array_equal(layer.params["weight"], again.params["weight"])
