"""Independent parts of a sequence: layout and compiled loops for ``scan.py``, and threads.

Heads, and rows of a batch, are independent of each other. The work is therefore split into N parts.
A part is one of the NH heads for r rows, and has U = D·r numbers: for each of the head's D units,
the numbers of its r rows are contiguous. In this order a step multiplies R by a matrix (D, r),
which is faster than a matrix (r, D) times Rᵀ.

A cell's functions of numbers get tuples, whose lengths numba must know. They are read and written
by :func:`entries` and :func:`set_entries`, with the indices of the rows as a constant tuple. The
loops over the units of a part are functions of their own. LLVM vectorises them before it inlines
them; within the loop over time it would have to prove that no steps overlap.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numpy_xlstm.errors import CacheError
from numpy_xlstm.kernels.functions import compiled, entries, kernel, pointwise, set_entries
from numpy_xlstm.numerics import Array
from numpy_xlstm.numerics.threads import num_threads, parallel_map, spread

ROWS = 16
"""Largest number of rows in a part of a batch that is split. A batch is not split into parts of
fewer than half as many rows, because their product with R is slow."""

WORTH_THREADS = 2**18
"""Smallest number of gates, or of entries of q and v, at which several threads are faster."""

BLOCK = 2**16
"""Number of entries (units times steps) that NumPy copies at once, or whose derivatives it computes
at once. They fit into the cache."""

SMALL = 2**19
"""Largest number of multiplications of a step for which BLAS is faster with a transposed matrix."""

Rows = tuple[int, ...]
"""Indices 0, 1, … of all gates, of all arrays of a state, or of all constants."""


def for_each_part(loop: Callable[..., None], parts: Sequence[Any], size: int, *arrays: Any) -> None:
    """Call a loop with each part and the arrays, on several threads if ``size`` is large."""
    if size < WORTH_THREADS:
        for n in parts:
            loop(n, *arrays)
    else:
        parallel_map(lambda n: loop(n, *arrays), parts)


def over_heads(loop: Any, size: int, *arrays: Any) -> None:
    """Run a kernel on each of N heads if it is compiled, otherwise on slices of them."""
    N = len(arrays[0])
    if compiled(arrays[0].dtype):
        for_each_part(loop, range(N), size, *arrays)
    else:
        slices = spread(N, num_threads() if size >= WORTH_THREADS else 1)
        for_each_part(loop.__wrapped__, slices, size, *arrays)


def groups(B: int, gates: Array) -> int:
    """Return the number of groups of rows. It does not depend on the number of threads."""
    if gates.size < WORTH_THREADS or not compiled(gates.dtype):
        return 1
    return next((B // r for r in range(ROWS, ROWS // 2 - 1, -1) if B % r == 0), 1)


def for_loops(array: Array) -> Array:
    """Return an array in C-order, aligned and writable: loops are compiled for no other kind."""
    return array if array.flags.carray else array.copy()


def by_part(array: Array, R: Array, P: int) -> Array:
    """Return (B, T, X·H) as (T, N, X, U), with P groups of rows."""
    (B, T, width), (NH, _, D) = array.shape, R.shape
    X, r = width // (NH * D), B // P
    parts = array.reshape(P, r, T, X, NH, D).transpose(2, 4, 0, 3, 5, 1)
    return for_loops(parts).reshape(T, NH * P, X, D * r)


def by_row(array: Array, R: Array, B: int) -> Array:
    """Copy (T, N, X, U), or (T, N, U), to (B, T, X·H)."""
    (T, N), (NH, _, D) = array.shape[:2], R.shape
    P, X = N // NH, 1 if array.ndim == 3 else array.shape[2]
    parts = array.reshape(T, NH, P, X, D, B // P).transpose(2, 5, 0, 3, 1, 4)
    if array.size <= BLOCK:
        return np.array(parts, order="C").reshape(B, T, X * NH * D)
    rows = np.empty(parts.shape, array.dtype)
    for steps in spread(T, array.size // BLOCK):  # what fits into the cache is copied much faster
        rows[:, :, steps] = parts[:, :, steps]
    return rows.reshape(B, T, X * NH * D)


def check_residual(name: str, array: Any, shape: tuple[int, ...], dtype: Any) -> None:
    """Raise :class:`CacheError` for residuals that do not fit the other arguments.

    A compiled loop does not check its indices and would read outside of an array that is too small.
    """
    if getattr(array, "shape", None) != shape or array.dtype != dtype:
        got = f"{getattr(array, 'shape', None)} and {getattr(array, 'dtype', type(array))}"
        raise CacheError(f"cache: expected {name} of shape {shape} and {dtype}; got {got}")


def split_heads(x: Array, NH: int) -> Array:
    """Return a view of x (..., B, NH·n) as (..., NH, B, n)."""
    return x.reshape(*x.shape[:-1], NH, x.shape[-1] // NH).swapaxes(-3, -2)


def join_heads(x: Array) -> Array:
    """Return x (..., NH, B, n) as (..., B, NH·n); the inverse of :func:`split_heads`."""
    *lead, NH, B, n = x.shape
    return x.swapaxes(-3, -2).reshape(*lead, B, NH * n)


def padding(lengths: Array, T: int) -> Array:
    """Return a mask of padding, (B, T)."""
    behind: Array = np.arange(T) >= lengths[:, None]
    return behind


def oriented(R: Array, r: int, backward: bool) -> Array:
    """Return R or Rᵀ in C-order, as the argument M of :func:`product`.

    The product is R h, or Rᵀ δ if ``backward``; h and δ have r columns. For a small product, M is
    the transpose of the matrix, because ``product`` then computes Mᵀ x.
    """
    small = R[0].size * r <= SMALL
    transposed = not small if backward else small
    return np.ascontiguousarray(R.swapaxes(1, 2)) if transposed else R


@kernel
def product(M: Any, x: Any, out: Any) -> None:
    """Write R x, or Rᵀ x in the backward. M is from :func:`oriented`."""
    if M.size * x.shape[1] <= SMALL:
        np.dot(M.T, x, out)
    else:
        np.dot(M, x, out)


def forward_loop(step: Any, gate_rows: Rows, state_rows: Rows, constant_rows: Rows) -> Any:
    """Return the loop over time with a step, as a kernel."""
    G, S, memory_rows = len(gate_rows), len(state_rows), state_rows[1:]

    @pointwise
    def advance(gates: Any, constants: Any, before: Any, after: Any) -> None:
        """Take a step for each unit of a part."""
        for j in range(gates.shape[1]):
            memory, unit = entries(before, memory_rows, j), entries(constants, constant_rows, j)
            state = step(entries(gates, gate_rows, j), memory, unit)
            set_entries(after, state_rows, j, state)

    def loop(n: Any, cache: Any) -> None:
        """Run part n over all steps."""
        gates, R, constants, states, ends = cache
        (T, _, _, U), P = gates.shape, gates.shape[1] // len(R)
        r, head = len(ends) // P, n // P
        D, first = U // r, n % P * r
        K = R[0].size // (D * D)
        matrix, h = R[head], states.reshape(T + 1, P * len(R), S, D, r)
        Rh = np.empty(K * U, gates.dtype)
        columns = Rh.reshape(K * D, r)
        for t in range(T):
            now, after = gates[t, n], states[t + 1, n]
            product(matrix, h[t, n, 0], columns)
            for k in range(K):
                for j in range(U):
                    now[G - K + k, j] += Rh[k * U + j]  # [rec.1]
            advance(now, constants[n], states[t, n], after)
            for row in range(r):
                if t >= ends[first + row]:
                    for j in range(row, U, r):
                        after[0, j] = 0  # it could overflow in padding

    return kernel_with(loop, step)


def backward_loop(
    derivatives: Any, step_backward: Any, gate_rows: Rows, state_rows: Rows, constant_rows: Rows
) -> Any:
    """Return the loop backward over time, as a kernel."""
    G, memory_rows = len(gate_rows), state_rows[1:]

    @pointwise
    def retreat(gates: Any, constants: Any, before: Any, after: Any, d: Any, dgates: Any) -> None:
        """Compute the backward of a step for each unit of a part."""
        for j in range(gates.shape[1]):
            memory, memory_after = entries(before, memory_rows, j), entries(after, memory_rows, j)
            unit = entries(constants, constant_rows, j)
            factors = derivatives(entries(gates, gate_rows, j), memory, memory_after, unit)
            gradients = step_backward(entries(d, state_rows, j), factors)
            set_entries(dgates, gate_rows, j, gradients[:G])
            set_entries(d, memory_rows, j, gradients[G:])

    def loop_backward(n: Any, cache: Any, dy: Any, dlast: Any, d: Any, dgates: Any) -> None:
        """Run part n backward.

        d is 0 at the beginning, and the cotangent of the first state at the end.
        """
        gates, R, constants, states, ends = cache
        (T, _, _, U), P = gates.shape, gates.shape[1] // len(R)
        r, head = len(ends) // P, n // P
        D, first = U // r, n % P * r
        K = R[0].size // (D * D)
        matrix, dpre = R[head], dgates.reshape(T, P * len(R), G * D, r)
        dstate, dh = d[n], d[n, 0].reshape(D, r)
        for t in range(T - 1, -1, -1):
            for row in range(r):
                if t + 1 == ends[first + row]:
                    for j in range(row, U, r):
                        dstate[:, j] = dlast[n, :, j]
            for j in range(U):
                dstate[0, j] += dy[t, n, j]  # [rec.2]
            before, after = states[t, n], states[t + 1, n]
            retreat(gates[t, n], constants[n], before, after, dstate, dgates[t, n])
            product(matrix, dpre[t, n, (G - K) * D :], dh)  # [rec.3]

    return kernel_with(loop_backward, step_backward)


def kernel_with(loop: Any, step: Any) -> Any:
    """Return a loop as a kernel, whose compiled code also depends on the source of ``step``."""
    loop.__module__ = step.__module__
    return kernel(loop)
