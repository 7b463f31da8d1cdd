import numpy as np

from numpy_xlstm.layers import Linear


def layer_with_params(bias: bool = True) -> Linear:
    return Linear(3, 2, bias, rng=np.random.default_rng(1))


def test_a_product_by_hand() -> None:
    layer = layer_with_params().with_params(
        {"weight": np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]]), "bias": np.array([10.0, -2.0])}
    )
    y, _ = layer.forward(np.array([[1.0, -1.0, 2.0]]))
    assert y.tolist() == [[15.0, -3.5]]


def test_initial_values_are_uniform_as_in_torch() -> None:
    layer = Linear(400, 300, rng=np.random.default_rng(6))
    for array in layer.params.values():
        assert 0.99 / 20 < np.abs(array).max() <= 1 / 20
        assert abs(array.std() * 20 - 3**-0.5) < 0.05
    again = Linear(400, 300, rng=np.random.default_rng(6))
    np.testing.assert_array_equal(layer.params["weight"], again.params["weight"])
