"""Linear maps: plain, in groups, and by head."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import block_diag

from numpy_xlstm import gradcheck
from numpy_xlstm.layers import CausalConv1d, HeadwiseLinear, Linear, LinearGroup
from numpy_xlstm.layers.linear import join_blocks
from numpy_xlstm.numerics import Array
from tests.layers.points import arrays, filled, leading, seeds
from tests.samples import is_normal, is_uniform
from tests.variants import assert_close


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


sizes = st.integers(1, 3)


def make(NH: int, D: int, out: int, bias: bool, seed: int) -> tuple[HeadwiseLinear, Any]:
    """A layer with NH heads, D features in and ``out`` out for each."""
    rng = np.random.default_rng(seed)
    layer = HeadwiseLinear(NH * D, NH, bias, out_features=NH * out, rng=rng)
    return filled(layer, rng), rng


def assert_dense(layer: HeadwiseLinear, x: Array, dy: Array, tolerance: float) -> None:
    """Compare with a linear layer that has a block-diagonal matrix."""
    NH, out, D = layer.params["weight"].shape
    dense = Linear(NH * D, NH * out, "bias" in layer.params)
    weight = block_diag(*layer.params["weight"])
    dense = dense.with_params(dict(layer.params) | {"weight": weight})
    y, dx, dweight, *dbias = arrays(dense, x, dy)
    diagonal = dweight.reshape(NH, out, NH, D)[range(NH), :, range(NH)]
    assert_close(arrays(layer, x, dy), [y, dx, diagonal, *dbias], tolerance)


@given(sizes, sizes, sizes, st.booleans(), leading, seeds)
def test_it_equals_a_linear_layer_with_a_block_diagonal_matrix(
    NH: int, D: int, out: int, bias: bool, leading: tuple[int, ...], seed: int
) -> None:
    layer, rng = make(NH, D, out, bias, seed)
    x, dy = rng.standard_normal((*leading, NH * D)), rng.standard_normal((*leading, NH * out))
    assert_dense(layer, x, dy, 1e-14)


@pytest.mark.parametrize(
    ("NH", "D", "out", "joined"), [(8, 4, 4, 2), (6, 2, 3, 6), (12, 4, 1, 3), (5, 3, 3, 1)]
)
@pytest.mark.parametrize("rows", [1, 2, 40])
def test_narrow_blocks_are_joined(NH: int, D: int, out: int, joined: int, rows: int) -> None:
    """The number of joined blocks divides the number of heads and gives a width of at most 16."""
    layer, rng = make(NH, D, out, True, 7)
    x, dy = rng.standard_normal((rows, NH * D)), rng.standard_normal((rows, NH * out))
    assert len(join_blocks(layer.params["weight"])) == joined
    assert_dense(layer, x, dy, 1e-13)
    report = gradcheck(layer, x, rng=rng, max_entries=0)
    assert report.passed, str(report)


def test_a_map_by_head_starts_small_and_without_a_bias() -> None:
    (weight,) = HeadwiseLinear(400, 2, rng=np.random.default_rng(3)).params.values()
    assert is_normal((2 / (5 * 200)) ** 0.5, weight)
