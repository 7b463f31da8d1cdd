"""The loop over time that LSTM and sLSTM share: matrix products between pointwise steps.

::

    g_t     = W x_t + b + R h_{t−1}          [rec.1]
    state_t = step(g_t, state_{t−1})

What does not depend on h_{t−1} is computed for all steps at once, before the loop or after it.

Outside, W x + b and its gradient are (B, T, 4·H), outputs (B, T, H), and states tuples of (B, H).
Inside, steps come first and features last, so that what belongs to one step is contiguous, and so
is each gate of it: gates (T, 4, NH, B, DH), states (T + 1, S, NH, B, DH), h first of the S arrays.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from numpy_xlstm.door import check_cache, check_like
from numpy_xlstm.errors import ShapeError
from numpy_xlstm.numerics import Array, check_array, check_batch, check_lengths

WORTH_A_COPY = 8
"""Steps from which on R is transposed in memory: it makes the product of each of them faster."""


def scan(step: Callable[..., None], gates: Array, R: Array, state: Array, *kept: Array) -> Array:
    """Run over all steps, and return the states before, between and after them.

    ``gates`` comes with W x + b. ``step(gates, before, after, *kept)`` finds the pre-activations of
    one step in ``gates``. It writes the state after the step; and to ``gates`` and ``kept``, which
    have the steps first, what its backward needs.
    """
    states = np.empty((len(gates) + 1, *state.shape), state.dtype)
    states[0] = state
    matrices = by_gate(R)
    if len(gates) >= WORTH_A_COPY:
        matrices = np.ascontiguousarray(matrices)
    for g, before, after, *now in zip(gates, states[:-1], states[1:], *kept, strict=True):
        g += before[0] @ matrices  # [rec.1]
        step(g, before, after, *now)
    return states


def by_gate(R: Array) -> Array:
    """View of R (NH, 4·DH, DH) as the transposed matrix of each gate, (4, NH, DH, DH)."""
    NH, _, DH = R.shape
    return R.reshape(NH, 4, DH, DH).transpose(1, 0, 3, 2)


def scan_backward(
    step: Callable[..., None],
    dy: Array,
    dstate: Any,
    states: Array,
    R: Array,
    ends: Array,
    *kept: Array,
) -> tuple[Array, Array, Any]:
    """Run back over all steps: gradients of W x + b, of R and of the state before the first one.

    ``step(dg, d, *kept)`` writes the gradient of the pre-activations of one step, and turns d, the
    cotangent of the state after it, into that of the state before it, all but h. Row b has its
    last state after ``ends[b]`` steps: nothing depends on what comes later.
    """
    (B, T, _), (NH, _, DH) = dy.shape, R.shape
    dhs, dlast = to_kernel(dy, 1, NH)[:, 0], state_to_kernel(dstate, NH)
    dhs.swapaxes(1, 2)[padding(ends, T).T] = 0
    dpre = np.empty((NH, T, B, 4, DH), dy.dtype)
    dg, d = np.empty((4, NH, B, DH), dy.dtype), np.zeros_like(dlast)
    ending = {t: ends == t for t in ends.tolist()}
    for t in reversed(range(T)):
        if t + 1 in ending:
            d[..., ending[t + 1], :] = dlast[..., ending[t + 1], :]
        d[0] += dhs[t]  # [rec.8]
        step(dg, d, *(array[t] for array in kept))
        dpre[:, t] = dg.transpose(1, 2, 0, 3)
        np.matmul(dpre[:, t].reshape(NH, B, 4 * DH), R, out=d[0])  # [rec.2]
    if 0 in ending:
        d[..., ending[0], :] = dlast[..., ending[0], :]
    h_prev = states[:-1, 0].swapaxes(0, 1).reshape(NH, T * B, DH)
    dR = dpre.reshape(NH, T * B, 4 * DH).swapaxes(1, 2) @ h_prev  # [rec.5]
    dWx = from_kernel(dpre.transpose(1, 3, 0, 2, 4))  # [rec.7]
    return dWx, dR, state_from_kernel(type(dstate), d)


def to_kernel(x: Array, S: int, NH: int) -> Array:
    """Copy (B, T, S·NH·DH) to (T, S, NH, B, DH)."""
    B, T, size = x.shape
    parts = x.reshape(B, T, S, NH, size // (S * NH))
    return np.array(parts.transpose(1, 2, 3, 0, 4), order="C")


def from_kernel(x: Array) -> Array:
    """Undo :func:`to_kernel`, in a copy."""
    T, S, NH, B, DH = x.shape
    return np.array(x.transpose(3, 0, 1, 2, 4), order="C").reshape(B, T, S * NH * DH)


def state_to_kernel(state: Any, NH: int) -> Array:
    """Copy S arrays (B, H) to (S, NH, B, DH)."""
    arrays = np.concatenate(state, axis=1)
    kernel: Array = to_kernel(arrays[:, None], len(state), NH)[0]
    return kernel


def state_from_kernel(kind: Any, state: Array) -> Any:
    """Undo :func:`state_to_kernel`; of one head, in views."""
    _, NH, B, DH = state.shape
    return kind(*(array.swapaxes(0, 1).reshape(B, NH * DH) for array in state))


def outputs(states: Array, ends: Array) -> Array:
    """Outputs of all steps, (B, T, H), and 0 at padding."""
    y = from_kernel(states[1:, :1])
    y[padding(ends, y.shape[1])] = 0
    return y


def last_state(kind: Any, states: Array, ends: Array) -> Any:
    """The state of each row after its last step, in arrays of its own."""
    last = states[ends, :, :, np.arange(len(ends))]
    return state_from_kernel(kind, last.transpose(1, 2, 0, 3))


def padding(ends: Array, T: int) -> Array:
    """Which steps are not there, (B, T)."""
    behind: Array = np.arange(T) >= ends[:, None]
    return behind


def enter(kind: Any, Wx: Array, R: Array, state: Any, lengths: Any) -> tuple[Any, Array]:
    """Check the arguments of a recurrence; return the state before it and each row's length."""
    check_array("R", R, ("heads", "4*DH", "DH"))
    NH, rows, DH = R.shape
    if rows != 4 * DH or 0 in R.shape:
        raise ShapeError(f"R: expected shape (NH, 4·DH, DH); got {R.shape}")
    check_array("Wx", Wx, ("batch", "time", 4 * NH * DH), R.dtype)
    check_batch("Wx", Wx)
    B, T, _ = Wx.shape
    start = {name: -np.inf if name == "m" else 0 for name in kind._fields}
    empty = kind(**{name: np.full((B, NH * DH), start[name], R.dtype) for name in start})
    state = empty if state is None else check_like("state", state, empty)
    return state, np.full(B, T) if lengths is None else check_lengths(lengths, B, T)


def enter_backward(kind: Any, cache_kind: Any, dy: Array, cache: Any, dstate: Any) -> Any:
    """Check the arguments of its backward; return the cotangent of the state after it."""
    check_cache(cache, cache_kind)
    T, _, NH, B, DH = cache.gates.shape
    check_array("dy", dy, (B, T, NH * DH), cache.R.dtype)
    zero = kind(*(np.zeros((B, NH * DH), dy.dtype) for _ in kind._fields))
    return zero if dstate is None else check_like("dstate", dstate, zero)
