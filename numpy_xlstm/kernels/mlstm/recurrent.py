"""Recurrent form of mLSTM: one step at a time.

The forward splits the sequence into about √T segments, and keeps C at the beginning of each. The
backward recomputes C within each segment.
"""

from math import isqrt
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.kernels.functions import kernel
from numpy_xlstm.kernels.mlstm.step import write, write_and_read
from numpy_xlstm.kernels.parts import over_heads
from numpy_xlstm.numerics import Array, dot


class RecurrentCache(NamedTuple):
    """Residuals of the recurrent form."""

    k: Array  # (N, T, DK)
    v: Array
    i: Array  # i′ and f′, (N, T)
    f: Array
    segment: int
    C: Array  # before each segment, and after the last, (N, S + 1, DK, DV)

    def shapes(self, N: int, T: int, DK: int, DV: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the arrays for N heads and T steps."""
        S = -(-T // max(1, self.segment))
        two, C = (N, T), (N, S + 1, DK, DV)
        return {"k": (N, T, DK), "v": (N, T, DV), "i": two, "f": two, "C": C}

    def backward(self, dnum: Array, q: Array, dC: Array) -> tuple[Array, ...]:
        """Compute gradients from the last step to the first, as described in ``forms.py``."""
        k, v, i, f, segment, kept = self
        T, ik, dC = q.shape[1], i[..., None] * k, dC.copy()
        dq, dk, dv, df = (np.empty_like(array) for array in (q, k, v, f))
        for s in reversed(range(kept.shape[1] - 1)):
            Cs, steps = [kept[:, s]], range(T)[s * segment : (s + 1) * segment]
            for t in steps:
                Cs.append(np.empty_like(dC))
                write(ik[:, t], v[:, t], f[:, t], *Cs[-2:])
            for t in reversed(steps):
                dC += np.einsum("nk,nv->nkv", q[:, t], dnum[:, t])  # [mlstm.21]
                dq[:, t] = (Cs.pop() @ dnum[:, t, :, None])[..., 0]  # [mlstm.23]
                dk[:, t] = (dC @ v[:, t, :, None])[..., 0]
                dv[:, t] = (ik[:, t, None] @ dC)[:, 0]  # [mlstm.26]
                df[:, t] = dot(Cs[-1].reshape(len(dC), -1), dC.reshape(len(dC), -1))[:, 0]
                dC *= f[:, t, None, None]
        dk *= i[..., None]  # [mlstm.25]
        dlog_i = dot(k, dk)[..., 0]  # [mlstm.27]
        dlog_f = f * df  # [mlstm.28]
        return dq, dk, dv, dlog_i, dlog_f, dC


def steps(
    q: Array, k: Array, v: Array, log_i: Array, log_f: Array, C: Array
) -> tuple[Array, Array, RecurrentCache]:
    """Compute the recurrent form, as described in ``forms.py``."""
    i, f = np.exp(log_i).astype(q.dtype), np.exp(log_f).astype(q.dtype)
    N, T, _ = q.shape
    num, segment = np.empty(v.shape, v.dtype), max(1, isqrt(T))
    kept = np.empty((N, -(-T // segment) + 1, *C.shape[1:]), C.dtype)
    kept[:, 0], turns = C, np.empty((N, 2, *C.shape[1:]), C.dtype)
    ik = i[..., None] * k
    over_heads(through_steps, q.size, q, ik, v, f, num, kept, turns, segment)
    return num, kept[:, -1].copy(), RecurrentCache(k, v, i, f, segment, kept)


@kernel
def through_steps(
    n: Any, q: Any, ik: Any, v: Any, f: Any, num: Any, kept: Any, turns: Any, segment: Any
) -> None:
    """Take all steps, and write C to ``kept`` after each segment.

    After all other steps, C is written to one of the two arrays of ``turns``, in alternation.
    """
    T, C = q.shape[1], kept[n, 0]
    for t in range(T):
        ends = (t + 1) % segment == 0 or t + 1 == T
        after = kept[n, t // segment + 1] if ends else turns[n, t % 2]
        write_and_read(q[n, t], ik[n, t], v[n, t], f[n, t], C, after, num[n, t])
        C = after
