"""Any cell over a sequence, forward and backward, one step at a time without optimisation."""

from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import (
    Array,
    check_array,
    check_batch,
    check_has,
    check_lengths,
    check_positive,
    own_error_state,
)
from numpy_xlstm.trees import tree_map
from numpy_xlstm.validation import check_cache, checked_cotangent, checked_state, output_size


class UnrollCache(NamedTuple):
    """Residuals of :func:`unroll`."""

    steps: list[Any]  # the cell's cache for each step
    live: Array  # True for steps, False for padding, (B, T)


@own_error_state
def unroll(
    cell: Any, xs: Array, state: Any = None, *, lengths: Array | None = None
) -> tuple[Array, Any, UnrollCache]:
    """Run a cell over a sequence.

    Parameters
    ----------
    cell : Module
        Cell with ``init_state(B)``, and with ``forward(x, state)`` and
        ``backward(dh, cache, dstate)`` for one step.
    xs : np.ndarray
        Inputs, shape (B, T, D), T ≥ 0.
    state, lengths
        As in :meth:`SequenceLayer.forward`.

    Returns
    -------
    ys : np.ndarray
        Outputs, shape (B, T, H); 0 in padding.
    state : tuple
        State after the last step of each row.
    cache : UnrollCache
        Residuals for :func:`unroll_backward`, which also reads the parameters: do not modify the
        parameters until it has run.

    Examples
    --------
    >>> from numpy_xlstm import sLSTMCell
    >>> rng = np.random.default_rng(0)
    >>> cell, xs = sLSTMCell(3, 4, rng=rng), rng.standard_normal((2, 5, 3))
    >>> ys, state, cache = unroll(cell, xs)
    >>> dxs, dstate0, grads = unroll_backward(cell, rng.standard_normal(ys.shape), cache)
    >>> ys.shape, dxs.shape
    ((2, 5, 4), (2, 5, 3))
    """
    check_cell(cell)
    check_array("xs", xs, ("batch", "time", cell.input_size), cell.dtype)
    check_batch("xs", xs)
    B, T, _ = xs.shape
    state = checked_state(cell, state, B)
    steps = np.full(B, T) if lengths is None else check_lengths(lengths, B, T)
    live = np.arange(T) < steps[:, None]
    xs = np.where(live[..., None], xs, 0)  # padding may have any value
    ys, caches = np.zeros((B, T, output_size(cell)), cell.dtype), []
    for t in range(T):
        y, after, cache = cell.forward(xs[:, t], state)
        ys[:, t] = _where(live[:, t], y, 0)
        state = tree_map(lambda a, b, row=live[:, t]: _where(row, a, b), after, state)
        caches.append(cache)
    return ys, state, UnrollCache(caches, live)


@own_error_state
def unroll_backward(
    cell: Any, dys: Array, cache: UnrollCache, dstate: Any = None
) -> tuple[Array, Any, Grads]:
    """Compute the vector-Jacobian product of :func:`unroll`.

    Parameters
    ----------
    cell : Module
        The cell, with the same parameters as in the forward.
    dys : np.ndarray
        Cotangent of the outputs, shape (B, T, H); padding is ignored.
    cache : UnrollCache
        From :func:`unroll`.
    dstate : tuple, optional
        Cotangent of the state after the last step; 0 if omitted.

    Returns
    -------
    dxs : np.ndarray
        Gradient of the inputs, shape (B, T, D).
    dstate0 : tuple
        Gradient of the state before the first step.
    grads : dict[str, np.ndarray]
        Gradients of the parameters, summed over steps and rows, with their names and shapes.
    """
    check_cell(cell)
    check_cache(cache, UnrollCache)
    check_array("dys", dys, (*cache.live.shape, output_size(cell)), cell.dtype)
    B, T, _ = dys.shape
    dstate = checked_cotangent(cell, dstate, B)
    grads = {name: np.zeros_like(array) for name, array in cell.params.items()}
    dxs = np.zeros((B, T, cell.input_size), cell.dtype)
    for t in reversed(range(T)):
        row = cache.live[:, t]
        dy = _where(row, dys[:, t], 0)
        dnow = tree_map(lambda d, row=row: _where(row, d, 0), dstate)
        dxs[:, t], dbefore, step_grads = cell.backward(dy, cache.steps[t], dnow)
        dstate = tree_map(lambda a, b, row=row: _where(row, a, b), dbefore, dstate)
        grads = {name: grads[name] + step_grads[name] for name in grads}
    return dxs, dstate, grads


def check_cell(cell: Any) -> None:
    """Raise an error unless ``cell`` has the methods and sizes of a cell."""
    check_has("cell", cell, "init_state", "forward", "backward")
    for size in ("input_size", "hidden_size"):
        check_positive(f"cell.{size}", getattr(cell, size, None))


def _where(row: Array, a: Array, b: Array | float) -> Array:
    """Return ``a`` in the rows where ``row`` is True, and ``b`` in the others."""
    return np.where(row.reshape(-1, *[1] * (a.ndim - 1)), a, b)
