"""Layers at random points without zero parameters, which could hide mistakes."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from numpy_xlstm.numerics import Array

LEADING: list[tuple[int, ...]] = [(), (1,), (4,), (2, 3), (2, 1, 3), (0,), (2, 0)]
leading = st.sampled_from(LEADING)
seeds = st.integers(0, 2**32 - 1)


def filled(layer: Any, rng: np.random.Generator) -> Any:
    """Overwrite all parameters with normal numbers."""
    for array in layer.params.values():
        array[...] = rng.standard_normal(array.shape)
    return layer


def arrays(layer: Any, x: Array, dy: Array) -> list[Array]:
    """Return the output and all gradients of a stateless layer."""
    y, cache = layer.forward(x)
    dx, grads = layer.backward(dy, cache)
    assert grads.keys() == layer.params.keys()
    return [y, dx, *(grads[name] for name in layer.params)]


def assert_inputs_are_kept(layer: Any, x: Array, dy: Array) -> None:
    """Check that two runs give the same results and do not modify x, dy or parameters."""
    before = [a.copy() for a in (x, dy, *layer.params.values())]
    first = [a.copy() for a in arrays(layer, x, dy)]
    second = arrays(layer, x, dy)
    for a, b in zip(first + before, [*second, x, dy, *layer.params.values()], strict=True):
        np.testing.assert_array_equal(a, b)
