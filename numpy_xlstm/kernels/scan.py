"""The loop over time of LSTM and related cells: products with R and pointwise steps.

::

    g_t = (W x + b)_t + R h_{t−1}                  [rec.1]
    h_t, memory_t = step(g_t, memory_{t−1})

A cell defines its step and the backward of it as functions of numbers. :class:`Recurrence` applies
them to the arrays of each step. With numba, they are instead compiled into the loops of
:mod:`~numpy_xlstm.kernels.loops`, which compute one number at a time.

With NH heads of DH units, H together, G pre-activations and states of S arrays, the shapes are:

=========  ==================  ==============================================================
pre        (B, T, G, H)        pre-activations; the forward adds R h to the first K
R          (NH, K·DH, DH)      recurrent matrices
constants  (E, H)              constants of each unit, such as peephole weights
states     (B, T + 1, S, H)    before, between and after the steps; h first, then the memory
=========  ==================  ==============================================================

Steps of NumPy on arrays are fastest if the numbers of all rows for one unit are next to each other.
For them, arrays (B, T, X, H) have the memory of :func:`by_unit`: (T, X, H, B).

In the padding, W x + b and the cotangents dy are 0.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.cells.gates import empty_state
from numpy_xlstm.errors import ShapeError
from numpy_xlstm.kernels.common import WORTH_THREADS, for_each, for_loops, padding
from numpy_xlstm.kernels.functions import compiled
from numpy_xlstm.kernels.loops import backward_loop, forward_loop
from numpy_xlstm.numerics import Array, check_array, check_batch, checked_lengths
from numpy_xlstm.numerics.threads import matmul, num_threads, spread
from numpy_xlstm.validation import checked_like

ROWS = 8
"""Least number of rows of a batch for a thread."""

UNITS = 64
"""A group of heads has a multiple of this number of units."""

BLOCK = 2**16
"""Number of entries (units times steps) that NumPy copies at once, or whose derivatives it computes
at once. They fit into the cache."""


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
    num_pre, num_recurrent, num_inputs, num_constants : int
        Count of pre-activations, of the first ones, which contain R h, of the last ones, which
        contain W x + b (all if omitted), and of constants.
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
        num_inputs: int | None = None,
        num_constants: int = 0,
    ) -> None:
        self.num_pre, self.num_constants = num_pre, num_constants
        self.num_recurrent, self.num_inputs = num_recurrent or num_pre, num_inputs or num_pre
        self.step, self.derivatives, self.step_backward = step, derivatives, step_backward
        self.state_type = state
        counts = num_pre, len(state._fields), num_constants
        self.loop = forward_loop(step, *counts)
        self.loop_backward = backward_loop(derivatives, step_backward, *counts)

    def projected(self, x: Array, W: Array, b: Array) -> Array:
        """Return an array (B, T, G·H) that has W x + b in its last columns."""
        (B, T, D), rows = x.shape, len(b)
        pre = np.empty((B, T, rows // self.num_inputs * self.num_pre), x.dtype)
        Wx = pre.reshape(B * T, pre.shape[2])[:, -rows:]
        matmul(x.reshape(B * T, D), W.T, out=Wx)
        Wx += b
        return pre

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
        (B, T, width), (NH, rows, DH), S = Wx.shape, R.shape, len(state)
        H, fast = NH * DH, compiled(Wx.dtype)
        if (H * self.num_pre, self.num_recurrent * DH) != (width, rows):
            raise ShapeError(
                f"W, b: expected {self.num_inputs}·H rows; R: expected shape "
                f"(NH, {self.num_recurrent}·DH, DH) with NH·DH = H; got {width} rows and {R.shape}"
            )
        ends, units = np.full(B, T), np.empty((len(constants), H), Wx.dtype)
        states = np.empty((B, T + 1, S, H) if fast else (T + 1, S, H, B), Wx.dtype)
        states = states if fast else states.transpose(3, 0, 1, 2)
        if lengths is not None:
            ends, behind = lengths, padding(lengths, T)
            Wx[behind], states[:, 1:][behind] = 0, 1  # c / n is defined
            states[:, 1:, 0][behind] = 0
        for k, array in enumerate(state):
            states[:, 0, k] = array
        for k, numbers in enumerate(constants):
            units[k] = numbers
        pre = (for_loops if fast else by_unit)(Wx.reshape(B, T, self.num_pre, H))
        cache = ScanCache(pre, R, units, states, ends)
        if fast:
            self.for_parts(self.loop, cache)
        else:
            self.array_loop(cache)
        last = cache.states[np.arange(B), ends].swapaxes(0, 1).copy()
        return by_row(cache.states[:, 1:, 0]), self.state_type(*last), cache

    def for_parts(self, loop: Any, cache: Any, *arrays: Array) -> None:
        """Run a compiled loop, on several threads if there is much to compute.

        Rows are divided between threads, or heads, if the rows are few. A group of heads has whole
        vectors of units, because LLVM may round those that are left over in another way.
        """
        pre, R, constants, states, ends = cache
        (B, _, _, H), NH = pre.shape, len(R)
        threads = num_threads() if pre.size >= WORTH_THREADS else 1
        rows = spread(B, min(threads, B // ROWS))
        most = -(-threads // len(rows))  # groups of heads
        P = max(n for n in range(1, most + 1) if n == 1 or NH % n == H // n % UNITS == 0)
        parts = [(some.start, some.stop, n) for some in rows for n in range(P)]
        pre, constants, states, *others = (
            a.reshape(*a.shape[:-1], P, H // P) for a in (pre, constants, states, *arrays)
        )
        kept = pre, R.reshape(P, -1, *R.shape[1:]), constants, states, ends
        for_each(loop, parts, pre.size, kept, *others)

    def array_loop(self, cache: Any) -> None:
        """Run over all steps, as the loop of :func:`forward_loop` does."""
        pre, R, constants, states, ends = cache
        (B, T, _, _), (NH, _, DH), K = pre.shape, R.shape, self.num_recurrent
        shortest = ends.min(initial=T)
        pre, states = pre.transpose(1, 2, 3, 0), states.transpose(1, 2, 3, 0)
        recurrent = pre[:, :K].reshape(T, K, NH, DH, B)
        constants = np.repeat(constants[..., None], B, axis=-1)
        for t in range(T):
            Rh = R @ states[t, 0].reshape(NH, DH, B)
            recurrent[t] += Rh.reshape(NH, K, DH, B).swapaxes(0, 1)  # [rec.1]
            after = self.step(pre[t], states[t, 1:], constants)
            for array, new in zip(states[t + 1], after, strict=True):
                array[...] = new
            if t >= shortest:
                states[t + 1, 0][:, t >= ends] = 0  # it could overflow in padding

    def backward(
        self, dy: Array, cache: Any, dstate: Sequence[Array]
    ) -> tuple[Array, Any, dict[str, Array]]:
        """Return the gradients of Wx, of the first state and of R, without validation."""
        dWx, dstate0 = self.without_R(dy, cache, dstate)
        (B, T, _), (NH, rows, DH), K = dWx.shape, cache.R.shape, self.num_recurrent
        dpre = dWx.reshape(B * T, self.num_pre, NH, DH)
        dRh = dpre[:, :K].transpose(1, 2, 3, 0)  # (K, NH, DH, B·T)
        h = by_row(cache.states[:, :-1, 0]).reshape(B * T, NH, DH).swapaxes(0, 1)
        if NH == 1:  # one large product
            dRh, h = dRh.reshape(rows, B * T), h[0]
        dR = matmul(dRh, h).reshape(K, NH, DH, DH).swapaxes(0, 1)
        return dWx, dstate0, {"R": dR.reshape(cache.R.shape)}  # [rec.6]

    def without_R(self, dy: Array, cache: Any, dstate: Sequence[Array]) -> tuple[Array, Any]:
        """Return the gradients of Wx and of the first state, without validation.

        The final state of row n is the state after ``ends[n]`` steps; later steps are padding.
        """
        pre, R, constants, states, ends = cache
        (B, T, G, H), d = pre.shape, np.array(dstate).swapaxes(0, 1).copy()  # (B, S, H)
        if compiled(pre.dtype):
            dpre = (np.zeros if ends.min(initial=T) < T else np.empty)(pre.shape, dy.dtype)
            cache = ScanCache(*map(for_loops, cache))
            self.for_parts(self.loop_backward, cache, for_loops(dy), d, dpre)
        else:
            cache = ScanCache(by_unit(pre), R, constants, by_unit(states), ends)
            dpre = by_row(self.array_loop_backward(cache, dy, d))
        return dpre.reshape(B, T, G * H), self.state_type(*d.swapaxes(0, 1).copy())  # [rec.8]

    def array_loop_backward(self, cache: Any, dy: Array, d: Array) -> Array:
        """Run backward over all steps, as the loop of :func:`backward_loop` does."""
        pre, R, constants, states, ends = cache
        (B, T, G, H), (NH, rows, DH), K = pre.shape, R.shape, self.num_recurrent
        RT, ending = np.ascontiguousarray(R.swapaxes(1, 2)), set(ends.tolist())
        pre, states = pre.transpose(1, 2, 3, 0), states.transpose(1, 2, 3, 0)
        dy, last = by_unit(dy[:, :, None]).transpose(1, 2, 3, 0)[:, 0], d.transpose(1, 2, 0).copy()
        constants = np.repeat(constants[:, None, :, None], B, axis=-1)
        dpre, dstate = np.empty((T, G, H, B), dy.dtype), np.zeros(last.shape, dy.dtype)
        for steps in reversed(spread(T, dy.size // BLOCK)):
            after = states[steps.start + 1 : steps.stop + 1]
            now, memory, after = (a.swapaxes(0, 1) for a in (pre[steps], states[steps], after))
            factors = self.derivatives(now, memory[1:], after[1:], constants)
            for t in reversed(range(steps.start, steps.stop)):
                if t + 1 in ending:
                    dstate[..., t + 1 == ends] = last[..., t + 1 == ends]
                dstate[0] += dy[t]  # [rec.2]
                coefficients = [array[t - steps.start] for array in factors]
                gradients = self.step_backward(dstate, coefficients)
                for array, new in zip([*dpre[t], *dstate[1:]], gradients, strict=True):
                    array[...] = new
                dRh = dpre[t, :K].reshape(K, NH, DH, B).swapaxes(0, 1).reshape(NH, rows, B)
                np.matmul(RT, dRh, out=dstate[0].reshape(NH, DH, B))  # [rec.3]
        d[ends > 0] = dstate.transpose(2, 0, 1)[ends > 0]
        return dpre.transpose(3, 0, 1, 2)

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

    def checked_backward(self, dy: Array, kept: ScanCache, dstate: Any) -> tuple[Array, Array, Any]:
        """Validate the arguments of a public backward; return the gradients of Wx, R and state."""
        B, T, (NH, _, DH) = len(kept.ends), kept.pre.shape[1], kept.R.shape
        check_array("dy", dy, (B, T, NH * DH), kept.R.dtype)
        dy = np.where(padding(kept.ends, T)[..., None], 0, dy)
        zero = self.state_type(*np.zeros((len(self.state_type._fields), B, NH * DH), dy.dtype))
        dstate = zero if dstate is None else checked_like("dstate", dstate, zero)
        dWx, dstate0, grads = self.backward(dy, kept, dstate)
        return dWx, grads["R"], dstate0


def by_unit(array: Array) -> Array:
    """Return (B, T, X, H) with the memory of an array (T, X, H, B)."""
    return np.ascontiguousarray(array.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2)


def by_row(array: Array) -> Array:
    """Return a copy (B, T, …) in C-order."""
    if array.size <= BLOCK:
        return np.array(array, order="C")
    rows = np.empty(array.shape, array.dtype)
    for steps in spread(array.shape[1], array.size // BLOCK):  # what fits into the cache is faster
        rows[:, steps] = array[:, steps]
    return rows
