"""Independent parts of a sequence: layout and compiled loops for ``scan.py``, and threads.

Heads, and rows of a batch, are independent of each other. The work is therefore split into N parts:
with NH heads and P groups of r rows, part n = head·P + group is one head for one group. It has
U = D·r numbers: for each of the head's D units, the numbers of its r rows are contiguous. In this
order a step multiplies R by a matrix (D, r), which is faster than a matrix (r, D) times Rᵀ.

:func:`forward_loop` and :func:`backward_loop` make the compiled loops of a cell from its functions
of numbers, which take and return tuples.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numpy_xlstm.errors import CacheError
from numpy_xlstm.kernels.functions import compiled, entries, kernel, pointwise, set_entries
from numpy_xlstm.numerics import Array
from numpy_xlstm.numerics.threads import num_threads, parallel_map, spread

ROWS = 16
"""Largest number of rows in a group. A batch is not split into groups of fewer than half as many
rows, because their product with R is slow."""

WORTH_THREADS = 2**18
"""Least size of pre-activations, or of q and v, at which several threads are faster."""

BLOCK = 2**16
"""Number of entries (units times steps) that NumPy copies at once, or whose derivatives it computes
at once. They fit into the cache."""

SMALL = 2**19
"""Largest number of multiplications of a step for which BLAS is faster with a transposed matrix."""


def for_each(loop: Callable[..., None], indices: Sequence[Any], size: int, *arrays: Any) -> None:
    """Call a loop with each index and the arrays, on several threads if ``size`` is large."""
    if size < WORTH_THREADS:
        for n in indices:
            loop(n, *arrays)
    else:
        parallel_map(lambda n: loop(n, *arrays), indices)


def over_heads(loop: Any, size: int, *arrays: Any) -> None:
    """Run a kernel on each of N heads if it is compiled, otherwise on slices of them."""
    N = len(arrays[0])
    if compiled(arrays[0].dtype):
        for_each(loop, range(N), size, *arrays)
    else:
        slices = spread(N, num_threads() if size >= WORTH_THREADS else 1)
        for_each(loop.__wrapped__, slices, size, *arrays)


def groups(B: int, pre: Array) -> int:
    """Return the number of groups of rows. It does not depend on the number of threads."""
    if pre.size < WORTH_THREADS or not compiled(pre.dtype):
        return 1
    return next((B // r for r in range(ROWS, ROWS // 2 - 1, -1) if B % r == 0), 1)


def for_loops(array: Array) -> Array:
    """Return an array in C-order, aligned and writable: loops are compiled for no other kind."""
    return array if array.flags.carray else array.copy()


def by_part(array: Array, R: Array, P: int) -> Array:
    """Return (B, T, X·H) as (T, N, X, U), with P groups of rows."""
    (B, T, width), (NH, _, D) = array.shape, R.shape
    X, r = width // (NH * D), B // P
    ordered = array.reshape(P, r, T, X, NH, D).transpose(2, 4, 0, 3, 5, 1)
    return for_loops(ordered).reshape(T, NH * P, X, D * r)


def by_row(array: Array, R: Array, B: int) -> Array:
    """Copy (T, N, X, U), or (T, N, U), to (B, T, X·H)."""
    (T, N), (NH, _, D) = array.shape[:2], R.shape
    P, X = N // NH, 1 if array.ndim == 3 else array.shape[2]
    ordered = array.reshape(T, NH, P, X, D, B // P).transpose(2, 5, 0, 3, 1, 4)
    if array.size <= BLOCK:
        return np.array(ordered, order="C").reshape(B, T, X * NH * D)
    rows = np.empty(ordered.shape, array.dtype)
    for steps in spread(T, array.size // BLOCK):  # what fits into the cache is copied much faster
        rows[:, :, steps] = ordered[:, :, steps]
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


def forward_loop(step: Any, num_pre: int, num_states: int, num_constants: int) -> Any:
    """Return the loop over time with the step of a cell, as a kernel.

    For an LSTM, with 4 pre-activations, 2 arrays in a state and no constants, it computes ::

        for t in range(T):
            Rh = (R[head] @ states[t, n, 0].reshape(D, r)).reshape(4, U)
            pre[t, n] += Rh
            for j in range(U):
                i_pre, f_pre, z_pre, o_pre = pre[t, n, :, j]
                h, c = step((i_pre, f_pre, z_pre, o_pre), (states[t, n, 1, j],), ())
                states[t + 1, n, :, j] = h, c

    Numba must know the length of each tuple when it compiles. So :func:`entries` and
    :func:`set_entries` read and write a column at indices that are a constant tuple, here (0, 1, 2,
    3) for ``pre``, (1,) for the memory and (0, 1) for the state.

    The loop over j is a function of its own, which LLVM vectorises before it inlines it. Within the
    loop over time, it would have to prove that no steps overlap.
    """
    counts = num_pre, num_states, num_constants
    of_pre, of_state, of_constants = (tuple(range(count)) for count in counts)
    of_memory = of_state[1:]

    @pointwise
    def advance(pre: Any, constants: Any, before: Any, after: Any) -> None:
        """Take a step for each unit of a part."""
        for j in range(pre.shape[1]):
            memory, unit = entries(before, of_memory, j), entries(constants, of_constants, j)
            set_entries(after, of_state, j, step(entries(pre, of_pre, j), memory, unit))

    def loop(n: Any, cache: Any) -> None:
        """Run part n over all steps."""
        pre, R, constants, states, ends = cache
        (T, N, _, U), NH = pre.shape, len(R)
        P = N // NH  # groups of rows
        head, group, r = n // P, n % P, len(ends) // P
        D, first_row = U // r, group * r
        K = R[0].size // (D * D)  # the last K pre-activations contain R h
        matrix, h = R[head], states.reshape(T + 1, N, num_states, D, r)
        Rh = np.empty(K * U, pre.dtype)
        columns = Rh.reshape(K * D, r)
        for t in range(T):
            now, after = pre[t, n], states[t + 1, n]
            product(matrix, h[t, n, 0], columns)
            for k in range(K):
                for j in range(U):
                    now[num_pre - K + k, j] += Rh[k * U + j]  # [rec.1]
            advance(now, constants[n], states[t, n], after)
            for row in range(r):
                if t >= ends[first_row + row]:
                    for j in range(row, U, r):
                        after[0, j] = 0  # it could overflow in padding

    return kernel_with(loop, step)


def backward_loop(
    derivatives: Any, step_backward: Any, num_pre: int, num_states: int, num_constants: int
) -> Any:
    """Return the loop backward over time, as a kernel.

    For an LSTM, with d the cotangents of h and c in part n, it computes ::

        for t in reversed(range(T)):
            d[0] += dy[t, n]
            for j in range(U):
                memory, memory_after = (states[t, n, 1, j],), (states[t + 1, n, 1, j],)
                factors = derivatives(pre[t, n, :, j], memory, memory_after, ())
                *dpre[t, n, :, j], d[1, j] = step_backward((d[0, j], d[1, j]), factors)
            d[0] = (R[head].T @ dpre[t, n].reshape(4 * D, r)).reshape(U)

    The cotangent of the final state of a row is put into d before the last step of the row.
    """
    counts = num_pre, num_states, num_constants
    of_pre, of_state, of_constants = (tuple(range(count)) for count in counts)
    of_memory = of_state[1:]

    @pointwise
    def retreat(pre: Any, constants: Any, before: Any, after: Any, d: Any, dpre: Any) -> None:
        """Compute the backward of a step for each unit of a part."""
        for j in range(pre.shape[1]):
            memory, memory_after = entries(before, of_memory, j), entries(after, of_memory, j)
            unit = entries(constants, of_constants, j)
            factors = derivatives(entries(pre, of_pre, j), memory, memory_after, unit)
            gradients = step_backward(entries(d, of_state, j), factors)
            set_entries(dpre, of_pre, j, gradients[:num_pre])
            set_entries(d, of_memory, j, gradients[num_pre:])

    def loop_backward(n: Any, cache: Any, dy: Any, dlast: Any, d: Any, dpre: Any) -> None:
        """Run part n backward.

        d is 0 at the beginning, and the cotangent of the first state at the end.
        """
        pre, R, constants, states, ends = cache
        (T, N, _, U), NH = pre.shape, len(R)
        P = N // NH  # groups of rows
        head, group, r = n // P, n % P, len(ends) // P
        D, first_row = U // r, group * r
        K = R[0].size // (D * D)  # the last K pre-activations contain R h
        matrix, columns = R[head], dpre.reshape(T, N, num_pre * D, r)
        dstate, dh = d[n], d[n, 0].reshape(D, r)
        for t in range(T - 1, -1, -1):
            for row in range(r):
                if t + 1 == ends[first_row + row]:
                    for j in range(row, U, r):
                        dstate[:, j] = dlast[n, :, j]
            for j in range(U):
                dstate[0, j] += dy[t, n, j]  # [rec.2]
            before, after = states[t, n], states[t + 1, n]
            retreat(pre[t, n], constants[n], before, after, dstate, dpre[t, n])
            product(matrix, columns[t, n, (num_pre - K) * D :], dh)  # [rec.3]

    return kernel_with(loop_backward, step_backward)


def kernel_with(loop: Any, step: Any) -> Any:
    """Return a loop as a kernel of the module of ``step``.

    Compiled code is stored with a hash of the source of a kernel's module and of all modules that
    it uses. The module of a step uses this one, but this one does not use that of the step.
    """
    loop.__module__ = step.__module__
    return kernel(loop)
