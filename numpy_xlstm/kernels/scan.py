"""The loop over time of LSTM and related cells: products with R and pointwise steps.

::

    g_t = (W x + b)_t + R h_{t−1}                  [rec.1]
    h_t, memory_t = step(g_t, memory_{t−1})

A cell defines its step and the backward of it as functions of numbers. :class:`Recurrence` applies
them to the arrays of each step. With numba, they are instead compiled into :func:`loop` and
:func:`loop_backward`, which compute one number at a time.

Heads are independent of each other. The table gives shapes for NH heads of D units, G gates, the
last K of which contain R h, and S arrays of memory:

=========  ====================  ==============================================================
gates      (B, T, G, NH, D)      pre-activations; the forward adds R h
R          (NH, K·D, D)
units      (E, NH, D)            constants of each unit, such as peephole weights
h          (T + 1, NH, B, D)     before, between and after the steps
memory     (T + 1, S, NH, B, D)  as h
d          (1 + S, NH, B, D)     cotangents of h and of the memory
=========  ====================  ==============================================================
"""

from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.errors import ShapeError
from numpy_xlstm.kernels.functions import compiled, kernel
from numpy_xlstm.numerics import Array, check_array, check_batch, check_lengths
from numpy_xlstm.numerics.threads import parallel_map
from numpy_xlstm.validation import check_cache, check_like

ROWS = 16
"""Rows of a batch for each task of a thread; with fewer, the product of a step is slow."""

WORTH_THREADS = 2**18
"""Smallest size of the gates at which several threads are faster than one."""

advance: Any = None
retreat: Any = None
"""Step of one head of one row, and its backward; each :class:`Recurrence` sets its own."""


def loop(part: Any, gates: Any, R: Any, units: Any, h: Any, memory: Any, ends: Any) -> None:
    """Run one head of some rows over all steps; R is transposed, (NH, D, K·D)."""
    (n, first, last), (_, T, G, _, D) = part, gates.shape
    B, K = last - first, R.shape[2] // D
    Rh = np.empty((B, K, D), gates.dtype)
    for t in range(T):
        np.dot(h[t, n, first:last], R[n], Rh.reshape(B, K * D))
        for b in range(first, last):
            for k in range(K):
                for j in range(D):
                    gates[b, t, G - K + k, n, j] += Rh[b - first, k, j]  # [rec.1]
            advance(n, b, gates[b, t], units, memory[t], h[t + 1], memory[t + 1])
            if t >= ends[b]:
                h[t + 1, n, b] = 0  # it could overflow in padding


def loop_backward(part: Any, kept: Any, dy: Any, dlast: Any, d: Any, dgates: Any) -> None:
    """Run backward over all steps; d starts as 0 and ends as the gradient of the first state."""
    gates, R, units, memory, ends = kept
    (n, first, last), (_, T, G, _, D) = part, gates.shape
    B, K = last - first, R.shape[1] // D
    dRh = np.empty((B, K, D), gates.dtype)
    for t in range(T - 1, -1, -1):
        for b in range(first, last):
            if t + 1 == ends[b]:
                d[:, n, b] = dlast[:, n, b]
            if t < ends[b]:
                for j in range(D):
                    d[0, n, b, j] += dy[b, t, n, j]  # [rec.8]
                retreat(n, b, gates[b, t], units, memory[t], memory[t + 1], d, dgates[b, t])
            else:
                dgates[b, t, :, n] = 0
            dRh[b - first] = dgates[b, t, G - K :, n]
        np.dot(dRh.reshape(B, K * D), R[n], d[0, n, first:last])  # [rec.2]


UNIT_BY_UNIT = """
def advance(n, b, gates, units, before, h, after):
    for j in range(gates.shape[2]):
        h[n, b, j], {after} = step(({gates}), ({before}), ({units}))

def retreat(n, b, gates, units, before, after, d, dgates):
    for j in range(gates.shape[2]):
        now = ({d})
        factors = derivatives(({gates}), ({before}), ({after}), ({units}))
        {dgates} {dbefore} = step_backward(now, factors)
"""
"""Source of the loops over the units of one head of one row.

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

    def state(self, t: Any) -> list[Array]:
        """Return h and the memory, (B, H) each, after ``t`` steps, one integer for each row."""
        rows = np.arange(len(self.ends))
        arrays = [self.h, *self.memory.swapaxes(0, 1)]
        return [a[t, :, rows].reshape(len(rows), -1) for a in arrays]


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
        d = [f"d[{k}, n, b, j], " for k in range(len(state._fields))]
        arrays = {
            "gates": [f"gates[{k}, n, j], " for k in range(gates)],
            "dgates": [f"dgates[{k}, n, j], " for k in range(gates)],
            "units": [f"units[{k}, n, j], " for k in range(units)],
            "before": [f"before[{k}, n, b, j], " for k in range(len(d) - 1)],
            "after": [f"after[{k}, n, b, j], " for k in range(len(d) - 1)],
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
        """Run over W x + b, where row b has ``ends[b]`` steps, without validation.

        Wx, (B, T, G·H), is overwritten. Returns the outputs (B, T, H), the state after the last
        step, and the cache.
        """
        R = np.ascontiguousarray(params["R"])  # BLAS needs C-order
        R = R.reshape(-1, *R.shape[-2:])
        (B, T, width), (NH, rows, D) = Wx.shape, R.shape
        gates = Wx.reshape(B, T, width // (NH * D), NH, D)
        units = np.full((self.units, NH, D), units, R.dtype)
        hs = np.empty((T + 1, NH, B, D), gates.dtype)
        memory = np.empty((T + 1, len(state) - 1, NH, B, D), gates.dtype)
        for now, start in zip([hs[0], *memory[0]], state, strict=True):
            now[...] = start.reshape(B, NH, D).swapaxes(0, 1)
        padded = padding(ends, T)
        gates[padded] = 0
        R_transposed = np.ascontiguousarray(R.swapaxes(1, 2))
        if compiled(gates.dtype):
            arrays = gates, R_transposed, units, hs, memory, ends
            in_parts(lambda part: self.loop(part, *arrays), gates)
        else:
            steps, constants, K = by_step(gates), units[:, :, None], rows // D
            shortest = ends.min(initial=T)
            for t in range(T):
                Rh = (hs[t] @ R_transposed).reshape(NH, B, K, D).transpose(2, 0, 1, 3)
                steps[t, -K:] += Rh  # [rec.1]
                hs[t + 1], *after = self.step(steps[t], memory[t], constants)
                if t >= shortest:
                    hs[t + 1, :, ends <= t] = 0  # it could overflow in padding
                for array, new in zip(memory[t + 1], after, strict=True):
                    array[...] = new
        y = hs[1:].transpose(2, 0, 1, 3).copy().reshape(B, T, NH * D)
        y[padded] = 0
        cache = self.cache(gates, R, units, hs, memory, ends)
        return y, self.state(*cache.state(ends)), cache

    def backward(
        self, dy: Array, cache: Any, dstate: Sequence[Array]
    ) -> tuple[Array, Any, dict[str, Array]]:
        """Return the gradients of Wx, of the first state and of R, without validation."""
        dWx, dstate0 = self.without_R(dy, cache, dstate)
        (B, T, _, NH, D), rows = cache.gates.shape, cache.R.shape[1]
        dgates = dWx.reshape(cache.gates.shape)[:, :, -(rows // D) :]
        dRh = dgates.transpose(3, 1, 0, 2, 4).reshape(NH, T * B, rows)
        dR = dRh.swapaxes(1, 2) @ cache.h[:-1].swapaxes(0, 1).reshape(NH, T * B, D)  # [rec.5]
        return dWx, dstate0, {"R": dR}

    def without_R(self, dy: Array, cache: Any, dstate: Sequence[Array]) -> tuple[Array, Any]:
        """Return the gradients of Wx and of the first state, without validation.

        The final state of row b is that after ``ends[b]`` steps; later steps are padding.
        """
        gates, R, units, _, memory, ends = cache
        B, T, G, NH, D = gates.shape
        K = R.shape[1] // D
        dy = np.ascontiguousarray(dy).reshape(B, T, NH, D)
        last = np.ascontiguousarray(np.stack(dstate).reshape(-1, B, NH, D).swapaxes(1, 2))
        d, dgates = np.zeros_like(last), np.empty_like(gates)
        if compiled(gates.dtype):
            arrays = (gates, R, units, memory, ends), dy, last, d, dgates
            in_parts(lambda part: self.loop_backward(part, *arrays), gates)
        else:
            dys = np.where(padding(ends, T)[..., None, None], 0, dy).transpose(1, 2, 0, 3)
            steps, dsteps = by_step(gates).swapaxes(0, 1), by_step(dgates)
            before, after = (m.swapaxes(0, 1) for m in (memory[:-1], memory[1:]))
            factors = self.derivatives(steps, before, after, units[:, :, None])
            ending = {t: ends == t for t in ends.tolist()}
            for t in reversed(range(T)):
                if t + 1 in ending:
                    d[:, :, ending[t + 1]] = last[:, :, ending[t + 1]]
                d[0] += dys[t]  # [rec.8]
                found = self.step_backward(d, [a[t] for a in factors])
                for array, new in zip([*dsteps[t], *d[1:]], found, strict=True):
                    array[...] = new
                dRh = dsteps[t, -K:].transpose(1, 2, 0, 3).reshape(NH, B, K * D)
                np.matmul(dRh, R, out=d[0])  # [rec.2]
        d[:, :, ends == 0] = last[:, :, ends == 0]
        dstate0 = self.state(*d.swapaxes(1, 2).reshape(len(d), B, NH * D))
        return dgates.reshape(B, T, G * NH * D), dstate0  # [rec.7]

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
        B, T, _, NH, D = cache.gates.shape
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


def in_parts(work: Callable[[Any], None], gates: Array) -> None:
    """Do the work of a loop in parts of one head and some rows, on several threads if it is large.

    The parts, and so the results, do not depend on the number of threads.
    """
    B, _, _, NH, _ = gates.shape
    if gates.size < WORTH_THREADS:
        for n in range(NH):
            work((n, 0, B))
    else:
        rows = [(b, min(b + ROWS, B)) for b in range(0, B, ROWS)]
        parallel_map(work, [(n, *each) for n in range(NH) for each in rows])


def by_step(gates: Array) -> Array:
    """Return a view of (B, T, G, NH, D) as (T, G, NH, B, D)."""
    return gates.transpose(1, 2, 3, 0, 4)


def padding(ends: Array, T: int) -> Array:
    """Return a mask of padding, (B, T)."""
    behind: Array = np.arange(T) >= ends[:, None]
    return behind
