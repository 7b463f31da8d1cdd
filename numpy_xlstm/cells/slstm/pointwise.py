"""sLSTM: the equations between two matrix products, forward and backward.

Derived in ``docs/derivations/slstm.md``, whose tags are cited here.
"""

from functools import cache
from typing import Any

import numpy as np

from numpy_xlstm.cells.scan import Cotangent, Step
from numpy_xlstm.cells.stabilizer import split_residual
from numpy_xlstm.numerics import Array, maximum, tanh_slope
from numpy_xlstm.numerics.activations import exp_minus, minimum


class sLSTMPointwise:
    """Gate pre-activations and (c₋, n₋, m₋) to h and (c, n, m).

    A record holds i′, f′, z̃, o, e^−f̃, e^−õ and z. The backward carries (δc, δn) and the gauge
    residual r, which stands for δm, see :meth:`enter_backward`.
    """

    record_size = 7

    def __init__(self, forget_gate: str) -> None:
        self.forget_gate = forget_gate

    def forward(
        self, before: Array, record: Array, h: Array, after: Array, first: bool = False
    ) -> None:
        """One step; ``record[:4]`` comes with the pre-activations of i, f, z, o."""
        i, f, z_pre, *_, z = record
        (_, n_prev, m_prev), (c, n, m) = before, after
        i_pre = i.copy() if first else None
        np.tanh(z_pre, out=z)  # [slstm.1]
        log_f, o = self._activate(record)
        np.add(log_f, m_prev, out=f)
        maximum(f, i, out=m)  # [stab.3]
        gates = record[:2]
        gates -= m
        np.exp(gates, out=gates)  # [stab.4] [stab.5]
        np.multiply(f, before[:2], out=after[:2])
        n += i  # [slstm.4]
        if i_pre is not None and np.minimum.reduce(n.real, axis=None) < _lost_below(n.dtype):
            _start_afresh(i_pre, n_prev, record, after)
        c += i * z  # [slstm.3]
        np.divide(c, n, out=h)
        h *= o  # [slstm.5]

    def _activate(self, record: Array) -> tuple[Array, Array]:
        """Return log f and o: one exponential serves both gates."""
        e, o = record[4:6], record[3]
        exp_minus(record[1:4:2], out=e)
        np.add(e[1], 1, out=o)
        np.reciprocal(o, out=o)  # [slstm.2]
        f_pre = record[1]
        if self.forget_gate == "exp":
            return f_pre, o
        log_f: Array = np.log1p(e[0])
        log_f *= -1
        return minimum(log_f, f_pre, out=log_f), o  # [stab.1]

    def slopes(self, record: Array, after: Array) -> Array:
        """Derivatives of log f, z and o by their pre-activations: (steps, 3, …)."""
        _, _, z_pre, o, e_f, e_o, _ = record.swapaxes(0, 1)
        slopes = np.empty((len(record), 3, *record.shape[2:]), record.dtype)
        of_log_f, of_z, of_o = slopes.swapaxes(0, 1)
        if self.forget_gate == "exp":
            of_log_f[...] = 1
        else:
            np.add(e_f, 1, out=of_log_f)
            np.divide(e_f, of_log_f, out=of_log_f)  # [stab.2]
        tanh_slope(z_pre, out=of_z)
        np.multiply(e_o, o, out=of_o)
        of_o *= o  # σ′(õ) = e^−õ σ(õ)²
        return slopes

    def backward(self, dh: Array, dmemory: Cotangent, at: Step, dg: Array) -> Cotangent:
        """Back through one step: writes the gradient of ``g``, returns that of (c₋, n₋) and r."""
        i, f, _, o, _, _, z = at.record
        d, r = dmemory
        (dc, dn), (c, n, _) = d, at.after
        di_pre, dlog_f, dz, do = dg
        ratio = c / n
        np.multiply(dh, ratio, out=do)  # [slstm.6]
        dread = dh * o
        dread /= n
        dc += dread  # [slstm.7]
        dread *= ratio
        dn -= dread  # [slstm.8]
        np.multiply(dc, i, out=dz)  # [slstm.9]
        np.multiply(dc, z, out=di_pre)
        di_pre += dn
        di_pre *= i  # [slstm.10]
        d *= f  # [slstm.13] [slstm.14]
        past = at.before[:2] * d
        np.add(past[0], past[1], out=dlog_f)  # [slstm.11]
        if r is not None:
            r, to_input = split_residual(r, f)
            di_pre += to_input
            dlog_f += r
        dg[1:] *= at.slopes  # completes [slstm.6] and [slstm.9], and is [slstm.12]
        return Cotangent(d, r)

    def enter_backward(self, dmemory: Array, memory: Array) -> Cotangent:
        """Cotangents (δc, δn, δm) of a state to (δc, δn, r): r = δm − c·δc − n·δn  [stab.6]."""
        (dc, dn, dm), (c, n, _) = dmemory, memory
        r = dm - c * dc - n * dn
        return Cotangent(dmemory[:2].copy(), r if r.any() else None)

    def leave_backward(self, dmemory: Cotangent, memory: Array) -> Array:
        """(δc, δn, r) back to (δc, δn, δm): δm = r + c·δc + n·δn  [stab.8]."""
        ((dc, dn), r), (c, n, _) = dmemory, memory
        dm = c * dc + n * dn
        return np.stack((dc, dn, dm if r is None else r + dm))


@cache
def _lost_below(dtype: np.dtype[Any]) -> Any:
    """Below this n has so few digits, or 1/n is so large, that c/n or its gradient is lost."""
    return np.finfo(dtype).tiny / np.finfo(dtype).eps


def _start_afresh(i_pre: Array, n_prev: Array, record: Array, after: Array) -> None:
    """Take entries for empty in which n underflows because nothing of it came from the past.

    That needs n₋ = 0 beside an m₋ far above ĩ. A state with c₋ = n₋ = 0 is empty whatever its m,
    so that the step is exact with m₋ = −inf: i′ = 1, f′ = 0, n = 1, m = ĩ  [stab.9]. It can only
    happen in the first step from a caller's state: one of i′ and f′ is 1, and n never falls below
    min(1, n₋) again.
    """
    i, f, *_ = record
    c, n, m = after
    lost = (n_prev == 0) & (n.real < _lost_below(n.dtype))
    i[lost], f[lost], c[lost], n[lost], m[lost] = 1, 0, 0, 1, i_pre[lost]
