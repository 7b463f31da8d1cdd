from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numpy_xlstm import gradcheck
from numpy_xlstm.layers import Linear, LinearGroup
from numpy_xlstm.module import Module
from numpy_xlstm.numerics import Array
from tests.layers.points import filled, leading, seeds
from tests.variants import assert_close

widths = st.lists(st.integers(1, 3), min_size=1, max_size=4)


class Joined(Module):
    """A group as a layer with one output, the concatenation of its outputs."""

    def __init__(self, group: LinearGroup) -> None:
        self.group, self.params = group, group.params

    def forward(self, x: Array) -> Any:
        outputs, cache = self.group.with_params(self.params).compute(x)
        return np.concatenate(outputs, axis=-1), cache

    def backward(self, dy: Array, cache: Any) -> Any:
        stops = np.cumsum(list(self.group.widths.values()))[:-1]
        group = self.group.with_params(self.params)
        return group.compute_backward(np.split(dy, stops, axis=-1), cache)


def named(widths: list[int]) -> dict[str, int]:
    return {f"map{n}": width for n, width in enumerate(widths)}


@settings(max_examples=40)
@given(st.integers(1, 3), widths, st.booleans(), st.booleans(), leading, seeds)
def test_the_backward_is_exact(
    D: int, widths: list[int], bias: bool, fused: bool, leading: tuple[int, ...], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    group = LinearGroup(D, named(widths), bias, fused="all" if fused else None)
    report = gradcheck(Joined(filled(group, rng)), rng.standard_normal((*leading, D)), rng=rng)
    assert not report.failures, str(report)


@given(st.integers(1, 3), widths, st.booleans(), leading, seeds)
def test_fused_equals_apart_equals_single_layers(
    D: int, widths: list[int], bias: bool, leading: tuple[int, ...], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    apart = filled(LinearGroup(D, named(widths), bias), rng)
    kinds = ["weight", "bias"] if bias else ["weight"]
    stacked = {
        f"all.{kind}": np.concatenate([apart.params[f"{name}.{kind}"] for name in named(widths)])
        for kind in kinds
    }
    fused = LinearGroup(D, named(widths), bias, fused="all").with_params(stacked)
    x = rng.standard_normal((*leading, D))
    dys = [rng.standard_normal((*leading, width)) for width in widths]

    ys, cache = apart.compute(x)
    dx, grads = apart.compute_backward(dys, cache)
    fused_ys, fused_cache = fused.compute(x)
    fused_dx, fused_grads = fused.compute_backward(dys, fused_cache)
    assert_close((*fused_ys, fused_dx), (*ys, dx), 1e-13)
    for kind in kinds:
        parts = [grads[f"{name}.{kind}"] for name in named(widths)]
        assert_close(fused_grads[f"all.{kind}"], np.concatenate(parts), 1e-13)

    total = np.zeros_like(x)
    for (name, width), y, dy in zip(named(widths).items(), ys, dys, strict=True):
        single = Linear(D, width, bias)
        single = single.with_params({kind: apart.params[f"{name}.{kind}"] for kind in kinds})
        expected, single_cache = single.forward(x)
        part, single_grads = single.backward(dy, single_cache)
        total += part
        np.testing.assert_array_equal(y, expected)
        for kind in kinds:
            assert_close(grads[f"{name}.{kind}"], single_grads[kind], 1e-13)
    assert_close(dx, total, 1e-13)


def test_names_and_shapes() -> None:
    widths = {"gate": 2, "value": 4}
    shapes = {n: a.shape for n, a in LinearGroup(3, widths, True).params.items()}
    assert shapes == {
        "gate.weight": (2, 3),
        "gate.bias": (2,),
        "value.weight": (4, 3),
        "value.bias": (4,),
    }
    assert {n: a.shape for n, a in LinearGroup(3, widths, fused="both").params.items()} == {
        "both.weight": (6, 3)
    }


@pytest.mark.parametrize("fused", ["all", None])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_dtype_is_kept_and_nothing_is_changed(fused: str | None, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    group = LinearGroup(3, named([2, 4]), True, fused=fused, dtype=dtype, rng=rng)
    x = rng.standard_normal((5, 3)).astype(dtype)
    dys = [rng.standard_normal((5, width)).astype(dtype) for width in (2, 4)]
    inputs = [x, *dys, *group.params.values()]
    before = [a.copy() for a in inputs]
    ys, cache = group.compute(x)
    dx, grads = group.compute_backward(dys, cache)
    again, _ = group.compute_backward(dys, cache)
    assert {a.dtype for a in (*ys, dx, *grads.values())} == {np.dtype(dtype)}
    np.testing.assert_array_equal(dx, again)
    for a, b in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(a, b)
