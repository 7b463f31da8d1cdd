"""sLSTM: the equations between two matrix products, forward and backward.

Derived in ``docs/derivations/slstm.md``, whose tags are cited here.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.cells.scan import Memory, Step
from numpy_xlstm.cells.stabilizer import split_residual, stabilise
from numpy_xlstm.numerics import Array
from numpy_xlstm.numerics.activations import exp_minus, minimum


class sLSTMRecord(NamedTuple):
    """What a step of sLSTM keeps for its backward."""

    gates: Array
    """Stabilised i′ and f′, z, o: shape (4, NH, DH, B)."""
    slopes: Array
    """Derivatives of log f, z and o by their pre-activations: (3, NH, DH, B)."""
    ratio: Array
    """c / n, shape (NH, DH, B)."""


class sLSTMPointwise:
    """Gate pre-activations and (c₋, n₋, m₋) to h and (c, n, m).

    The backward carries (δc, δn, r): the gauge residual r stands for δm, see
    :meth:`enter_backward`.
    """

    record_size = 8

    def __init__(self, forget_gate: str) -> None:
        self.forget_gate = forget_gate

    def record(self, kept: Array) -> sLSTMRecord:
        """Divide ``kept`` (8, NH, DH, B) into the arrays of a record."""
        return sLSTMRecord(kept[:4], kept[4:7], kept[7])

    def forward(
        self, g: Array, before: Memory, h: Array, after: Memory, record: sLSTMRecord
    ) -> None:
        """One step; ``g`` (4, NH, DH, B), the pre-activations of i, f, z, o, is overwritten."""
        gates, slopes, ratio = record
        i, f, z, o = gates
        (c_prev, n_prev, m_prev), (c, n, m) = before, after
        log_f = self._activate(g, gates, slopes)
        stabilise(g[0], log_f, m_prev, out=(i, f, m))
        np.multiply(f, n_prev, out=n)
        n += i  # [slstm.4]
        if np.minimum.reduce(n.real, axis=None) < _lost_below(n.dtype):
            _start_afresh(g[0], n_prev, i, f, n, m)
        np.multiply(f, c_prev, out=c)
        c += i * z  # [slstm.3]
        np.divide(c, n, out=ratio)
        np.multiply(o, ratio, out=h)  # [slstm.5]

    def _activate(self, g: Array, gates: Array, slopes: Array) -> Array:
        """Write z, o and all slopes, return log f; one exponential serves the three gates."""
        tanh_z = np.tanh(g[2])
        g[2] *= 2  # tanh′(z̃) = 4 σ′(2 z̃): all slopes are made of e^−x
        e = exp_minus(g[1:], slopes)
        u = e + 1
        s = np.divide(1, u, out=gates[1:])  # [slstm.2]
        log_f: Array = g[1]
        if self.forget_gate == "sigmoid":
            log_f = minimum(minus_log(u[0], e[0], s[0]), log_f)
        e *= s  # σ(−x), which is the slope of log σ
        e[1:] *= s[1:]  # σ′(x)
        e[1] *= 4
        if self.forget_gate == "exp":
            e[0] = 1
        s[1] = tanh_z  # [slstm.1]
        return log_f

    def backward(self, dh: Array, dmemory: Memory, at: Step[sLSTMRecord], dg: Array) -> Memory:
        """Back through one step: writes the gradient of ``g``, returns that of (c₋, n₋) and r."""
        (i, f, z, o), ratio = at.record.gates, at.record.ratio
        (dc, dn, r), (c_prev, n_prev, _), (_, n, _) = dmemory, at.before, at.after
        di_pre, dlog_f, dz, do = dg
        np.multiply(dh, ratio, out=do)  # [slstm.6]
        dread = dh * o
        dread /= n
        dc = dc + dread  # [slstm.7]
        dread *= ratio
        dn = dn - dread  # [slstm.8]
        np.multiply(dc, i, out=dz)  # [slstm.9]
        np.multiply(dc, z, out=di_pre)
        di_pre += dn
        di_pre *= i  # [slstm.10]
        dc *= f  # [slstm.13]
        dn *= f  # [slstm.14]
        np.multiply(c_prev, dc, out=dlog_f)
        dlog_f += n_prev * dn  # [slstm.11]
        if r.any():
            r, to_input = split_residual(r, f)
            di_pre += to_input
            dlog_f += r
        dg[1:] *= at.record.slopes  # completes [slstm.6] and [slstm.9], and is [slstm.12]
        return dc, dn, r

    def enter_backward(self, dmemory: Memory, memory: Memory) -> Memory:
        """Cotangents (δc, δn, δm) of a state to (δc, δn, r): r = δm − c·δc − n·δn  [stab.6]."""
        (dc, dn, dm), (c, n, _) = dmemory, memory
        return dc, dn, dm - c * dc - n * dn

    def leave_backward(self, dmemory: Memory, memory: Memory) -> Memory:
        """(δc, δn, r) back to (δc, δn, δm): δm = r + c·δc + n·δn  [stab.8]."""
        (dc, dn, r), (c, n, _) = dmemory, memory
        return dc, dn, r + c * dc + n * dn


def minus_log(u: Array, e: Array, s: Array) -> Array:
    """−log(1 + e) with u = 1 + e as it is rounded, and s = 1/u: −(log u + (e − (u − 1))/u)."""
    lost = 1 - u
    lost += e
    lost *= s
    lost += np.log(u)
    lost *= -1
    return lost


@cache
def _lost_below(dtype: np.dtype[Any]) -> Any:
    """Below this n has so few digits, or 1/n is so large, that c/n or its gradient is lost."""
    return np.finfo(dtype).tiny / np.finfo(dtype).eps


def _start_afresh(i_pre: Array, n_prev: Array, i: Array, f: Array, n: Array, m: Array) -> None:
    """Take entries for empty in which n underflows because nothing of it came from the past.

    That needs n₋ = 0 beside an m₋ far above ĩ. A state with c₋ = n₋ = 0 is empty whatever its m,
    so that the step is exact with m₋ = −inf: i′ = 1, f′ = 0, n = 1, m = ĩ  [stab.9].
    """
    lost = (n_prev == 0) & (n.real < _lost_below(n.dtype))
    i[lost], f[lost], n[lost], m[lost] = 1, 0, 1, i_pre[lost]
