"""The loop over time of LSTM and its kin: products with R between pointwise steps.

::

    g_t = (W x + b)_t + R h_{t−1}                  [rec.1]
    h_t, memory_t = step(g_t, memory_{t−1})

A cell gives its step, and the way back, as functions of numbers. :class:`Recurrence` runs them over
the arrays of one step, or, where numba is installed, compiled in :func:`loop` and
:func:`loop_backward`, which take one number after the other.

A head is a cell of its own: it sees no other head. Shapes, for NH heads of D units, G gates, of
which the last K have R h in them, and S arrays of memory:

=========  ====================  ==============================================================
gates      (B, T, G, NH, D)      pre-activations, without R h before the forward, with it after
R          (NH, K·D, D)
units      (E, NH, D)            constants of each unit, such as peephole weights
h          (T + 1, NH, B, D)     before, between and after the steps
memory     (T + 1, S, NH, B, D)  likewise
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
"""Rows of a batch that one thread takes: fewer make the product of a step slow."""

WORTH_THREADS = 2**18
"""Numbers in the gates from which on several threads are faster than one."""

advance: Any = None
retreat: Any = None
"""The step of one head of one row, and the way back: each :class:`Recurrence` has its own."""


def loop(part: Any, gates: Any, R: Any, units: Any, h: Any, memory: Any) -> None:
    """Run a head of some rows over all steps; R is transposed, (NH, D, K·D)."""
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


def loop_backward(part: Any, kept: Any, dy: Any, dlast: Any, d: Any, dgates: Any) -> None:
    """Run back over all steps; d, which comes as 0, ends as the first state's."""
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
"""The loops over the units of one head of one row, for any number of gates and arrays of memory.

Numba must see each number by itself: it makes no tuple of the numbers of an array.
"""


class ScanCache(NamedTuple):
    """Residuals of a sequence; shapes are those of the module."""

    gates: Array
    R: Array
    units: Array
    h: Array
    memory: Array
    ends: Array  # number of steps of each row, (B,)

    def state(self, t: Any) -> list[Array]:
        """Return h and the memory after ``t`` steps, an integer for each row, (B, H) each."""
        rows = np.arange(len(self.ends))
        arrays = [self.h, *self.memory.swapaxes(0, 1)]
        return [a[t, :, rows].reshape(len(rows), -1) for a in arrays]


class Recurrence:
    """A cell: its functions of numbers, and the loops that are compiled with them.

    ::

        h, *memory               = step(gates, memory_before, units)
        coefficients             = derivatives(gates, memory_before, memory, units)
        *dgates, *dmemory_before = step_backward((dh, *dmemory), coefficients)

    The last is linear in the cotangents. Its coefficients do not depend on them, and are computed
    for all steps at once.

    Parameters
    ----------
    step, derivatives, step_backward : callable
        The functions, of tuples of numbers or of arrays.
    state, cache : type
        The types of the state, of h and the arrays of memory, and of the cache.
    gates, units : int
        How many gates there are, and constants of a unit.
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
        names["__name__"] = step.__module__  # numba goes by module and name, here and below
        exec(compile(text, loop.__code__.co_filename, "exec"), names)
        self.loop = specialised(loop, step, advance=kernel(names["advance"]))
        self.loop_backward = specialised(loop_backward, step, retreat=kernel(names["retreat"]))

    def forward(
        self, Wx: Array, params: Mapping[str, Array], state: Any, ends: Array, units: Any = 0
    ) -> tuple[Array, Any, Any]:
        """Run over W x + b, of which row b has ``ends[b]`` steps, without checks.

        Wx, (B, T, G·H), is written to. Returns outputs (B, T, H), the state after and the cache.
        """
        R = np.ascontiguousarray(params["R"])  # the order of a view is not the one of BLAS
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
            arrays = gates, R_transposed, units, hs, memory
            in_parts(lambda part: self.loop(part, *arrays), gates)
        else:
            steps, constants, K = by_step(gates), units[:, :, None], rows // D
            for t in range(T):
                Rh = (hs[t] @ R_transposed).reshape(NH, B, K, D).transpose(2, 0, 1, 3)
                steps[t, -K:] += Rh  # [rec.1]
                hs[t + 1], *after = self.step(steps[t], memory[t], constants)
                for array, new in zip(memory[t + 1], after, strict=True):
                    array[...] = new
        y = hs[1:].transpose(2, 0, 1, 3).copy().reshape(B, T, NH * D)
        y[padded] = 0
        cache = self.cache(gates, R, units, hs, memory, ends)
        return y, self.state(*cache.state(ends)), cache

    def backward(
        self, dy: Array, cache: Any, dstate: Sequence[Array]
    ) -> tuple[Array, Any, dict[str, Array]]:
        """Return the gradients of Wx, of the state before and of R, without checks."""
        dWx, dstate0 = self.without_R(dy, cache, dstate)
        (B, T, _, NH, D), rows = cache.gates.shape, cache.R.shape[1]
        dgates = dWx.reshape(cache.gates.shape)[:, :, -(rows // D) :]
        dRh = dgates.transpose(3, 1, 0, 2, 4).reshape(NH, T * B, rows)
        dR = dRh.swapaxes(1, 2) @ cache.h[:-1].swapaxes(0, 1).reshape(NH, T * B, D)  # [rec.5]
        return dWx, dstate0, {"R": dR}

    def without_R(self, dy: Array, cache: Any, dstate: Sequence[Array]) -> tuple[Array, Any]:
        """Return the gradients of Wx and of the state before, without checks.

        Row b has its last state after ``ends[b]`` steps: nothing depends on later ones.
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
        """Check the arguments of a public forward; return a copy of Wx, the state and the ends."""
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
        """Check the arguments of a public backward; return the gradients of Wx, R and the state."""
        check_cache(cache, self.cache)
        B, T, _, NH, D = cache.gates.shape
        check_array("dy", dy, (B, T, NH * D), cache.R.dtype)
        zero = self.state(*(np.zeros((B, NH * D), dy.dtype) for _ in self.state._fields))
        dstate = zero if dstate is None else check_like("dstate", dstate, zero)
        dWx, dstate0, grads = self.backward(dy, cache, dstate)
        return dWx, grads["R"], dstate0


def specialised(source: Any, step: Callable[..., Any], **names: Any) -> Callable[..., Any]:
    """Return a kernel of the same source that has these functions in the place of names."""
    made = FunctionType(source.__code__, source.__globals__ | names, source.__name__)
    made.__qualname__ = f"{source.__name__} of {step.__module__}"
    return kernel(made)


def in_parts(work: Callable[[Any], None], gates: Array) -> None:
    """Do the work of a loop in pieces, a head and some rows each, on several threads if worth it.

    The pieces do not depend on the number of threads, so that no result does.
    """
    B, _, _, NH, _ = gates.shape
    if gates.size < WORTH_THREADS:
        for n in range(NH):
            work((n, 0, B))
    else:
        rows = [(b, min(b + ROWS, B)) for b in range(0, B, ROWS)]
        parallel_map(work, [(n, *each) for n in range(NH) for each in rows])


def by_step(gates: Array) -> Array:
    """View of (B, T, G, NH, D) as (T, G, NH, B, D)."""
    return gates.transpose(1, 2, 3, 0, 4)


def padding(ends: Array, T: int) -> Array:
    """Return where a row has no step, (B, T)."""
    behind: Array = np.arange(T) >= ends[:, None]
    return behind
