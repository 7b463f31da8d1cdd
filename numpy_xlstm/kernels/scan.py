"""The loop over time of LSTM and related cells: products with R and pointwise steps.

::

    g_t = (W x + b)_t + R h_{t−1}                  [rec.1]
    h_t, memory_t = step(g_t, memory_{t−1})

A cell defines its step and the backward of it as functions of numbers. :class:`Recurrence` applies
them to the arrays of each step. With numba, they are instead compiled into the loops of
:mod:`~numpy_xlstm.kernels.parts`, which compute one number at a time.

Rows and heads are split into N parts with U numbers each, as that module describes. With G
pre-activations, the last K of which contain R h, and states of S arrays, the shapes are (D is the
width of a head, DH in the cells):

=========  =================  ================================================================
pre        (T, N, G, U)       pre-activations; the forward adds R h to W x + b
R          (NH, K·D, D)       the loops get R or its transpose, from :func:`oriented`
constants  (N, E, U)          constants of each unit, such as peephole weights
states     (T + 1, N, S, U)   before, between and after the steps; h first, then the memory
d          (N, S, U)          cotangent of a state
=========  =================  ================================================================

In the padding, W x + b and the cotangents dy are 0.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.cells.gates import empty_state
from numpy_xlstm.errors import CacheError, ShapeError
from numpy_xlstm.kernels.functions import compiled
from numpy_xlstm.kernels.parts import (
    BLOCK,
    backward_loop,
    by_part,
    by_row,
    check_residual,
    for_each,
    for_loops,
    forward_loop,
    groups,
    oriented,
    padding,
)
from numpy_xlstm.numerics import Array, check_array, check_batch, checked_lengths
from numpy_xlstm.numerics.threads import matmul, spread
from numpy_xlstm.validation import check_cache, checked_like


class ScanCache(NamedTuple):
    """Residuals of a sequence, with the shapes in the table of this module."""

    pre: Array
    R: Array
    constants: Array
    states: Array
    ends: Array  # number of steps of each row, (B,)


class Recurrence:
    """Functions of numbers that define a cell, and the loops compiled with them.

    ::

        h, *memory             = step(pre, memory_before, constants)
        coefficients           = derivatives(pre, memory_before, memory, constants)
        *dpre, *dmemory_before = step_backward((dh, *dmemory), coefficients)

    ``step_backward`` is linear in the cotangents. The coefficients do not depend on them and are
    computed for all steps at once.

    Parameters
    ----------
    step, derivatives, step_backward : callable
        Functions of tuples of numbers or arrays.
    state : type
        Type of the state, which consists of h and the memory.
    num_pre, num_recurrent, num_constants : int
        Count of pre-activations, of the last ones, which contain R h (all if omitted), and of
        constants.
    """

    def __init__(
        self,
        step: Callable[..., Any],
        derivatives: Callable[..., Any],
        step_backward: Callable[..., Any],
        state: Any,
        *,
        num_pre: int,
        num_recurrent: int | None = None,
        num_constants: int = 0,
    ) -> None:
        self.num_pre, self.num_constants = num_pre, num_constants
        self.num_recurrent = num_recurrent or num_pre
        self.step, self.derivatives, self.step_backward = step, derivatives, step_backward
        self.state_type = state
        counts = num_pre, len(state._fields), num_constants
        self.loop = forward_loop(step, *counts)
        self.loop_backward = backward_loop(derivatives, step_backward, *counts)

    def forward(
        self,
        Wx: Array,
        params: Mapping[str, Array],
        state: Sequence[Array],
        lengths: Array | None,
        constants: Collection[Any] = (),
    ) -> tuple[Array, Any, Any]:
        """Run over W x + b without validation. All rows have T steps if ``lengths`` is None.

        Wx, (B, T, G·H), is overwritten. ``constants`` are numbers or arrays (H,). Returns the
        outputs (B, T, H), the state after the last step, and the cache.
        """
        R = for_loops(params["R"])
        R = R.reshape(-1, *R.shape[-2:])
        (B, T, width), (NH, rows, D), S = Wx.shape, R.shape, len(state)
        if (NH * D * self.num_pre, self.num_recurrent * D) != (width, rows):
            raise ShapeError(
                f"W, b: expected {self.num_pre}·H rows; R: expected shape "
                f"(NH, {self.num_recurrent}·D, D) with NH·D = H; got {width} rows and {R.shape}"
            )
        ends = np.full(B, T) if lengths is None else lengths
        if lengths is not None:
            Wx[padding(lengths, T)] = 0
        P, start = groups(B, Wx), np.empty((B, S + len(constants), NH * D), Wx.dtype)
        for k, numbers in enumerate((*state, *constants)):
            start[:, k] = numbers
        pre, start = by_part(Wx, R, P), by_part(start.reshape(B, 1, -1), R, P)[0]
        N, _, U = start.shape
        states = np.empty((T + 1, N, S, U), Wx.dtype)
        states[0] = start[:, :S]
        cache = ScanCache(pre, R, start[:, S:].copy(), states, ends)
        if compiled(pre.dtype):
            kept = tuple(cache._replace(R=oriented(R, B // P, backward=False)))
            for_each(self.loop, range(N), pre.size, kept)
        else:
            self.array_loop(cache)
        if lengths is None:
            last = by_row(states[T:], R, B).reshape(B, S, NH * D)
        else:
            last = last_states(cache)
        return by_row(states[1:, :, 0], R, B), self.state_type(*last.swapaxes(0, 1).copy()), cache

    def array_loop(self, cache: Any) -> None:
        """Run all parts over all steps, as the loop of :func:`forward_loop` does."""
        pre, R, constants, states, ends = cache
        (T, _, G, _), (NH, rows, D), B, S = pre.shape, R.shape, len(ends), states.shape[2]
        shortest = ends.min(initial=T)
        recurrent = pre.reshape(T, NH, G * D, B)[:, :, -rows:]
        h = states.reshape(T + 1, NH, S, D, B)[:, :, 0]
        pre, states, constants = pre.swapaxes(1, 2), states.swapaxes(1, 2), constants.swapaxes(0, 1)
        for t in range(T):
            recurrent[t] += R @ h[t]  # [rec.1]
            after = self.step(pre[t], states[t, 1:], constants)
            for array, new in zip(states[t + 1], after, strict=True):
                array[...] = new
            if t >= shortest:
                h[t + 1][..., t >= ends] = 0  # it could overflow in padding

    def backward(
        self, dy: Array, cache: Any, dstate: Sequence[Array]
    ) -> tuple[Array, Any, dict[str, Array]]:
        """Return the gradients of Wx, of the first state and of R, without validation."""
        dWx, dstate0 = self.without_R(dy, cache, dstate)
        (B, T, _), (NH, rows, D) = dWx.shape, cache.R.shape
        K, dpre = rows // D, dWx.reshape(B * T, dWx.shape[2] // (NH * D), NH, D)
        dRh = dpre[:, -K:].transpose(1, 2, 3, 0)  # (K, NH, D, B·T)
        h = by_row(cache.states[:-1, :, 0], cache.R, B)  # (B, T, NH·D)
        h = h.reshape(B * T, NH, D).swapaxes(0, 1)
        if NH == 1:  # one large product
            dRh, h = dRh.reshape(rows, B * T), h[0]
        dR = matmul(dRh, h).reshape(K, NH, D, D).swapaxes(0, 1)
        return dWx, dstate0, {"R": dR.reshape(cache.R.shape)}  # [rec.6]

    def without_R(self, dy: Array, cache: Any, dstate: Sequence[Array]) -> tuple[Array, Any]:
        """Return the gradients of Wx and of the first state, without validation.

        The final state of row n is the state after ``ends[n]`` steps; later steps are padding.
        """
        pre, R, _, _, ends = cache
        B, P = len(dy), pre.shape[1] // len(R)
        last = np.array(dstate).swapaxes(0, 1)
        dlast = by_part(last.reshape(B, 1, -1), R, P)[0]
        dy = by_part(dy, R, P)[:, :, 0]
        d, dpre = np.zeros(dlast.shape, dy.dtype), np.empty(pre.shape, dy.dtype)
        if compiled(pre.dtype):
            kept = tuple(cache._replace(R=oriented(R, B // P, backward=True)))
            arrays = kept, dy, dlast, d, dpre
            for_each(self.loop_backward, range(pre.shape[1]), pre.size, *arrays)
        else:
            self.array_loop_backward(cache, dy, dlast, d, dpre)
        dstate0 = by_row(d[None], R, B).reshape(last.shape)
        if not ends.all():
            dstate0[ends == 0] = last[ends == 0]
        return by_row(dpre, R, B), self.state_type(*dstate0.swapaxes(0, 1).copy())  # [rec.8]

    def array_loop_backward(
        self, cache: Any, dy: Array, dlast: Array, d: Array, dpre: Array
    ) -> None:
        """Run all parts backward, as the loop of :func:`backward_loop` does."""
        pre, R, constants, states, ends = cache
        (T, N, G, U), (NH, rows, D), B, S = pre.shape, R.shape, len(ends), states.shape[2]
        RT, ending = np.ascontiguousarray(R.swapaxes(1, 2)), set(ends.tolist())
        recurrent = dpre.reshape(T, NH, G * D, B)[:, :, -rows:]
        columns, last = (array.reshape(NH, S, D, B) for array in (d, dlast))
        pre, states = (array.transpose(2, 0, 1, 3) for array in (pre, states))
        before, after, constants = states[1:, :-1], states[1:, 1:], constants.swapaxes(0, 1)
        d, dpre = d.swapaxes(0, 1), dpre.swapaxes(1, 2)
        for steps in reversed(spread(T, T * N * U // BLOCK)):
            memories = before[:, steps], after[:, steps]
            factors = self.derivatives(pre[:, steps], *memories, constants)
            for t in reversed(range(steps.start, steps.stop)):
                if t + 1 in ending:
                    columns[..., t + 1 == ends] = last[..., t + 1 == ends]
                d[0] += dy[t]  # [rec.2]
                gradients = self.step_backward(d, [array[t - steps.start] for array in factors])
                for array, new in zip([*dpre[t], *d[1:]], gradients, strict=True):
                    array[...] = new
                np.matmul(RT, recurrent[t], out=columns[:, 0])  # [rec.3]

    def checked_forward(
        self, Wx: Array, R: Array, state: Any, lengths: Any
    ) -> tuple[Array, Any, Array | None]:
        """Validate the arguments of a public forward; return a copy of Wx, state and lengths."""
        check_array("R", R, ("heads", "4*DH", "DH"))
        NH, rows, DH = R.shape
        if rows != 4 * DH or 0 in R.shape:
            raise ShapeError(f"R: expected shape (NH, 4·DH, DH); got {R.shape}")
        check_array("Wx", Wx, ("batch", "time", 4 * NH * DH), R.dtype)
        B, T, _ = Wx.shape
        check_batch("Wx", Wx)
        empty = empty_state(self.state_type, B, NH * DH, R.dtype)
        state = empty if state is None else checked_like("state", state, empty)
        lengths = None if lengths is None else checked_lengths(lengths, B, T)
        return Wx.copy(), state, lengths

    def checked_backward(self, dy: Array, cache: Any, dstate: Any) -> tuple[Array, Array, Any]:
        """Validate the arguments of a public backward; return the gradients of Wx, R and state."""
        check_cache(cache, ScanCache)
        ndims = [getattr(array, "ndim", None) for array in cache]
        if ndims != [4, 3, 3, 4, 1] or 0 in cache.R.shape + cache.ends.shape:
            raise CacheError("cache: expected the arrays that this forward returned; got others")
        B, T, (NH, _, D) = len(cache.ends), len(cache.pre), cache.R.shape
        check_array("dy", dy, (B, T, NH * D), cache.R.dtype)
        dy = np.where(padding(cache.ends, T)[..., None], 0, dy)
        zero = self.state_type(*np.zeros((len(self.state_type._fields), B, NH * D), dy.dtype))
        dstate = zero if dstate is None else checked_like("dstate", dstate, zero)
        dWx, dstate0, grads = self.backward(dy, self.fitting(cache, dy), dstate)
        return dWx, grads["R"], dstate0

    def fitting(self, cache: Any, dy: Array) -> Any:
        """Return the cache with arrays that loops accept, if it fits the cotangent of y.

        A compiled loop does not check its indices and would read outside of other arrays.
        """
        cache = cache._make(map(for_loops, cache))
        pre, R, constants, states, ends = cache
        (B, T, H), (NH, _, D), N = dy.shape, R.shape, pre.shape[1]
        U, P, S = B * H // max(1, N), N // NH, len(self.state_type._fields)
        check_residual("pre", pre, (T, N, self.num_pre, U), dy.dtype)
        check_residual("R", R, (NH, self.num_recurrent * D, D), dy.dtype)
        check_residual("constants", constants, (N, self.num_constants, U), dy.dtype)
        check_residual("states", states, (T + 1, N, S, U), dy.dtype)
        check_residual("ends", ends, (B,), np.dtype(int))
        if P == 0 or B % P or NH * P != N:
            expected = f"parts of {B} rows of {H} numbers"
            raise CacheError(f"cache: expected {expected}; got {N} parts and {NH} heads")
        return cache


def last_states(cache: ScanCache) -> Array:
    """Return the state of each row after its last step, (B, S, H)."""
    (B,), (NH, _, D), (steps, N, S, _) = cache.ends.shape, cache.R.shape, cache.states.shape
    P = N // NH
    group, row = np.divmod(np.arange(B), B // P)  # where each row of the batch is
    states = cache.states.reshape(steps, NH, P, S, D, B // P)
    last = states[cache.ends, :, group, :, :, row]  # (B, NH, S, D): indexed axes come first
    return last.swapaxes(1, 2).reshape(B, S, NH * D)
