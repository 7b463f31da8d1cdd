"""One step of mLSTM: the equations, forward and backward. The specification of all forms.

Derived in ``docs/derivations/mlstm.md``, whose tags are cited here. Shapes: q, k (B, NH, DK),
v (B, NH, DV), log gates (B, NH), C (B, NH, DK, DV), n (B, NH, DK).
"""

from typing import NamedTuple

import numpy as np

from numpy_xlstm.cells.mlstm.gates import Gates, gates
from numpy_xlstm.cells.mlstm.inputs import MemoryInputs
from numpy_xlstm.cells.mlstm.normalizer import Denominator, denominator
from numpy_xlstm.cells.stabilizer import split_residual
from numpy_xlstm.cells.states import mLSTMState
from numpy_xlstm.numerics import Array, dot


class StepCache(NamedTuple):
    """What one step keeps for its backward."""

    inputs: MemoryInputs
    gates: Gates
    previous: mLSTMState
    n: Array | None
    h: Array
    den: Denominator | None


def step(
    inputs: MemoryInputs, previous: mLSTMState, eps: float
) -> tuple[Array, mLSTMState, StepCache]:
    """Take one step: h (B, NH, DV) and the state after it."""
    q, k, v, log_i, log_f = inputs
    gate = gates(log_i, log_f, previous.m)
    i, f = gate.i[..., None], gate.f[..., None]
    C = f[..., None] * previous.C
    source = i * k
    C += outer(source, v)  # [mlstm.6]
    h = (q[..., None, :] @ C)[..., 0, :]  # [mlstm.8]
    if previous.n is None or gate.m is None:
        return h, mLSTMState(C, None, None), StepCache(inputs, gate, previous, None, h, None)
    n = f * previous.n
    n += source  # [mlstm.7]
    den = denominator(dot(q, n)[..., 0], gate.m, eps)
    h /= den.value[..., None]  # [mlstm.10]
    return h, mLSTMState(C, n, gate.m), StepCache(inputs, gate, previous, n, h, den)


class StateCotangent(NamedTuple):
    """Cotangent (δC, δn, r) of a state; the gauge residual r stands for δm."""

    C: Array
    n: Array | None
    r: Array | None


def step_backward(
    dh: Array, dstate: StateCotangent, cache: StepCache
) -> tuple[MemoryInputs, StateCotangent]:
    """Take one step back: gradients of the inputs and of the state before the step."""
    q, k, v, _, _ = cache.inputs
    i, f = cache.gates.i[..., None], cache.gates.f[..., None]
    dnum, dqn, dr = _denominator_backward(dh, cache)
    dC = dstate.C + outer(q, dnum)  # [mlstm.13]
    kv = (v * dnum).sum(-1, keepdims=True)
    dq = f * _times(cache.previous.C, dnum) + i * k * kv  # [mlstm.15]
    dk = i * _times(dC, v)
    dv = i * (k[..., None, :] @ dC)[..., 0, :]  # [mlstm.17]
    dlog_f = (cache.previous.C * dC).sum((-2, -1))
    dn = r = None
    if dstate.n is not None and dqn is not None:
        dn = dstate.n + dqn[..., None] * q  # [mlstm.14]
        dq += dqn[..., None] * cache.n
        dk += i * dn  # [mlstm.16]
        dlog_f += (cache.previous.n * dn).sum(-1)
        dn = f * dn
    dlog_i = (k * dk).sum(-1)  # [mlstm.18]
    dlog_f = dlog_f * cache.gates.f  # [mlstm.19]
    if dstate.r is not None:
        r, to_input = split_residual(dstate.r - dr, cache.gates.f)  # [mlstm.12]
        dlog_i += to_input
        dlog_f += r
    return MemoryInputs(dq, dk, dv, dlog_i, dlog_f), StateCotangent(f[..., None] * dC, dn, r)


def _denominator_backward(dh: Array, cache: StepCache) -> tuple[Array, Array | None, Array | int]:
    """δ(Cᵀq), δ(q·n) and the loss of gauge residual, from δh  [mlstm.11]."""
    if cache.den is None:
        return dh, None, 0
    dh_h = (dh * cache.h).sum(-1)
    dqn = -cache.den.sign * dh_h / cache.den.value
    residual = cache.den.residual
    dr = 0 if residual is None else dh_h * residual
    return dh / cache.den.value[..., None], dqn, dr


def enter_backward(dstate: mLSTMState, state: mLSTMState) -> StateCotangent:
    """Cotangent of a state to (δC, δn, r): r = δm − ⟨C, δC⟩ − ⟨n, δn⟩  [stab.6]."""
    if dstate.n is None or dstate.m is None:
        return StateCotangent(dstate.C, None, None)
    return StateCotangent(dstate.C, dstate.n, dstate.m - _inner(state, dstate.C, dstate.n))


def leave_backward(dstate: StateCotangent, state: mLSTMState) -> mLSTMState:
    """(δC, δn, r) back to a cotangent: δm = r + ⟨C, δC⟩ + ⟨n, δn⟩  [stab.8]."""
    if dstate.n is None or dstate.r is None:
        return mLSTMState(dstate.C, None, None)
    return mLSTMState(dstate.C, dstate.n, dstate.r + _inner(state, dstate.C, dstate.n))


def _inner(state: mLSTMState, dC: Array, dn: Array) -> Array:
    """⟨C, δC⟩ + ⟨n, δn⟩ per batch row and head."""
    inner: Array = (state.C * dC).sum((-2, -1)) + (state.n * dn).sum(-1)
    return inner


def outer(a: Array, b: Array) -> Array:
    """Matrix a bᵀ for each batch row and head.

    The one column gets another one, of zeros, beside it: NumPy hands a product to BLAS only where
    more than one column meets a row, and takes up to eight times as long where it does not.
    """
    B, NH, DK = a.shape
    columns = np.zeros((B, NH, DK, 2), a.dtype)
    rows = np.zeros((B, NH, 2, b.shape[-1]), b.dtype)
    columns[..., 0], rows[..., 0, :] = a, b
    product: Array = columns @ rows
    return product


def _times(matrix: Array, vector: Array) -> Array:
    """Matrix (DK, DV) times vector (DV,), for each batch row and head."""
    product: Array = np.matmul(matrix, vector[..., None])
    return product[..., 0]
