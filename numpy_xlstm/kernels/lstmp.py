"""LSTM with a projection over a whole sequence, derived in ``docs/derivations/lstmp.md``.

After the first step, h₋ = W_hr m₋ and R h₋ = (R W_hr) m₋. The loop is therefore that of an LSTM
with state m and matrix R W_hr. All other products are computed for all steps at once.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from numpy_xlstm.cells.lstm import LSTMState
from numpy_xlstm.kernels import scan
from numpy_xlstm.kernels.lstm import CELL
from numpy_xlstm.numerics import Array


class LSTMPScanCache(NamedTuple):
    """Residuals of a projected LSTM over a sequence."""

    scan: scan.ScanCache  # of the LSTM with state m
    params: Mapping[str, Array]
    m: Array  # (B, T, H)
    h_prev: Array  # before each step, (B, T, P)


def forward(
    Wx: Array, params: Mapping[str, Array], state: LSTMState, lengths: Array | None
) -> tuple[Array, LSTMState, LSTMPScanCache]:
    """Run the projected LSTM, with arguments and results as in :meth:`scan.Recurrence.forward`."""
    R, W_hr = params["R"], params["W_hr"]
    Wx[:, :1] += (state.h @ R.T)[:, None]
    start = LSTMState(np.zeros_like(state.c), state.c)
    m, (_, c), cache = CELL.forward(Wx, {"R": R @ W_hr}, start, lengths)
    y = m @ W_hr.T  # [lstmp.6]
    h = np.concatenate([state.h[:, None], y], axis=1)
    after = LSTMState(h[np.arange(len(h)), cache.ends], c)
    return y, after, LSTMPScanCache(cache, params, m, h[:, :-1])


def backward(
    dy: Array, cache: LSTMPScanCache, dstate: LSTMState
) -> tuple[Array, LSTMState, dict[str, Array]]:
    """Run the backward; return the gradients of Wx and of the first state, and of R and W_hr."""
    R, W_hr = cache.params["R"], cache.params["W_hr"]
    ends, (B, T, P), H = cache.scan.ends, dy.shape, W_hr.shape[1]
    dh = np.zeros((B, T + 1, P), dy.dtype)  # before, between and after the steps
    dh[:, 1:] = dy
    dh[np.arange(B), ends] += dstate.h
    dm = dh[:, 1:] @ W_hr  # [lstmp.8]
    dlast = LSTMState(np.zeros_like(dstate.c), dstate.c)
    dWx, (_, dc) = CELL.without_R(dm, cache.scan, dlast)
    dh[:, :-1] += dWx @ R  # [lstmp.17]
    dW_hr = dh[:, 1:].reshape(-1, P).T @ cache.m.reshape(-1, H)  # [lstmp.7]
    dR = dWx.reshape(-1, 4 * H).T @ cache.h_prev.reshape(-1, P)  # [lstmp.19]
    return dWx, LSTMState(dh[:, 0].copy(), dc), {"R": dR, "W_hr": dW_hr}
