"""Layers of the package at points of exact numbers: their outputs, and their backward."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.layers.base import Recurrent, RunOptions
from numpy_xlstm.numerics import own_error_state
from numpy_xlstm.trees import places, rebuild
from tests.samples import draw_like, random_state
from tests.variants import Sizes, Variant, make


class Run(NamedTuple):
    """Trees of inputs and outputs, and the backward from cotangents of all to gradients of all."""

    inputs: Any
    outputs: Any
    backward: Callable[[Any], Any]


def layer_of(variant: Variant, H: int, heads: int = 1, *, keys: int = 1, eps: float = 1e-6) -> Any:
    """Return a layer of a cell of H units, with ``keys`` for each head of an mLSTM."""
    keys = keys if variant.is_mlstm else H  # the width of a projection
    return make(variant, Sizes(1, 1, 1, heads, H // heads, keys, False, eps, 0)).layer


def mapped(function: Callable[[str, Any], Any], tree: Any) -> Any:
    """Return a tree with a function applied to the name of each entry and to the entry."""

    def applied(name: str, array: Any) -> Any:
        entries = [function(f"{name}{list(at)}", x) for at, x in np.ndenumerate(array)]
        return np.array(entries, object).reshape(array.shape)

    return rebuild(tree, iter([applied(*place) for place in places("", tree)]))


def numbers(tree: Any) -> list[Any]:
    """Return all entries of a tree."""
    return [x for _, array in places("", tree) for x in array.flat]


@own_error_state
def run(
    layer: Any, kind: Any, seed: int, *, T: int = 1, empty: bool = False, lengths: Any = None
) -> Run:
    """Run a layer over variables; an empty first state and padding are constant."""
    rng, B = np.random.default_rng(seed), 1 if lengths is None else len(lengths)
    padded = np.arange(T)[:, None] >= np.reshape(T if lengths is None else lengths, (-1, 1, 1))
    state = layer.init_state(B) if isinstance(layer, Recurrent) else None
    point = {"x": rng.normal(size=(B, T, getattr(layer, "in_features", 2)))}
    point |= {"params": draw_like(dict(layer.params), rng)}
    point |= {} if empty or state is None else {"state": random_state(state, rng)}
    inputs = mapped(kind.variable, point)
    layer, x = layer.over(inputs["params"]), inputs["x"]
    state = inputs.get("state", mapped(lambda _, constant: kind.of(constant), state))
    if state is None:
        (y, cache), after = layer.compute(x), None
    else:
        y, after, cache = layer.compute(x, state, RunOptions(lengths=lengths))

    @own_error_state
    def backward(cotangents: Any) -> Any:
        dy, dafter = cotangents
        dy, start = np.where(padded, 0, dy), () if state is None else (dafter,)
        dx, *dstate, grads = layer.compute_backward(dy, cache, *start)
        gradients = np.where(padded, 0, dx), {name: grads[name] for name in layer.params}, *dstate
        return gradients[: len(inputs)]

    return Run(inputs, (np.where(padded, 0, y), after), backward)
