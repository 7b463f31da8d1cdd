"""mLSTM one step at a time: the recurrent form, and the decode step.

If a step is compiled, it reads C once. The backward of the recurrent form is that of the chunkwise
form. Derived in ``docs/derivations/mlstm.md`` and ``docs/derivations/stabiliser.md``.
"""

from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.cells.mlstm import mLSTMState
from numpy_xlstm.kernels.common import for_loops, over_heads
from numpy_xlstm.kernels.functions import (
    compiled,
    exp,
    kernel,
    log_sigmoid,
    loops,
    maximum,
    minimum,
    modulus,
    pointwise,
)
from numpy_xlstm.kernels.mlstm.chunkwise import CHUNK_SIZE, chunks
from numpy_xlstm.numerics import Array, dot, lowest


def write_and_read(q: Any, k: Any, v: Any, f: Any, C: Any, C_after: Any, num: Any) -> None:
    """Write f C + k vᵀ to ``C_after``, and the product of its transpose with q to ``num``."""
    np.multiply(f[..., None, None], C, out=C_after)  # [mlstm.8]
    C_after += np.einsum("...k,...v->...kv", k, v)
    num[...] = (q[..., None, :] @ C_after)[..., 0, :]  # [mlstm.10]


@loops(write_and_read)
def _write_and_read(q: Any, k: Any, v: Any, f: Any, C: Any, C_after: Any, num: Any) -> None:
    for e in range(len(v)):
        num[e] = 0
    for d in range(len(k)):
        for e in range(len(v)):
            c = f * C[d, e] + k[d] * v[e]
            C_after[d, e] = c
            num[e] += q[d] * c


class RecurrentCache(NamedTuple):
    """Arguments of the recurrent form, from which the backward computes the chunks."""

    k: Array  # (N, T, DK)
    v: Array
    log_i: Array  # (N, T)
    log_f: Array
    C: Array  # before the first step, (N, DK, DV)

    def backward(self, dnum: Array, q: Array, dC: Array) -> tuple[Array, ...]:
        """Compute gradients, as described in ``forms.py``; the residuals do not depend on q."""
        k, v, log_i, log_f, C = map(for_loops, self)
        _, _, cache = chunks(q, k, v, log_i, log_f, C, CHUNK_SIZE)
        return cache.backward(dnum, q, dC)


def steps(
    q: Array, k: Array, v: Array, log_i: Array, log_f: Array, C: Array
) -> tuple[Array, Array, RecurrentCache]:
    """Compute the recurrent form, as described in ``forms.py``."""
    i, f = np.exp(log_i).astype(q.dtype), np.exp(log_f).astype(q.dtype)
    N, T, _ = q.shape
    num, Cs = np.empty(v.shape, v.dtype), np.empty((N, 2, *C.shape[1:]), C.dtype)
    Cs[:, 0] = C
    over_heads(through_steps, q.size, q, i[..., None] * k, v, f, num, Cs)
    return num, Cs[:, T % 2].copy(), RecurrentCache(k, v, log_i, log_f, C)


@kernel
def through_steps(n: Any, q: Any, ik: Any, v: Any, f: Any, num: Any, Cs: Any) -> None:
    """Take all steps; C is before and after each step in one of two arrays, in alternation."""
    for t in range(q.shape[1]):
        C, after = Cs[n, t % 2], Cs[n, (t + 1) % 2]
        write_and_read(q[n, t], ik[n, t], v[n, t], f[n, t], C, after, num[n, t])


@pointwise
def stabilised_gates(i_pre: Any, f_pre: Any, m: Any) -> Any:
    """Return i′, f′ and m after a step."""
    A = log_sigmoid(f_pre) + m  # [stab.1] [stab.3]
    m = maximum(A, i_pre)  # [stab.5]
    return exp(i_pre - m), exp(A - m), m  # [stab.6] [stab.7]


@pointwise
def denominator(qn: Any, m: Any, eps: Any, limit: Any) -> Any:
    """Return max(|q·n|, e^−m) + eps, with the exponent clipped to ±``limit``."""
    return maximum(modulus(qn), exp(minimum(maximum(-m, -limit), limit))) + eps  # [mlstm.12]


@kernel
def heads_step(inputs: Any, state: Any, eps: Any, limit: Any, h: Any, after: Any) -> None:
    """Take one step for each row and head."""
    (q, k, v, i_pre, f_pre), (C, n, m), (C_after, n_after, m_after) = inputs, state, after
    scale = 1 / np.sqrt(q.dtype.type(k.shape[2]))
    written = np.empty(k.shape[2], k.dtype)
    for b, s in np.ndindex(m.shape):
        i, f, m_after[b, s] = stabilised_gates(i_pre[b, s], f_pre[b, s], m[b, s])
        qn = 0 * f
        for d in range(len(written)):
            written[d] = i * scale * k[b, s, d]  # [mlstm.3]
            n_after[b, s, d] = f * n[b, s, d] + written[d]  # [mlstm.9]
            qn += q[b, s, d] * n_after[b, s, d]  # [mlstm.11]
        write_and_read(q[b, s], written, v[b, s], f, C[b, s], C_after[b, s], h[b, s])
        den = denominator(qn, m_after[b, s], eps, limit)
        for e in range(h.shape[2]):
            h[b, s, e] /= den  # [mlstm.13]


def mlstm_step(
    q: Array, k: Array, v: Array, i_pre: Array, f_pre: Array, state: Any, eps: float
) -> tuple[Array, mLSTMState]:
    """Take one step without a cache; return h (B, NH·DV) and the state after the step.

    q and k are (B, NH, DK), v is (B, NH, DV), and the pre-activations of the gates are (B, NH).
    """
    C, n, m = state
    number = q.dtype.type
    constants = number(eps), -number(lowest(q.dtype))
    h = np.empty(v.shape, v.dtype)
    if compiled(q.dtype):
        after = mLSTMState(*(np.empty(a.shape, a.dtype) for a in state))
        inputs = tuple(np.ascontiguousarray(a) for a in (q, k, v, i_pre, f_pre))
        before = tuple(np.ascontiguousarray(a) for a in state)
        heads_step(inputs, before, *constants, h, tuple(after))
    else:
        i, f, m = stabilised_gates(i_pre, f_pre, m)
        written = (i * (1 / np.sqrt(number(k.shape[-1]))))[..., None] * k  # [mlstm.3]
        n = f[..., None] * n + written  # [mlstm.9]
        after = mLSTMState(np.empty_like(C), n, m)
        write_and_read(q, written, v, f, C, after.C, h)
        h /= denominator(dot(q, n)[..., 0], m, *constants)[..., None]  # [mlstm.13]
    return h.reshape(len(h), -1), after
