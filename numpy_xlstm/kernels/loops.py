"""Compiled loops over time, made from a cell's functions of numbers for ``scan.py``.

Rows of a batch, and heads, are independent of each other. A loop therefore runs some rows of one
group of heads: of P groups, with m heads and U = m·DH units each. The shapes are those of
:mod:`~numpy_xlstm.kernels.scan`, with (P, U) in place of H, and (P, m) in place of NH. A thread
runs other rows or another group, and writes nothing that the loop reads.

The functions of numbers take and return tuples, whose lengths numba must know when it compiles. So
:func:`entries` and :func:`set_entries` read and write at indices that are a constant tuple: for an
LSTM (0, 1, 2, 3) for ``pre``, (1,) for the memory and (0, 1) for the state.

The loops over the units of a row are functions of their own, which LLVM vectorises before it
inlines them. Within the loop over time, it would have to prove that no steps overlap.
"""

from typing import Any

import numpy as np

from numpy_xlstm.kernels.functions import entries, kernel, multiply, packed, pointwise, set_entries


def forward_loop(step: Any, num_pre: int, num_states: int, num_constants: int) -> Any:
    """Return the loop over time with the step of a cell, as a kernel.

    For an LSTM with one head, and rows that all have T steps, it computes ::

        h = states[rows, 0, 0]
        for t in range(T):
            Rh = h @ R.T
            for b in rows:
                for k in range(4):
                    pre[b, t, k] += Rh[b, k * H : (k + 1) * H]
                for j in range(H):
                    states[b, t + 1, :, j] = step(pre[b, t, :, j], (states[b, t, 1, j],), ())
                h[b] = states[b, t + 1, 0]
    """
    counts = num_pre, num_states, num_constants
    of_pre, of_state, of_constants = (tuple(range(count)) for count in counts)
    of_memory = of_state[1:]

    @pointwise
    def advance(n: Any, Rh: Any, pre: Any, constants: Any, before: Any, after: Any, h: Any) -> None:
        """Take a step for each unit of a row in group n."""
        add_by_head(n, Rh, pre)
        for j in range(len(h)):
            memory, unit = entries(before, of_memory, n, j), entries(constants, of_constants, n, j)
            set_entries(after, of_state, n, j, step(entries(pre, of_pre, n, j), memory, unit))
        for j in range(len(h)):
            h[j] = after[0, n, j]

    def loop(part: Any, cache: Any) -> None:
        """Run the rows from ``first`` to ``last`` of group n over all their steps."""
        pre, R, constants, states, ends = cache
        (first, last, n), (_, m, rows, DH), T = part, R.shape, pre.shape[1]
        panels = packed(R[n], True)
        h = states[first:last, 0, 0, n].copy()
        Rh = np.empty((last - first, m * rows + panels.shape[-1]), h.dtype)
        for t in range(T):
            multiply(h, panels, rows, Rh)
            for b in range(first, last):
                if t < ends[b]:
                    now, row = Rh[b - first, : m * rows].reshape(m, rows // DH, DH), h[b - first]
                    advance(n, now, pre[b, t], constants, states[b, t], states[b, t + 1], row)

    return kernel_with(loop, step)


def backward_loop(
    derivatives: Any, step_backward: Any, num_pre: int, num_states: int, num_constants: int
) -> Any:
    """Return the loop backward over time, as a kernel.

    For an LSTM with one head, and rows that all have T steps, it computes ::

        for t in reversed(range(T)):
            for b in rows:
                for j in range(H):
                    memory, memory_after = (states[b, t, 1, j],), (states[b, t + 1, 1, j],)
                    factors = derivatives(pre[b, t, :, j], memory, memory_after, ())
                    dh, dc = d[b, 0, j] + dy[b, t, j], d[b, 1, j]
                    *dpre[b, t, :, j], d[b, 1, j] = step_backward((dh, dc), factors)
                dRh[b] = dpre[b, t].ravel()
            d[rows, 0] = dRh @ R

    d is the cotangent of the last state of each row at the beginning, and of the first at the end.
    """
    counts = num_pre, num_states, num_constants
    of_pre, of_state, of_constants = (tuple(range(count)) for count in counts)
    of_memory = of_state[1:]

    @pointwise
    def retreat(
        n: Any, pre: Any, constants: Any, before: Any, after: Any, dy: Any, d: Any, dpre: Any
    ) -> None:
        """Compute the backward of a step for each unit of a row in group n."""
        for j in range(dy.shape[1]):
            memory, memory_after = entries(before, of_memory, n, j), entries(after, of_memory, n, j)
            unit = entries(constants, of_constants, n, j)
            factors = derivatives(entries(pre, of_pre, n, j), memory, memory_after, unit)
            dstate = entries(d, of_state, n, j)
            gradients = step_backward((dstate[0] + dy[n, j], *dstate[1:]), factors)  # [rec.2]
            set_entries(dpre, of_pre, n, j, gradients[:num_pre])
            set_entries(d, of_memory, n, j, gradients[num_pre:])

    def loop_backward(part: Any, cache: Any, dy: Any, d: Any, dpre: Any) -> None:
        """Run the rows from ``first`` to ``last`` of group n backward over all their steps."""
        pre, R, constants, states, ends = cache
        (first, last, n), (_, m, rows, DH), T = part, R.shape, pre.shape[1]
        panels = packed(R[n], False)
        dRh = np.zeros((last - first, m, rows // DH, DH), d.dtype)
        dh = np.empty((last - first, m * DH + panels.shape[-1]), d.dtype)
        for t in range(T - 1, -1, -1):
            for b in range(first, last):
                if t < ends[b]:
                    before, after = states[b, t], states[b, t + 1]
                    retreat(n, pre[b, t], constants, before, after, dy[b, t], d[b], dpre[b, t])
                    by_head(n, dpre[b, t], dRh[b - first])
            multiply(dRh.reshape(last - first, m * rows), panels, DH, dh)  # [rec.3]
            for b in range(first, last):
                if t < ends[b]:
                    for j in range(m * DH):
                        d[b, 0, n, j] = dh[b - first, j]

    return kernel_with(loop_backward, step_backward)


@pointwise
def add_by_head(n: Any, Rh: Any, pre: Any) -> None:
    """Add R h, (m, K, DH), to the first K pre-activations of a row in group n, (K, P, U)."""
    m, K, DH = Rh.shape
    for head in range(m):
        for k in range(K):
            for j in range(DH):
                pre[k, n, head * DH + j] += Rh[head, k, j]  # [rec.1]


@pointwise
def by_head(n: Any, dpre: Any, dRh: Any) -> None:
    """Copy the first K pre-activations of a row in group n, (K, P, U), as (m, K, DH)."""
    m, K, DH = dRh.shape
    for head in range(m):
        for k in range(K):
            for j in range(DH):
                dRh[head, k, j] = dpre[k, n, head * DH + j]


def kernel_with(loop: Any, step: Any) -> Any:
    """Return a loop as a kernel of the module of ``step``.

    Compiled code is stored with a hash of the source of a kernel's module and of all modules that
    it uses. The module of a step uses this one, but this one does not use that of the step.
    """
    loop.__module__ = step.__module__
    return kernel(loop)
