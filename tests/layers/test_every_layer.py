"""Every cell, layer and model keeps dtypes, leaves its inputs alone, and repeats its results."""

import copy
from functools import partial
from inspect import signature
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import LSTMCell, SequenceLayer
from numpy_xlstm.conformance import suite
from numpy_xlstm.errors import CacheError, DTypeError, OptionError, ShapeError
from numpy_xlstm.layers import (
    ACTIVATIONS,
    LSTM,
    CausalConv1d,
    Dropout,
    GatedFeedForward,
    Layer,
    LayerNorm,
    MultiHeadLayerNorm,
    MultiHeadRMSNorm,
    RMSNorm,
)
from numpy_xlstm.module import Grads, Module
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves, tree_map
from tests.layers.points import filled


def case(make: Any, rng: np.random.Generator, dtype: Any) -> Any:
    return filled(make(dtype=dtype), rng), (rng.standard_normal((4, 6)).astype(dtype),)


def conv(rng: np.random.Generator, dtype: Any) -> Any:
    x, state = rng.standard_normal((2, 4, 6)), rng.standard_normal((2, 2, 6))
    layer = filled(CausalConv1d(6, 3, dtype=dtype), rng)
    return layer, (x.astype(dtype), state.astype(dtype))


NORMS: dict[str, Any] = {
    f"{norm.__name__} {weight} {bias}": partial(norm, *sizes, weight=weight, bias=bias)
    for norm, sizes in ((LayerNorm, [6]), (RMSNorm, [6]), (MultiHeadLayerNorm, [2, 3]))
    for weight, bias in ((True, False), (False, True), (False, False))
} | {"MultiHeadRMSNorm": partial(MultiHeadRMSNorm, 2, 3, weight=False, bias=False)}
FEEDFORWARDS: dict[str, Any] = {
    f"{act_fn} {fused}": partial(GatedFeedForward, 6, 4, act_fn, True, fused=fused)
    for act_fn in ACTIVATIONS
    for fused in ("proj_up", None)
}


def dropout(rng: np.random.Generator, dtype: Any) -> Any:
    layer, x = Dropout(0.5), rng.standard_normal((3, 4)).astype(dtype)
    return (lambda x: layer.forward(x, np.random.default_rng(1)), layer.backward), (x,)


CASES = suite.cases() | {"CausalConv1d with a state": conv, "Dropout": dropout}
CASES |= {n: partial(case, make) for n, make in (NORMS | FEEDFORWARDS).items()}


GELU_INSIDE = ("sLSTMBlock", "block.slstm", "model.xlstm/")
"""Starts of the names of further cases with a gelu."""


def cotangent(tree: Any) -> Any:
    return tree_map(lambda a: np.cos(np.where(np.isfinite(a), a, 0)).astype(a.dtype), tree)


def arrays(*trees: Any) -> list[Array]:
    """Return all arrays; gradients are dicts, and a pair of functions has none."""
    plain = [tuple(tree.values()) if isinstance(tree, dict) else tree for tree in trees]
    return [np.asarray(array) for _, array in leaves("", tuple(plain))]


def gradients(found: Any) -> list[Array]:
    return arrays(*(found if isinstance(found, tuple) else (found,)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble, np.complex128])
@pytest.mark.parametrize("name", CASES)
def test_dtypes_inputs_and_results(name: str, dtype: Any) -> None:
    target, inputs = CASES[name](np.random.default_rng(0), dtype)
    forward, backward = target if isinstance(target, tuple) else (target.forward, target.backward)
    params = tuple(getattr(target, "params", {}).values())
    by_gelu = ("gelu" in name and "tanh" not in name) or name.startswith(GELU_INSIDE)
    if dtype is np.longdouble and by_gelu:
        with pytest.raises(DTypeError, match=r"complex128 for gelu; got .*use gelu_tanh"):
            forward(*inputs)
        return
    before = [array.copy() for array in arrays(inputs, params)]
    y, *state, cache = forward(*inputs)
    given = cotangent((y, *state))
    before += [array.copy() for array in arrays(given)]
    found, expected = gradients(backward(given[0], cache, *given[1:])), []
    assert {array.dtype for array in (*arrays(y, *state), *found)} == {np.dtype(dtype)}
    for array in found:
        expected.append(array.copy())
        array[...] = np.nan  # gradients are new arrays, so that the cache can be used again
    for a, b in zip(gradients(backward(given[0], cache, *given[1:])), expected, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(arrays(inputs, params, given), before, strict=True):
        np.testing.assert_array_equal(a, b)
    once_more, *_ = forward(*inputs)
    np.testing.assert_array_equal(once_more, y)


@pytest.mark.parametrize("lengths", [[], [1], [2, 1, 2], [2, 1, 3], [[1], [1, 2]], [4, 3]])
def test_only_lengths_that_fit_a_time_first_x_say_how_x_is_read(lengths: Any) -> None:
    with pytest.raises((ShapeError, OptionError)) as error:
        LSTM(3, 4)(np.zeros((2, 3, 3)), lengths=lengths)
    assert ("expected shape (2,)" in str(error.value)) is (len(lengths) != 2)
    assert ("x is read as (batch, time, …)" in str(error.value)) is (lengths == [2, 1, 2])


class OwnLayer(Layer):
    def __init__(self, dtype: Any) -> None:
        self.in_features = self.out_features = 6
        self.params = {"a": np.ones(6, dtype)}

    def compute(self, x: Array) -> tuple[Array, Array]:
        return x * self.params["a"], x

    def compute_backward(self, dy: Array, cache: Array) -> tuple[Array, Grads]:
        return dy * self.params["a"], {"a": (dy * cache).reshape(-1, 6).sum(axis=0)}


class OwnCell(LSTMCell):
    """A custom cell, which is unrolled."""


def sequence(rng: np.random.Generator, dtype: Any) -> Any:
    layer = filled(SequenceLayer(OwnCell(3, 4, dtype=dtype)), rng)
    return layer, (rng.standard_normal((2, 5, 3)).astype(dtype),)


MODULES = CASES | {"own layer": partial(case, OwnLayer), "own cell": sequence}
PAIRS = {
    n for n, make in CASES.items() if not hasattr(make(np.random.default_rng(), float)[0], "params")
}


@pytest.mark.parametrize("name", sorted(MODULES.keys() - PAIRS))
def test_a_cache_is_taken_by_the_layer_that_made_it_alone(name: str) -> None:
    (layer, inputs), (same, _) = (
        MODULES[name](np.random.default_rng(0), np.float64) for _ in range(2)
    )
    y, *states, cache = layer.forward(*inputs)
    cotangents = cotangent(y), cache, *map(cotangent, states)
    others = same, layer.over(layer.params), layer.with_params(layer.params), copy.deepcopy(layer)
    for other in others:
        with pytest.raises(
            CacheError, match=r"cache: expected one that this .* got one of another"
        ):
            other.backward(*cotangents)
    assert all(np.isfinite(array).all() for array in gradients(layer.backward(*cotangents)))


@pytest.mark.parametrize("name", CASES)
def test_options_and_parameters_are_not_set_as_attributes(name: str) -> None:
    module, _ = CASES[name](np.random.default_rng(0), np.float64)
    if not isinstance(module, Module):
        pytest.skip("a pair of functions")
    for attribute in (*signature(type(module)).parameters, *module.params):
        before = getattr(module, attribute, None)
        with pytest.raises(TypeError, match=rf"^{attribute}: expected .*; got a new value"):
            setattr(module, attribute, 1)
        assert getattr(module, attribute, None) is before
