"""mLSTM between arrays that have all heads side by side, as the layers around it have them."""

from typing import Any

import numpy as np

from numpy_xlstm.cells.mlstm import mLSTMState
from numpy_xlstm.kernels.headwise import split_heads
from numpy_xlstm.kernels.mlstm import form
from numpy_xlstm.kernels.mlstm.shared import Cache
from numpy_xlstm.numerics import Array


def mlstm_over_heads(
    q: Array, k: Array, v: Array, i: Array, f: Array, state: mLSTMState, **options: Any
) -> tuple[Array, mLSTMState, Cache]:
    """Run mLSTM over q, k, v (B, T, NH·n) and pre-activations i, f (B, T, NH); h is like v."""
    NH = i.shape[-1]
    q, k, v = (split_heads(array, NH) for array in (q, k, v))
    i, f = i.swapaxes(1, 2), f.swapaxes(1, 2)
    h, state, cache = form.forward(q, k, v, i, f, state, **options)
    return join_heads(h), state, cache


def mlstm_over_heads_backward(
    dh: Array, cache: Cache, dstate: mLSTMState
) -> tuple[list[Array], Array, Array, mLSTMState]:
    """Gradients of q, k and v together, of i, of f, and of the state before."""
    dh = split_heads(dh, dstate.C.shape[1])
    *dqkv, di, df, before = form.backward(dh, cache, dstate)
    return [join_heads(array) for array in dqkv], di.swapaxes(1, 2), df.swapaxes(1, 2), before


def empty_memory(B: int, NH: int, DK: int, DV: int, dtype: Any) -> mLSTMState:
    """Return the empty state: C = n = 0 and m = −inf."""
    C = np.zeros((B, NH, DK, DV), dtype)
    return mLSTMState(C, np.zeros_like(C[..., 0]), np.full_like(C[..., 0, 0], -np.inf))


def join_heads(x: Array) -> Array:
    """(B, NH, T, n) to (B, T, NH·n): the inverse of :func:`split_heads`."""
    B, NH, T, n = x.shape
    return x.swapaxes(1, 2).reshape(B, T, NH * n)
