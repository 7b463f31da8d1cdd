"""Properties of every map of the last axis: gradients, layouts in memory, repeatable weights."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm import gradcheck
from numpy_xlstm.layers import (
    ACTIVATIONS,
    GatedFeedForward,
    HeadwiseLinear,
    LayerNorm,
    Linear,
    LinearGroup,
    MultiHeadLayerNorm,
    MultiHeadRMSNorm,
    RMSNorm,
)
from tests.layers.points import arrays, filled, leading, seeds
from tests.samples import times
from tests.variants import assert_close

SMOOTH = ("gelu", "gelu_tanh", "swish", "sigmoid")
EPS = (1e-6, 0.3, 0.0, 0.7)


def norm(kind: Any, a: int, b: int, c: int, bias: bool, other: bool) -> Any:
    """A norm of at least three features: with two, a layer norm always gives ±1."""
    sizes = (a, b + 2) if kind in (MultiHeadLayerNorm, MultiHeadRMSNorm) else (b + 2,)
    more = {"residual_weight": c > 1} if kind in (LayerNorm, MultiHeadLayerNorm) else {}
    return kind(*sizes, eps=EPS[c], weight=other, bias=bias, **more)


MAPS: dict[str, Callable[[int, int, int, bool, bool], Any]] = {
    "Linear": lambda a, b, c, bias, _: Linear(a, b, bias),
    "LinearGroup": lambda a, b, c, bias, _: LinearGroup(a, {"u": b, "v": c, "w": a}, bias),
    "HeadwiseLinear": lambda a, b, c, bias, _: HeadwiseLinear(a * b, a, bias, out_features=a * c),
    "GatedFeedForward": lambda a, b, c, bias, fused: GatedFeedForward(
        a, b + 1, SMOOTH[c], bias, fused="proj_up" if fused else None
    ),
    **{
        kind.__name__: partial(norm, kind)
        for kind in (LayerNorm, RMSNorm, MultiHeadLayerNorm, MultiHeadRMSNorm)
    },
}
"""Layers of three small sizes and two switches."""

sizes = st.integers(1, 3)
layers = st.builds(
    lambda name, *options: MAPS[name](*options),
    st.sampled_from([*MAPS]),
    *(sizes, sizes, sizes, st.booleans(), st.booleans()),
)


@times(2)
@given(layers, leading, seeds)
def test_the_backward_is_exact(layer: Any, shape: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((*shape, layer.in_features))
    report = gradcheck(filled(layer, rng), x, rng=rng)
    assert not report.failures, str(report)


@given(layers, seeds)
def test_strided_arrays_equal_contiguous_ones(layer: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, dy = (rng.standard_normal((n, 5, 3)).T for n in (layer.in_features, layer.out_features))
    filled(layer, rng)
    assert_close(arrays(layer, x, dy), arrays(layer, x.copy(), dy.copy()), 1e-13, 1e-13)


@pytest.mark.parametrize("act_fn", ["relu", "relu^2", "selu"])
def test_a_gate_is_exact_on_the_sides_of_a_kink(act_fn: str) -> None:
    rng = np.random.default_rng(1)
    layer = filled(GatedFeedForward(3, 4, act_fn, True, rng=rng), rng)
    report = gradcheck(layer, rng.standard_normal((5, 3)), rng=rng)
    assert report.passed, str(report)


@pytest.mark.parametrize("act_fn", list(ACTIVATIONS))
@pytest.mark.parametrize("bias", [True, False])
def test_fused_maps_up_equal_separate_ones_and_the_equation(act_fn: str, bias: bool) -> None:
    rng = np.random.default_rng(2)
    apart = filled(GatedFeedForward(3, 4, act_fn, bias, fused=None, rng=rng), rng)
    p = apart.params
    stacked = {
        name: np.concatenate((p[name.replace("proj_up", "proj_up_gate")], p[name]))
        if name.startswith("proj_up")
        else p[name]
        for name in GatedFeedForward(3, 4, act_fn, bias).params
    }
    fused = GatedFeedForward(3, 4, act_fn, bias).with_params(stacked)
    x, dy = rng.standard_normal((2, 2, 5, 3))
    y, dx, *grads = arrays(apart, x, dy)
    fused_y, fused_dx, fused_up, *_ = arrays(fused, x, dy)
    assert_close((fused_y, fused_dx), (y, dx), 1e-13)
    up = [g for name, g in zip(p, grads, strict=True) if name.endswith("weight")][:2]
    assert_close(fused_up, np.concatenate(up), 1e-13)

    b = {name: p.get(f"{name}.bias", 0.0) for name in ("proj_up_gate", "proj_up", "proj_down")}
    gate, _ = ACTIVATIONS[act_fn].forward(x @ p["proj_up_gate.weight"].T + b["proj_up_gate"])
    value = x @ p["proj_up.weight"].T + b["proj_up"]
    expected = (gate * value) @ p["proj_down.weight"].T + b["proj_down"]
    assert_close(y, expected, 1e-13)
