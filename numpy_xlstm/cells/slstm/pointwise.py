"""sLSTM: the equations between two matrix products, forward and backward.

Derived in ``docs/derivations/slstm.md``, whose tags are cited here.
"""

from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.cells.scan import Memory, Step
from numpy_xlstm.cells.stabilizer import log_forget_slope, split_residual, stabilise
from numpy_xlstm.numerics import Array, sigmoid_and_slope, tanh_slope


class sLSTMRecord(NamedTuple):
    """What a step of sLSTM keeps for its backward; arrays are (…, DH)."""

    i: Array
    """Stabilised input gate i′."""
    f: Array
    """Stabilised forget gate f′."""
    z: Array
    o: Array
    o_slope: Array
    """σ′ of the output gate."""
    ratio: Array
    """c / n."""


class sLSTMPointwise:
    """Gate pre-activations and (c₋, n₋, m₋) to h and (c, n, m).

    The backward carries (δc, δn, r): the gauge residual r stands for δm, see
    :meth:`enter_backward`.
    """

    def __init__(self, forget_gate: str) -> None:
        self.forget_gate = forget_gate

    def record(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> sLSTMRecord:
        """Make the arrays for what the backward needs."""
        return sLSTMRecord(*np.empty((6, *shape), dtype))

    def forward(
        self, g: Array, before: Memory, h: Array, after: Memory, record: sLSTMRecord
    ) -> None:
        """One step; ``g`` (…, 4, DH) holds the pre-activations of i, f, z, o."""
        i, f, z, o, o_slope, ratio = record
        (c_prev, n_prev, m_prev), (c, n, m) = before, after
        i_pre, f_pre = g[..., 0, :], g[..., 1, :]
        stabilise(i_pre, f_pre, m_prev, self.forget_gate, out=(i, f, m))
        np.multiply(f, n_prev, out=n)
        n += i  # [slstm.4]
        if n.real.min() < _lost_below(n.dtype):
            _start_afresh(i_pre, n_prev, i, f, n, m)
        np.tanh(g[..., 2, :], out=z)  # [slstm.1]
        sigmoid_and_slope(g[..., 3, :], out=(o, o_slope))  # [slstm.2]
        np.multiply(f, c_prev, out=c)
        c += i * z  # [slstm.3]
        np.divide(c, n, out=ratio)
        np.multiply(o, ratio, out=h)  # [slstm.5]

    def backward(self, dh: Array, dmemory: Memory, at: Step[sLSTMRecord], dg: Array) -> Memory:
        """Back through one step: writes the gradient of ``g``, returns that of (c₋, n₋) and r."""
        i, f, z, o, o_slope, ratio = at.record
        (dc, dn, r), (c_prev, n_prev, _), (_, n, _) = dmemory, at.before, at.after
        f_pre, z_pre = at.g[..., 1, :], at.g[..., 2, :]
        np.multiply(dh * ratio, o_slope, out=dg[..., 3, :])  # [slstm.6]
        dread = dh * o
        dread /= n
        dc = dc + dread  # [slstm.7]
        dn = dn - dread * ratio  # [slstm.8]
        np.multiply(dc * i, tanh_slope(z_pre), out=dg[..., 2, :])  # [slstm.9]
        di_pre = z * dc
        di_pre += dn
        di_pre *= i  # [slstm.10]
        dc *= f  # [slstm.13]
        dn *= f  # [slstm.14]
        dlog_f = c_prev * dc
        dlog_f += n_prev * dn  # [slstm.11]
        if r.any():
            r, to_input = split_residual(r, f)
            di_pre += to_input
            dlog_f += r
        dg[..., 0, :] = di_pre
        np.multiply(dlog_f, log_forget_slope(f_pre, self.forget_gate), out=dg[..., 1, :])
        return dc, dn, r  # the line above is [slstm.12]

    def enter_backward(self, dmemory: Memory, memory: Memory) -> Memory:
        """Cotangents (δc, δn, δm) of a state to (δc, δn, r): r = δm − c·δc − n·δn  [stab.6]."""
        (dc, dn, dm), (c, n, _) = dmemory, memory
        return dc, dn, dm - c * dc - n * dn

    def leave_backward(self, dmemory: Memory, memory: Memory) -> Memory:
        """(δc, δn, r) back to (δc, δn, δm): δm = r + c·δc + n·δn  [stab.8]."""
        (dc, dn, r), (c, n, _) = dmemory, memory
        return dc, dn, r + c * dc + n * dn


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
