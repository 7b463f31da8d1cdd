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
