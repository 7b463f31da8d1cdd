"""Compiled loops over time of LSTM and related cells, for :mod:`~numpy_xlstm.kernels.scan`.

A cell's functions of numbers get tuples, whose lengths numba must know. They are read and written
by :func:`entries` and :func:`set_entries`, with the indices of the rows as a constant tuple.

The loops over the units of a part are functions of their own. LLVM vectorises them before it
inlines them; within the loop over time it would have to prove that no steps overlap.
"""

from typing import Any

import numpy as np

from numpy_xlstm.kernels.functions import entries, kernel, pointwise, set_entries
from numpy_xlstm.numerics import Array

SMALL = 2**19
"""Largest number of multiplications of a step for which BLAS is faster with a transposed matrix."""


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


Rows = tuple[int, ...]
"""Indices 0, 1, … of all gates, of all arrays of a state, or of all constants."""


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
