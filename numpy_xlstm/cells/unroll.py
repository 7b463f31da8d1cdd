"""A cell over a sequence, one step at a time: the specification of a kernel, without checks."""

from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import tree_map, zeros_like
from numpy_xlstm.validation import output_size, unchecked


class UnrollCache(NamedTuple):
    """Residuals of :func:`unroll`."""

    cell: Any
    steps: list[Any]  # the cell's cache for each step
    live: Array  # True for steps, False for padding, (B, T)


def unroll(
    cell: Any, xs: Array, state: Any = None, *, lengths: Array | None = None
) -> tuple[Array, Any, UnrollCache]:
    """Return ys (B, T, H), 0 in padding, the state after the last step of each row, and a cache."""
    B, T, _ = xs.shape
    state = cell.init_state(B) if state is None else state
    steps = np.full(B, T) if lengths is None else lengths
    live = np.arange(T) < steps[:, None]
    xs = np.where(live[..., None], xs, 0)  # padding may have any value
    ys, caches = np.zeros((B, T, output_size(cell)), cell.dtype), []
    forward = unchecked(cell.forward)
    for t in range(T):
        y, after, cache = forward(xs[:, t], state)
        ys[:, t] = _where(live[:, t], y, 0)
        state = tree_map(lambda a, b, row=live[:, t]: _where(row, a, b), after, state)
        caches.append(cache)
    return ys, state, UnrollCache(cell, caches, live)


def unroll_backward(dys: Array, cache: UnrollCache, dstate: Any = None) -> tuple[Array, Any, Grads]:
    """Return the gradients of xs, of the first state and of the parameters; ignore padding."""
    cell, (B, T, _) = cache.cell, dys.shape
    dstate = zeros_like(cell.init_state(B)) if dstate is None else dstate
    grads = {name: np.zeros_like(array) for name, array in cell.params.items()}
    dxs, backward = np.zeros((B, T, cell.input_size), cell.dtype), unchecked(cell.backward)
    for t in reversed(range(T)):
        row = cache.live[:, t]
        dy = _where(row, dys[:, t], 0)
        dnow = tree_map(lambda d, row=row: _where(row, d, 0), dstate)
        dxs[:, t], dbefore, step_grads = backward(dy, cache.steps[t], dnow)
        dstate = tree_map(lambda a, b, row=row: _where(row, a, b), dbefore, dstate)
        grads = {name: grads[name] + step_grads[name] for name in grads}
    return dxs, dstate, grads


def _where(row: Array, a: Array, b: Array | float) -> Array:
    """Return ``a`` in the rows where ``row`` is True, and ``b`` in the others."""
    return np.where(row.reshape(-1, *[1] * (a.ndim - 1)), a, b)
