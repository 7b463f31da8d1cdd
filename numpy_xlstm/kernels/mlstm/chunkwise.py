"""Chunkwise form of mLSTM: parallel within a chunk, recurrent from chunk to chunk.

Derived in ``docs/derivations/mlstm-forms.md``. Without numba, a chunk of L steps is computed for
all heads at once; a compiled kernel computes it for one head, so that it fits in the processor's
cache. The parallel form is a single chunk. N is the number of all heads in all rows, and DV
includes the column of n, see ``forms.py``.
"""

from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.kernels.common import for_loops, over_heads
from numpy_xlstm.kernels.functions import kernel
from numpy_xlstm.kernels.mlstm.matrices import (
    decayed,
    gate_gradients,
    plus,
    products,
    row_dots,
    scaled,
    transposed,
    weights,
)
from numpy_xlstm.numerics import Array

CHUNK_SIZE = 64
"""Default number of steps per chunk."""


class ChunkwiseCache(NamedTuple):
    """Residuals of G chunks of L steps, with padding at the end."""

    k: Array  # (N, G·L, DK)
    v: Array
    w: Array  # w_ij, weights of the steps of a chunk, (N, G·L, L)
    w_state: Array  # w_i0, weights of the state before the chunk, (N, G·L)
    C: Array  # before, between and after the chunks, (N, G + 1, DK, DV)

    def backward(self, dnum: Array, q: Array, dC: Array) -> tuple[Array, ...]:
        """Compute gradients from the last chunk to the first, as described in ``forms.py``."""
        T, steps = q.shape[1], self.k.shape[1]
        dnum, q, dC = padded(dnum, steps), padded(q, steps), dC.copy()
        grads = [np.empty_like(a) for a in (q, self.k, self.v, self.w_state, self.w_state)]
        size = q.size + dnum.size
        residuals = tuple(map(for_loops, self))
        over_heads(backward_through_chunks, size, dnum, q, residuals, tuple(grads), dC)
        return *(array[:, :T] for array in grads), dC


def chunks(
    q: Array, k: Array, v: Array, log_i: Array, log_f: Array, C: Array, chunk_size: int
) -> tuple[Array, Array, ChunkwiseCache]:
    """Compute the chunkwise form, as described in ``forms.py``.

    A chunk size of 0 means a single chunk, which is the parallel form. Chunks are equally long;
    padding in the last one writes and forgets nothing.
    """
    N, T, _ = q.shape
    G = -(-T // (chunk_size or max(1, T)))
    L = -(-T // max(1, G))
    q, k, v = (padded(array, G * L) for array in (q, k, v))
    log_i, log_f = padded(log_i, G * L, -np.inf), padded(log_f, G * L)
    num, w, w_state = (np.empty((N, G * L, *last), v.dtype) for last in (v.shape[2:], (L,), ()))
    Cs = np.empty((N, G + 1, *C.shape[1:]), v.dtype)
    Cs[:, 0] = C
    over_heads(through_chunks, q.size + v.size, q, k, v, log_i, log_f, num, w, w_state, Cs)
    return num[:, :T], Cs[:, -1].copy(), ChunkwiseCache(k, v, w, w_state, Cs)


def padded(array: Array, steps: int, number: float = 0) -> Array:
    """Return (N, T, …) with this number in further steps; the same array if there are none."""
    N, T, *rest = array.shape
    if steps == T:
        return array
    end = np.full((N, steps - T, *rest), number, array.dtype)
    return np.concatenate([array, end], axis=1)


@kernel
def through_chunks(
    n: Any, q: Any, k: Any, v: Any, log_i: Any, log_f: Any, num: Any, w: Any, w_state: Any, C: Any
) -> None:
    """Write Cᵀq of all steps, the weights of each chunk, and C after each chunk."""
    L = w.shape[2]
    for g in range(C.shape[1] - 1):
        at = n, slice(g * L, g * L + L)
        W, to_state, C_before = w[at], w_state[at], C[n, g]
        weights(log_i[at], log_f[at], W, to_state)
        scores = products(q[at], k[at], W)
        scores *= W  # [form.5]
        plus(scores @ v[at], scaled(q[at], to_state) @ C_before, num[at])  # [form.6] [form.7]
        written = transposed(scaled(k[at], W[..., -1, :])) @ v[at]
        plus(written, decayed(C_before, to_state), C[n, g + 1])  # [form.4]


@kernel
def backward_through_chunks(n: Any, dnums: Any, qs: Any, cache: Any, grads: Any, dCs: Any) -> None:
    """Write the gradients of q, k, v and the log gates; update dC to that of the first C."""
    (ks, vs, ws, ws_state, Cs), (dq, dk, dv, dlog_i, dlog_f) = cache, grads
    L, dC = ws.shape[2], dCs[n]
    for g in range(Cs.shape[1] - 2, -1, -1):
        at = n, slice(g * L, g * L + L)
        dnum, q, k, v = dnums[at], qs[at], ks[at], vs[at]
        w, w_state, C = ws[at], ws_state[at], Cs[n, g]
        scores, dscores = products(q, k, w), products(dnum, v, w)
        scores *= w
        dS, dD = dscores * w, dscores * scores
        q_state, w_last = scaled(q, w_state), w[..., -1, :]
        plus(transposed(scores) @ dnum, scaled(k, w_last) @ dC, dv[at])  # [form.11]
        dk_last = scaled(v @ transposed(dC), w_last)
        plus(transposed(dS) @ q, dk_last, dk[at])  # [form.10]
        dq_state = scaled(dnum @ transposed(C), w_state)
        plus(dS @ k, dq_state, dq[at])  # [form.9]
        last, db = row_dots(k, dk_last), row_dots(q, dq_state)  # [form.12]
        through = row_dots(C, dC)  # [form.13]
        gate_gradients(dD, last, db, through, w_state, dlog_i[at], dlog_f[at])
        plus(transposed(q_state) @ dnum, decayed(dC, w_state), dC)  # [form.8]
