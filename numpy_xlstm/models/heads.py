"""mLSTM between arrays that have all heads side by side, as the layers around it have them."""

from typing import NamedTuple

import numpy as np

from numpy_xlstm.cells.mlstm.form import FormCache, run_form, run_form_backward
from numpy_xlstm.cells.mlstm.gates import Options
from numpy_xlstm.cells.mlstm.inputs import Inputs
from numpy_xlstm.cells.states import mLSTMState
from numpy_xlstm.numerics import Array


class HeadsGradients(NamedTuple):
    """Gradients of q, k, v (B, T, NH·n), of i, f (B, T, NH) and of the state before."""

    q: Array
    k: Array
    v: Array
    i: Array
    f: Array
    state: mLSTMState


def mlstm_over_heads(
    q: Array,
    k: Array,
    v: Array,
    i: Array,
    f: Array,
    state: mLSTMState,
    options: Options,
    chunk_size: int,
) -> tuple[Array, mLSTMState, FormCache]:
    """Run mLSTM over q, k, v (B, T, NH·n) and pre-activations i, f (B, T, NH); h is like v."""
    NH = i.shape[-1]
    heads = [split_heads(array, NH) for array in (q, k, v)]
    inputs = Inputs(heads[0], heads[1], heads[2], i.swapaxes(1, 2), f.swapaxes(1, 2))
    h, state, cache = run_form("auto", inputs, state, options, chunk_size)
    return join_heads(h), state, cache


def mlstm_over_heads_backward(dh: Array, cache: FormCache, dstate: mLSTMState) -> HeadsGradients:
    """Vector-Jacobian product of :func:`mlstm_over_heads`."""
    NH = cache.inputs.q.shape[1]
    dq, dk, dv, di, df, before = run_form_backward(split_heads(dh, NH), cache, dstate)
    q, k, v = (join_heads(array) for array in (dq, dk, dv))
    return HeadsGradients(q, k, v, di.swapaxes(1, 2), df.swapaxes(1, 2), before)


def split_heads(x: Array, NH: int) -> Array:
    """View of (B, T, NH·n) as (B, NH, T, n)."""
    B, T, width = x.shape
    return x.reshape(B, T, NH, width // NH).swapaxes(1, 2)


def join_heads(x: Array) -> Array:
    """(B, NH, T, n) to (B, T, NH·n): the inverse of :func:`split_heads`."""
    B, NH, T, n = x.shape
    return np.ascontiguousarray(x.swapaxes(1, 2)).reshape(B, T, NH * n)
