from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm.layers import CausalConv1d, Linear, LinearGroup
from tests.layers.points import filled, leading, seeds
from tests.samples import is_normal, is_uniform
from tests.variants import assert_close


def test_a_product_by_hand() -> None:
    layer = Linear(3, 2).with_params(
        {"weight": np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]]), "bias": np.array([10.0, -2.0])}
    )
    assert layer(np.array([[1.0, -1.0, 2.0]])).tolist() == [[15.0, -3.5]]


@pytest.mark.parametrize(
    ("kind", "sizes", "limit"), [(Linear, (400, 300), 1 / 20), (CausalConv1d, (2000, 4), 1 / 2)]
)
def test_initial_values_are_uniform_as_in_torch(kind: Any, sizes: Any, limit: float) -> None:
    for array in kind(*sizes, rng=np.random.default_rng(6)).params.values():
        assert 0.99 * limit < np.abs(array).max()
        assert is_uniform(limit, array)


widths = st.lists(st.integers(1, 3), min_size=1, max_size=4)


def named(widths: list[int]) -> dict[str, int]:
    return {f"map{n}": width for n, width in enumerate(widths)}


@given(st.integers(1, 3), widths, st.booleans(), leading, seeds)
def test_a_group_is_one_map_with_the_rows_of_all(
    D: int, widths: list[int], bias: bool, leading: tuple[int, ...], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    group = filled(LinearGroup(D, named(widths), bias), rng)
    kinds = ["weight", "bias"] if bias else ["weight"]
    rows = {k: np.concatenate([group.params[f"{n}.{k}"] for n in named(widths)]) for k in kinds}
    fused = Linear(D, sum(widths), bias).with_params(rows)
    x, dy = rng.standard_normal((*leading, D)), rng.standard_normal((*leading, sum(widths)))
    y, cache = group.forward(x)
    dx, grads = group.backward(dy, cache)
    expected, fused_cache = fused.forward(x)
    fused_dx, fused_grads = fused.backward(dy, fused_cache)
    assert_close((y, dx), (expected, fused_dx), 1e-13)
    for kind in kinds:
        parts = [grads[f"{name}.{kind}"] for name in named(widths)]
        assert_close(np.concatenate(parts), fused_grads[kind], 1e-13)


def test_names_shapes_and_initial_values() -> None:
    group = LinearGroup(300, {"gate": 2, "value": 4}, True, deviation=0.5, rng=0)
    shapes = {name: array.shape for name, array in group.params.items()}
    assert shapes == {
        "gate.weight": (2, 300),
        "gate.bias": (2,),
        "value.weight": (4, 300),
        "value.bias": (4,),
    }
    assert not group.params["gate.bias"].any()
    assert is_normal(0.5, group.params["value.weight"])
    assert [linear.out_features for linear in group.linears] == [2, 4]
