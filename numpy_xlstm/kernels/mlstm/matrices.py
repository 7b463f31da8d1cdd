"""Functions of matrices for the chunkwise form of mLSTM.

Called from Python, they take arrays with any leading axes. In a compiled kernel, which has matrices
of one head, a function is replaced by the loops below it. Derived in
``docs/derivations/mlstm-forms.md``.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from numpy_xlstm.kernels.functions import exp, loops, pointwise
from numpy_xlstm.numerics import Array, dot


def transposed(a: Array) -> Array:
    """Return the transpose of a matrix."""
    return a.swapaxes(-1, -2)


@loops(transposed)
def _transposed(a: Array) -> Array:
    return a.T


def plus(a: Array, b: Array, out: Array) -> None:
    """Write the sum of two matrices to ``out``."""
    np.add(a, b, out=out)


@loops(plus)
def _plus(a: Array, b: Array, out: Array) -> None:
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            out[i, j] = a[i, j] + b[i, j]


@pointwise
def scaled(a: Array, factors: Array) -> Array:
    """Return a matrix with each row multiplied by its factor."""
    return a * factors[..., None]


@pointwise
def decayed(C: Array, w_state: Array) -> Array:
    """Return C times its weight after the last step of the chunk."""
    return C * w_state[..., -1, None, None]


def row_dots(a: Array, b: Array) -> Array:
    """Return the inner product of each row of a with that of b."""
    return dot(a, b)[..., 0]


@loops(row_dots)
def _row_dots(a: Array, b: Array) -> Array:
    out = np.empty(len(a), a.dtype)
    for i in range(len(a)):
        out[i] = np.dot(a[i], b[i])
    return out


def products(a: Array, b: Array, w: Array) -> Array:
    """Return the products a_i·b_j.

    If a product has overflowed, all with the weight 0 are set to 0.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        out: Array = a @ b.swapaxes(-1, -2)
        if not np.isfinite(out.sum()):
            out[w == 0] = 0
    return out


@loops(products)
def _products(a: Array, b: Array, w: Array) -> Array:
    out, zero = a @ b.T, w.dtype.type(0)
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            out[i, j] = out[i, j] if w[i, j] != zero else zero
    return out


@lru_cache(maxsize=8)
def below_diagonal(L: int) -> Array:
    """Return a mask of the entries below the diagonal of a matrix."""
    return np.tri(L, k=-1, dtype=bool)


def weights(log_i: Array, log_f: Array, w: Array, w_state: Array) -> None:
    """Write the weights w_ij of the steps of a chunk and w_i0 of the state before it.

    The log of each w_ij is summed directly from log gates. It is never a difference of longer sums,
    which would cancel digits. The L² sums are in the dtype of w, and the L sums for the state in
    the dtype of the logs, at least float64.
    """
    w_state[...] = np.exp(log_f.cumsum(-1))  # [form.2]
    log_i, log_f, L = log_i.astype(w.dtype), log_f.astype(w.dtype), log_f.shape[-1]
    after = below_diagonal(L)
    D = np.where(after, log_f[..., :, None], 0)
    with np.errstate(over="ignore"):  # an overflow to −inf is a weight of 0
        _sum_down(D)
        D += log_i[..., None, :]  # [form.1]
        np.copyto(D, -np.inf, where=below_diagonal(L).T)
    np.exp(D, out=w)  # [form.3]


def _sum_down(rows: Array) -> None:
    """Sum the rows (…, L, L) cumulatively in place; twice as fast as ``cumsum``."""
    for i in range(1, rows.shape[-2]):
        rows[..., i, :] += rows[..., i - 1, :]


@loops(weights)
def _weights(log_i: Array, log_f: Array, w: Array, w_state: Array) -> None:
    L, b, number = len(log_i), 0.0, w.dtype.type
    D, zero = np.zeros(L, w.dtype), number(0)
    for i in range(L):
        b += log_f[i]
        w_state[i] = exp(b)
        log_f_i = number(log_f[i])
        for j in range(i):
            D[j] += log_f_i
        for j in range(i + 1):
            w[i, j] = exp(D[j] + number(log_i[j]))
        for j in range(i + 1, L):
            w[i, j] = zero


def gate_gradients(
    dD: Any, last: Any, db: Any, through: Any, w_state: Any, dlog_i: Any, dlog_f: Any
) -> None:
    """Write the gradients of the log gates from those of their sums D and b.

    First, ``last`` is added to the last row of dD, and the weighted sum of ``through`` to the last
    entry of db.
    """
    dD[..., -1, :] += last
    db[..., -1] += w_state[..., -1] * through.sum(-1)
    _sum_down(dD[..., ::-1, :])
    dlog_i[...] = np.diagonal(dD, axis1=-2, axis2=-1)  # [form.14]
    dlog_f[...] = dot(dD, below_diagonal(dD.shape[-1]).astype(dD.dtype))[..., 0]
    dlog_f += db[..., ::-1].cumsum(-1)[..., ::-1]  # [form.15]


@loops(gate_gradients)
def _gate_gradients(
    dD: Any, last: Any, db: Any, through: Any, w_state: Any, dlog_i: Any, dlog_f: Any
) -> None:
    b, column = dD.dtype.type(0), last
    for i in range(len(through)):
        b += through[i]
    b *= w_state[-1]
    for i in range(len(dD) - 1, -1, -1):
        for j in range(i + 1):
            column[j] += dD[i, j]
        dlog_i[i] = column[i]
        b += db[i]
        dlog_f[i] = b
        for j in range(i):
            dlog_f[i] += column[j]
