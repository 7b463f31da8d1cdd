"""The loop over time that LSTM and sLSTM share: matrix products between pointwise steps.

::

    g_t     = W x_t + b + R h_{t−1}          [rec.1]
    state_t = step(g_t, state_{t−1})

What does not depend on h_{t−1} is computed for all steps at once, before the loop or after it.

Outside, W x + b and its gradient are (B, T, 4·H), outputs (B, T, H), and states tuples of (B, H).
Inside, steps come first, so that what belongs to one step is contiguous, and so is each gate of it:
gates (T, 4, B, H), states (T + 1, S, B, H), h first of the S arrays.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from numpy_xlstm.door import check_cache, check_like
from numpy_xlstm.errors import ShapeError
from numpy_xlstm.kernels.headwise import split_heads
from numpy_xlstm.numerics import Array, check_array, check_batch, check_lengths

WORTH_A_COPY = 8
"""Steps from which on R is transposed in memory: it makes the product of each of them faster."""


def scan(step: Callable[..., None], gates: Array, R: Array, state: Any, *kept: Array) -> Array:
    """Run over all steps, and return the states before, between and after them.

    ``gates`` comes with W x + b. ``step(gates, before, after, *kept)`` finds the pre-activations of
    one step in ``gates``. It writes the state after the step; and to ``gates`` and ``kept``, which
    have the steps first, what its backward needs.
    """
    (T, _, B, H), (NH, _, DH) = gates.shape, R.shape
    states = np.empty((T + 1, len(state), B, H), gates.dtype)
    states[0] = state
    matrices = R.reshape(NH, 4, DH, DH).transpose(1, 0, 3, 2)
    if T >= WORTH_A_COPY:
        matrices = np.ascontiguousarray(matrices)
    Rh, h_heads = np.empty((4, B, H), gates.dtype), split_heads(states[:-1, 0], NH)
    Rh_heads = split_heads(Rh, NH)
    steps = zip(h_heads, gates, states[:-1], states[1:], *kept, strict=True)
    for h, g, before, after, *now in steps:
        np.matmul(h, matrices, out=Rh_heads)
        g += Rh  # [rec.1]
        step(g, before, after, *now)
    return states


def scan_backward(
    step: Callable[..., None], dy: Array, cache: Any, dstate: Any, *kept: Array
) -> tuple[Array, Array, Any]:
    """Run back over all steps: gradients of W x + b, of R and of the state before the first one.

    ``step(dg, d, *kept)`` writes the gradient of the pre-activations of one step, and turns d, the
    cotangent of the state after it, into that of the state before it, all but h. Row b has its
    last state after ``ends[b]`` steps: nothing depends on what comes later.
    """
    states, R, ends = cache.states, cache.R, cache.ends
    (B, T, H), (NH, _, DH) = dy.shape, R.shape
    dhs, dlast = dy.swapaxes(0, 1).copy(), np.stack(dstate)
    dhs[padding(ends, T).T] = 0
    dpre, dg = np.empty((NH, T, B, 4, DH), dy.dtype), np.empty((4, B, H), dy.dtype)
    d = np.zeros_like(dlast)
    dg_heads, dh_heads = split_heads(dg, NH).transpose(1, 2, 0, 3), split_heads(d[0], NH)
    ending = {t: ends == t for t in ends.tolist()}
    for t in reversed(range(T)):
        if t + 1 in ending:
            d[:, ending[t + 1]] = dlast[:, ending[t + 1]]
        d[0] += dhs[t]  # [rec.8]
        step(dg, d, *(array[t] for array in kept))
        dpre[:, t] = dg_heads
        np.matmul(dpre[:, t].reshape(NH, B, 4 * DH), R, out=dh_heads)  # [rec.2]
    if 0 in ending:
        d[:, ending[0]] = dlast[:, ending[0]]
    h_prev = split_heads(states[:-1, 0], NH).swapaxes(0, 1).reshape(NH, T * B, DH)
    dR = dpre.reshape(NH, T * B, 4 * DH).swapaxes(1, 2) @ h_prev  # [rec.5]
    dWx = dpre.transpose(2, 1, 3, 0, 4).reshape(B, T, 4 * H)  # [rec.7]
    return dWx, dR, type(dstate)(*d)


def gates_first(Wx: Array, ends: Array) -> Array:
    """Copy (B, T, 4·H) to (T, 4, B, H), and put 0 at padding."""
    B, T, width = Wx.shape
    gates = np.array(Wx.reshape(B, T, 4, width // 4).transpose(1, 2, 0, 3), order="C")
    gates.swapaxes(1, 2)[padding(ends, T).T] = 0
    return gates


def outputs(states: Array, ends: Array) -> Array:
    """Outputs of all steps, (B, T, H), and 0 at padding."""
    y = states[1:, 0].swapaxes(0, 1).copy()
    y[padding(ends, y.shape[1])] = 0
    return y


def last_state(kind: Any, states: Array, ends: Array) -> Any:
    """The state of each row after its last step, in arrays of its own."""
    return kind(*states[ends, :, np.arange(len(ends))].swapaxes(0, 1).copy())


def padding(ends: Array, T: int) -> Array:
    """Which steps are not there, (B, T)."""
    behind: Array = np.arange(T) >= ends[:, None]
    return behind


def enter(kind: Any, Wx: Array, R: Array, state: Any, lengths: Any) -> tuple[Any, Array]:
    """Check the arguments of a recurrence; return the state before it and each row's length."""
    NH, rows, DH = check_array("R", R, ("heads", "4*DH", "DH")).shape
    if rows != 4 * DH or 0 in R.shape:
        raise ShapeError(f"R: expected shape (NH, 4·DH, DH); got {R.shape}")
    B, T, _ = check_array("Wx", Wx, ("batch", "time", 4 * NH * DH), R.dtype).shape
    check_batch("Wx", Wx)
    start = {name: -np.inf if name == "m" else 0 for name in kind._fields}
    empty = kind(**{name: np.full((B, NH * DH), start[name], R.dtype) for name in start})
    state = empty if state is None else check_like("state", state, empty)
    return state, np.full(B, T) if lengths is None else check_lengths(lengths, B, T)


def enter_backward(kind: Any, cache_kind: Any, dy: Array, cache: Any, dstate: Any) -> Any:
    """Check the arguments of its backward; return the cotangent of the state after it."""
    check_cache(cache, cache_kind)
    T, _, B, H = cache.gates.shape
    check_array("dy", dy, (B, T, H), cache.R.dtype)
    zero = kind(*(np.zeros((B, H), dy.dtype) for _ in kind._fields))
    return zero if dstate is None else check_like("dstate", dstate, zero)
