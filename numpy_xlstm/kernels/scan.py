"""The loop over time of LSTM and related cells: products with R and pointwise steps.

::

    g_t = (W x + b)_t + R h_{t−1}                  [rec.1]
    h_t, memory_t = step(g_t, memory_{t−1})

A cell defines its step and the backward of it as functions of numbers. :class:`Recurrence` applies
them to the arrays of each step. With numba, they are instead compiled into :func:`loop` and
:func:`loop_backward`, which compute one number at a time.

Rows and heads are split into N parts with U units each, as :mod:`~numpy_xlstm.kernels.parts`
describes. With G gates, the last K of which contain R h, and S arrays of memory, the shapes are:

=========  =================  ================================================================
gates      (T, N, G, U)       pre-activations; the forward adds R h
R          (NH, K·D, D)
units      (E, N, U)          constants of each unit, such as peephole weights
h          (T + 1, N, U)      before, between and after the steps
memory     (T + 1, S, N, U)   as h
d          (1 + S, N, U)      cotangents of h and of the memory
=========  =================  ================================================================
"""

from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.errors import ShapeError
from numpy_xlstm.kernels.functions import compiled, kernel
from numpy_xlstm.kernels.parts import BLOCK, by_part, by_row, for_each_part, groups, padding
from numpy_xlstm.numerics import Array, check_array, check_batch, check_lengths
from numpy_xlstm.numerics.threads import matmul, spread
from numpy_xlstm.validation import check_cache, check_like

advance: Any = None
retreat: Any = None
"""Step of a part, and its backward; each :class:`Recurrence` sets its own."""


def loop(n: Any, gates: Any, R: Any, units: Any, h: Any, memory: Any, ends: Any) -> None:
    """Run part n over all steps."""
    (T, N, G, U), (NH, rows, D) = gates.shape, R.shape
    r, K, head = U // D, rows // D, n // (N // NH)
    first = (n - head * (N // NH)) * r
    Rh = np.empty(K * U, gates.dtype)
    for t in range(T):
        np.dot(R[head], h[t, n].reshape(D, r), Rh.reshape(rows, r))
        for k in range(K):
            for j in range(U):
                gates[t, n, G - K + k, j] += Rh[k * U + j]  # [rec.1]
        advance(t, n, gates, units, memory, h)
        for row in range(r):
            if t >= ends[first + row]:
                for j in range(row, U, r):
                    h[t + 1, n, j] = 0  # it could overflow in padding


def loop_backward(
    n: Any,
    gates: Any,
    R: Any,
    units: Any,
    memory: Any,
    ends: Any,
    dy: Any,
    dlast: Any,
    d: Any,
    dgates: Any,
) -> None:
    """Run part n backward, with R transposed.

    d is 0 at the beginning, and the cotangent of the first state at the end.
    """
    (T, N, G, U), (NH, D, rows) = gates.shape, R.shape
    r, K, head = U // D, rows // D, n // (N // NH)
    first = (n - head * (N // NH)) * r
    for t in range(T - 1, -1, -1):
        for row in range(r):
            if t + 1 == ends[first + row]:
                for j in range(row, U, r):
                    d[:, n, j] = dlast[:, n, j]
        for j in range(U):
            d[0, n, j] += dy[t, n, j]  # [rec.2]
        retreat(t, n, gates, units, memory, d, dgates)
        dRh = dgates[t, n, G - K :].reshape(rows, r)
        np.dot(R[head], dRh, d[0, n].reshape(D, r))  # [rec.3]


UNIT_BY_UNIT = """
def advance(t, n, gates, units, memory, h):
    for j in range(h.shape[2]):
        h[t + 1, n, j], {after} = step(({gates}), ({before}), ({units}))

def retreat(t, n, gates, units, memory, d, dgates):
    for j in range(d.shape[2]):
        now = ({d})
        factors = derivatives(({gates}), ({before}), ({after}), ({units}))
        {dgates} {dbefore} = step_backward(now, factors)
"""
"""Source of the loops over the units of a part.

The source lists each gate and each array of memory, because numba cannot make a tuple of the
entries of an array.
"""


class ScanCache(NamedTuple):
    """Residuals of a sequence, with the shapes in the table of this module."""

    gates: Array
    R: Array
    units: Array
    h: Array
    memory: Array
    ends: Array  # number of steps of each row, (B,)

    def state(self, t: Array) -> list[Array]:
        """Return h and the memory, (B, H) each, after ``t[n]`` steps of row n."""
        (steps, N, _), (NH, _, D), B = self.h.shape, self.R.shape, len(t)
        P = N // NH
        group, row = np.divmod(np.arange(B), max(1, B // P))
        arrays = self.h, *self.memory.swapaxes(0, 1)
        found = [a.reshape(steps, NH, P, D, B // P)[t, :, group, :, row] for a in arrays]
        return [array.reshape(B, NH * D) for array in found]


class Recurrence:
    """Functions of numbers that define a cell, and the loops compiled with them.

    ::

        h, *memory               = step(gates, memory_before, units)
        coefficients             = derivatives(gates, memory_before, memory, units)
        *dgates, *dmemory_before = step_backward((dh, *dmemory), coefficients)

    ``step_backward`` is linear in the cotangents. The coefficients do not depend on them and are
    computed for all steps at once.

    Parameters
    ----------
    step, derivatives, step_backward : callable
        Functions of tuples of numbers or arrays.
    state, cache : type
        Types of the state, which consists of h and the memory, and of the cache.
    gates, units : int
        Count of gates, and of constants of a unit.
    """

    def __init__(
        self,
        step: Callable[..., Any],
        derivatives: Callable[..., Any],
        step_backward: Callable[..., Any],
        state: Any,
        cache: type[ScanCache] = ScanCache,
        *,
        gates: int,
        units: int = 0,
    ) -> None:
        self.step, self.derivatives, self.step_backward = step, derivatives, step_backward
        self.state, self.cache, self.units = state, cache, units
        d = [f"d[{k}, n, j], " for k in range(len(state._fields))]
        arrays = {
            "gates": [f"gates[t, n, {k}, j], " for k in range(gates)],
            "dgates": [f"dgates[t, n, {k}, j], " for k in range(gates)],
            "units": [f"units[{k}, n, j], " for k in range(units)],
            "before": [f"memory[t, {k}, n, j], " for k in range(len(d) - 1)],
            "after": [f"memory[t + 1, {k}, n, j], " for k in range(len(d) - 1)],
            "d": d,
            "dbefore": d[1:],
        }
        text = UNIT_BY_UNIT.format(**{name: "".join(each) for name, each in arrays.items()})
        functions = step, derivatives, step_backward
        names: dict[str, Any] = {each.__name__: each for each in functions}
        names["__name__"] = step.__module__  # numba finds functions by module and name
        exec(compile(text, loop.__code__.co_filename, "exec"), names)
        self.loop = specialised(loop, step, advance=kernel(names["advance"]))
        self.loop_backward = specialised(loop_backward, step, retreat=kernel(names["retreat"]))

    def forward(
        self, Wx: Array, params: Mapping[str, Array], state: Any, ends: Array, units: Any = 0
    ) -> tuple[Array, Any, Any]:
        """Run over W x + b without validation; row n of the batch has ``ends[n]`` steps.

        Wx, (B, T, G·H), is overwritten. Returns the outputs (B, T, H), the state after the last
        step, and the cache.
        """
        R = np.ascontiguousarray(params["R"])  # BLAS needs C-order
        R = R.reshape(-1, *R.shape[-2:])
        B, T, _ = Wx.shape
        padded, P = padding(ends, T), groups(B, Wx)
        Wx[padded] = 0
        gates = by_part(Wx, R, P)
        width = len(R) * R.shape[2]
        units = by_part(np.broadcast_to(units, (B, self.units, width)), R, P)[:, :, 0]
        start = by_part(np.stack(state, axis=1), R, P)[:, :, 0]
        h = np.empty((T + 1, *start.shape[1:]), gates.dtype)
        memory = np.empty((T + 1, *start[1:].shape), gates.dtype)
        h[0], memory[0] = start[0], start[1:]
        if compiled(gates.dtype):
            for_each_part(
                self.loop, range(gates.shape[1]), gates.size, gates, R, units, h, memory, ends
            )
        else:
            self.array_loop(gates, R, units, h, memory, ends)
        y = by_row(h[1:], R, B)
        y[padded] = 0
        cache = self.cache(gates, R, units, h, memory, ends)
        return y, self.state(*cache.state(ends)), cache

    def array_loop(
        self, gates: Array, R: Array, units: Array, h: Array, memory: Array, ends: Array
    ) -> None:
        """Run all parts over all steps, as :func:`loop` does."""
        (T, _, G, _), (NH, rows, D), B = gates.shape, R.shape, len(ends)
        steps, shortest = gates.swapaxes(1, 2), ends.min(initial=T)
        pre, columns = gates.reshape(T, NH, G * D, B)[:, :, -rows:], h.reshape(T + 1, NH, D, B)
        for t in range(T):
            pre[t] += R @ columns[t]  # [rec.1]
            h[t + 1], *after = self.step(steps[t], memory[t], units)
            if t >= shortest:
                columns[t + 1][..., t >= ends] = 0  # it could overflow in padding
            for array, new in zip(memory[t + 1], after, strict=True):
                array[...] = new

    def backward(
        self, dy: Array, cache: Any, dstate: Sequence[Array]
    ) -> tuple[Array, Any, dict[str, Array]]:
        """Return the gradients of Wx, of the first state and of R, without validation."""
        dWx, dstate0 = self.without_R(dy, cache, dstate)
        (B, T, _), (NH, rows, D) = dWx.shape, cache.R.shape
        dgates = dWx.reshape(B * T, dWx.shape[2] // (NH * D), NH, D)
        dRh = dgates[:, -(rows // D) :].transpose(2, 0, 1, 3).reshape(NH, B * T, rows)
        h = by_row(cache.h[:-1], cache.R, B).reshape(B * T, NH, D).swapaxes(0, 1)
        dR = [matmul(dRh[n].T, h[n]) for n in range(NH)]
        return dWx, dstate0, {"R": np.stack(dR)}  # [rec.6]

    def without_R(self, dy: Array, cache: Any, dstate: Sequence[Array]) -> tuple[Array, Any]:
        """Return the gradients of Wx and of the first state, without validation.

        The final state of row n is the state after ``ends[n]`` steps; later steps are padding.
        """
        gates, R, units, _, memory, ends = cache
        (B, T, _), P = dy.shape, gates.shape[1] // len(R)
        dy = by_part(np.where(padding(ends, T)[..., None], 0, dy), R, P)[:, :, 0]
        dlast = by_part(np.stack(dstate, axis=1), R, P)[:, :, 0]
        d, dgates = np.zeros_like(dlast), np.empty_like(gates)
        kept = gates, np.ascontiguousarray(R.swapaxes(1, 2)), units, memory, ends
        if P > 1 or compiled(gates.dtype):
            parts = range(gates.shape[1])
            for_each_part(self.loop_backward, parts, gates.size, *kept, dy, dlast, d, dgates)
        else:
            self.array_loop_backward(kept, dy, dlast, d, dgates)
        dstate0 = by_row(d, R, B).swapaxes(0, 1).copy()
        for one, last in zip(dstate0, dstate, strict=True):
            one[ends == 0] = last[ends == 0]
        return by_row(dgates, R, B), self.state(*dstate0)  # [rec.8]

    def array_loop_backward(
        self, kept: Any, dy: Array, dlast: Array, d: Array, dgates: Array
    ) -> None:
        """Run all parts backward, as :func:`loop_backward` does."""
        gates, R, units, memory, ends = kept
        (T, N, G, U), (NH, D, rows), B = gates.shape, R.shape, len(ends)
        steps, dsteps = gates.transpose(2, 0, 1, 3), dgates.swapaxes(1, 2)
        dpre, ending = dgates.reshape(T, NH, G * D, B)[:, :, -rows:], set(ends.tolist())
        columns, last = (array.reshape(len(d), NH, D, B) for array in (d, dlast))
        before, after = memory[:-1].swapaxes(0, 1), memory[1:].swapaxes(0, 1)
        for part in reversed(spread(T, T * N * U // BLOCK)):
            factors = self.derivatives(steps[:, part], before[:, part], after[:, part], units)
            for t in reversed(range(part.start, part.stop)):
                if t + 1 in ending:
                    columns[..., t + 1 == ends] = last[..., t + 1 == ends]
                d[0] += dy[t]  # [rec.2]
                found = self.step_backward(d, [array[t - part.start] for array in factors])
                for array, new in zip([*dsteps[t], *d[1:]], found, strict=True):
                    array[...] = new
                np.matmul(R, dpre[t], out=columns[0])  # [rec.3]

    def checked_forward(
        self, Wx: Array, R: Array, state: Any, lengths: Any
    ) -> tuple[Array, Any, Array]:
        """Validate the arguments of a public forward; return a copy of Wx, the state and ends."""
        NH, rows, DH = check_array("R", R, ("heads", "4*DH", "DH")).shape
        if rows != 4 * DH or 0 in R.shape:
            raise ShapeError(f"R: expected shape (NH, 4·DH, DH); got {R.shape}")
        B, T, _ = check_array("Wx", Wx, ("batch", "time", 4 * NH * DH), R.dtype).shape
        check_batch("Wx", Wx)
        start = {name: -np.inf if name == "m" else 0 for name in self.state._fields}
        empty = self.state(*(np.full((B, NH * DH), number, R.dtype) for number in start.values()))
        state = empty if state is None else check_like("state", state, empty)
        ends = np.full(B, T) if lengths is None else check_lengths(lengths, B, T)
        return Wx.copy(), state, ends

    def checked_backward(self, dy: Array, cache: Any, dstate: Any) -> tuple[Array, Array, Any]:
        """Validate the arguments of a public backward; return the gradients of Wx, R and state."""
        check_cache(cache, self.cache)
        B, T, (NH, _, D) = len(cache.ends), len(cache.gates), cache.R.shape
        check_array("dy", dy, (B, T, NH * D), cache.R.dtype)
        zero = self.state(*(np.zeros((B, NH * D), dy.dtype) for _ in self.state._fields))
        dstate = zero if dstate is None else check_like("dstate", dstate, zero)
        dWx, dstate0, grads = self.backward(dy, cache, dstate)
        return dWx, grads["R"], dstate0


def specialised(source: Any, step: Callable[..., Any], **names: Any) -> Callable[..., Any]:
    """Return a kernel with the code of ``source`` and with these global names replaced."""
    made = FunctionType(source.__code__, source.__globals__ | names, source.__name__)
    made.__qualname__ = f"{source.__name__} of {step.__module__}"
    return kernel(made)
