"""sLSTM: the equations between two matrix products, forward and backward.

Derived in ``docs/derivations/slstm.md``, whose tags are cited here.
"""

from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.cells.scan import Memory
from numpy_xlstm.cells.stabilizer import log_forget_slope, split_residual, stabilise
from numpy_xlstm.numerics import Array, sigmoid_and_slope, tanh_slope


class sLSTMStepCache(NamedTuple):
    """What one step of sLSTM keeps for its backward; every array is (B, NH, DH)."""

    f_pre: Array
    z_pre: Array
    i: Array
    """Stabilised input gate i′."""
    f: Array
    """Stabilised forget gate f′."""
    z: Array
    o: Array
    o_slope: Array
    """σ′ of the output gate."""
    c_prev: Array
    n_prev: Array
    n: Array
    ratio: Array
    """c / n."""
    carries: Array
    """Where log f + m₋ is the larger argument of the maximum that gives m."""


class sLSTMPointwise:
    """Gate pre-activations and (c₋, n₋, m₋) to h and (c, n, m).

    The backward carries (δc, δn, r): the gauge residual r stands for δm, see
    :meth:`enter_backward`.
    """

    def __init__(self, forget_gate: str) -> None:
        self.forget_gate = forget_gate

    def forward(self, g: Array, memory: Memory) -> tuple[Array, Memory, sLSTMStepCache]:
        """One step; ``g`` (..., 4, DH) holds the pre-activations of i, f, z, o."""
        c_prev, n_prev, m_prev = memory
        i_pre, f_pre, z_pre = g[..., 0, :], g[..., 1, :], g[..., 2, :]
        i, f, m, carries = stabilise(i_pre, f_pre, m_prev, self.forget_gate)
        n = f * n_prev
        n += i  # [slstm.4]
        if n.real.min() < _lost_below(n.dtype):
            i, f, n, m, carries = _start_afresh(i_pre, n_prev, i, f, n, m, carries)
        z = np.tanh(z_pre)  # [slstm.1]
        o, o_slope = sigmoid_and_slope(g[..., 3, :])  # [slstm.2]
        c = f * c_prev
        c += i * z  # [slstm.3]
        ratio = c / n
        h = o * ratio  # [slstm.5]
        cache = sLSTMStepCache(f_pre, z_pre, i, f, z, o, o_slope, c_prev, n_prev, n, ratio, carries)
        return h, (c, n, m), cache

    def backward(self, dh: Array, dmemory: Memory, cache: sLSTMStepCache, dg: Array) -> Memory:
        """Back through one step: writes the gradient of ``g``, returns that of (c₋, n₋) and r."""
        f_pre, z_pre, i, f, z, o, o_slope, c_prev, n_prev, n, ratio, carries = cache
        dc, dn, r = dmemory
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
            r, to_input = split_residual(r, carries)
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


def _start_afresh(i_pre: Array, n_prev: Array, *step: Array) -> tuple[Array, ...]:
    """Take entries for empty in which n underflows because nothing of it came from the past.

    That needs n₋ = 0 beside an m₋ far above ĩ. A state with c₋ = n₋ = 0 is empty whatever its m,
    so that the step is exact with m₋ = −inf: i′ = 1, f′ = 0, n = 1, m = ĩ  [stab.9].
    """
    i, f, n, m, carries = step
    lost = (n_prev == 0) & (n.real < _lost_below(n.dtype))
    return (
        np.where(lost, 1, i),
        np.where(lost, 0, f),
        np.where(lost, 1, n),
        np.where(lost, i_pre, m),
        carries & ~lost,
    )
