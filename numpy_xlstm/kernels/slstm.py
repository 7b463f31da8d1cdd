"""sLSTM over a whole sequence.

Derived in ``docs/derivations/slstm.md`` and ``docs/derivations/stabiliser.md``, whose tags are
cited.
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.cells.gates import KINDS, check_memory, log_gate, underflows
from numpy_xlstm.cells.slstm import sLSTMState
from numpy_xlstm.kernels import scan
from numpy_xlstm.numerics import Array, check_choice, maximum, own_error_state
from numpy_xlstm.numerics.activations import exp_minus


class sLSTMScanCache(NamedTuple):
    """What the backward of a sequence needs; the arrays of all steps have the steps first."""

    states: Array  # h, c, n and m before, between and after the steps, (T + 1, 4, B, H)
    gates: Array  # i′, f′, z and o, (T, 4, B, H)
    e: Array  # e^−x for x = f̃, 2 z̃ and õ, (T, 3, B, H)
    ratio: Array  # c / n, (T, B, H)
    carries: Array  # whether log f + m₋ has won the maximum, or tied, likewise
    R: Array
    ends: Array  # how many steps each row has, (B,)
    forget_gate: str


def forward(
    Wx: Array, R: Array, state: sLSTMState, ends: Array, forget_gate: str
) -> tuple[Array, sLSTMState, sLSTMScanCache]:
    """Run over Wx (B, T, 4·H), of which row b has ``ends[b]`` steps, without checks."""
    gates = scan.gates_first(Wx, ends)
    e, ratio = np.empty_like(gates[:, :3]), np.empty_like(gates[:, 0])
    carries = np.empty(ratio.shape, bool)
    kept = e, ratio, carries
    step = partial(_step, forget_gate)
    states = scan.scan(step, gates, R, _emptied(gates, R, state, forget_gate), *kept)
    states[0] = state
    cache = sLSTMScanCache(states, gates, *kept, R, ends, forget_gate)
    return scan.outputs(states, ends), scan.last_state(sLSTMState, states, ends), cache


def _emptied(gates: Array, R: Array, state: sLSTMState, forget_gate: str) -> sLSTMState:
    """Set m₋ = −inf in entries with n₋ = 0 from which the first step would underflow  [stab.9].

    Later there are none: n is at least as large as the smaller of 1 and n₋.
    """
    _, _, n, m = state
    if not len(gates) or not ((n == 0) & (m.real > -np.inf)).any():
        return state
    first = gates[:1].copy()
    scan.scan(lambda *_: None, first, R, state)
    i_pre, f_pre, _, _ = first[0]
    lost = (n == 0) & underflows(i_pre - (log_gate(f_pre, forget_gate) + m))
    return state._replace(m=np.where(lost, -np.inf, m))


def _step(forget_gate: str, gates: Array, before: Array, after: Array, *kept: Array) -> None:
    i, f, z, o = gates
    h, c, n, m = after
    e, ratio, carries = kept
    tanh_z = np.tanh(z)
    z *= 2
    exp_minus(gates[1:], out=e)
    z[...] = tanh_z  # [slstm.1]
    np.add(e[2], 1, out=o)
    np.reciprocal(o, out=o)  # [slstm.2]
    np.add(log_gate(f, forget_gate), before[3], out=f)  # [stab.1] [stab.10]
    np.greater_equal(f.real, i.real, out=carries)
    maximum(f, i, out=m)  # [stab.3]
    gates[:2] -= m
    np.exp(gates[:2], out=gates[:2])  # [stab.4] [stab.5]
    np.multiply(f, before[1:3], out=after[1:3])
    c += i * z  # [slstm.3]
    n += i  # [slstm.4]
    np.divide(c, n, out=ratio)
    np.multiply(o, ratio, out=h)  # [slstm.5]


def backward(
    dy: Array, cache: sLSTMScanCache, dstate: sLSTMState
) -> tuple[Array, Array, sLSTMState]:
    """Gradients of Wx, of R and of the state before, without checks."""
    kept = (*_derivatives(cache), cache.gates[:, 1], cache.carries, _log_forget_slopes(cache))
    return scan.scan_backward(_step_backward, dy, cache, dstate, *kept)


def _log_forget_slopes(cache: sLSTMScanCache) -> Array:
    """σ(−f̃), or 1  [stab.2]."""
    e = cache.e[:, 0]
    return e / (1 + e) if cache.forget_gate == "sigmoid" else np.ones_like(e)


def _derivatives(cache: sLSTMScanCache) -> tuple[Array, Array, Array, Array]:
    """Derivatives of all steps: h by c and n, the memory by A or ĩ, c by z̃, and h by õ.

    Of A and ĩ it is the one that is not m: the other acts through m alone.
    """
    states, gates, e, ratio, past = cache[:5]
    i, f, z, o = gates.swapaxes(0, 1)
    h_by = np.empty_like(gates[:, :2])
    np.divide(o, states[1:, 2], out=h_by[:, 0])  # [slstm.7]
    np.multiply(h_by[:, 0], ratio, out=h_by[:, 1])
    h_by[:, 1] *= -1  # [slstm.8]
    memory_by = np.empty_like(h_by)
    np.copyto(memory_by[:, 0], np.where(past, i * z, f * states[:-1, 1]))  # [slstm.10] [slstm.11]
    np.copyto(memory_by[:, 1], np.where(past, i, f * states[:-1, 2]))
    s = 1 / (1 + e[:, 1])
    by_z = e[:, 1] * s
    by_z *= s
    by_z *= 4  # tanh′(z̃) = 4 σ′(2 z̃)
    by_z *= i  # [slstm.9]
    by_o = e[:, 2] * o
    by_o *= o  # σ′(õ) = e^−õ σ(õ)²
    by_o *= ratio  # [slstm.6]
    return h_by, memory_by, by_z, by_o


def _step_backward(dg: Array, d: Array, *kept: Array) -> None:
    h_by, memory_by, by_z, by_o, f, past, slope = kept
    dh, dmemory, dm = d[0], d[1:3], d[3]
    dmemory += dh * h_by
    np.multiply(dmemory[0], by_z, out=dg[2])
    np.multiply(dh, by_o, out=dg[3])
    by_c, by_n = dmemory * memory_by
    lesser = by_c + by_n  # i′δi′, or f′δf′: of the gate that is not 1
    greater = dm - lesser
    dg[0] = np.where(past, lesser, greater)  # [stab.12]
    dm[...] = np.where(past, greater, lesser)  # [stab.13] [stab.14]
    np.multiply(dm, slope, out=dg[1])  # [slstm.12]
    dmemory *= f  # [slstm.13] [slstm.14]


@own_error_state
def slstm_recurrent(
    Wx: Array,
    R: Array,
    state: Any = None,
    *,
    lengths: Array | None = None,
    forget_gate: str = "sigmoid",
) -> tuple[Array, sLSTMState, sLSTMScanCache]:
    """sLSTM, given what the inputs add to the pre-activations of its gates.

    ::

        g̃_t = (Wx)_t + R h_{t−1},   and then as in sLSTMCell

    The recurrence alone, as the kernels of the official package and of FlashRNN have it, with the
    gates in the order of the first. ``sLSTM(D, H, NH)`` is this function of ``x @ W.T + b``.

    Parameters
    ----------
    Wx, R, lengths : np.ndarray
        As in :func:`~numpy_xlstm.lstm_recurrent`: (B, T, 4·H), (NH, 4·DH, DH) and (B,).
    state : sLSTMState, optional
        h, c, n and m before the first step, (B, H); the empty state, m = −inf, if omitted.
    forget_gate : {"sigmoid", "exp"}
        What the forget gate is.

    Returns
    -------
    y, state, cache
        As there; the state is an :class:`sLSTMState`.

    Raises
    ------
    ShapeError, DTypeError, NonFiniteError, OptionError, StateError
        If an argument is not as described, or n is negative, or 0 beside a c that is not.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import sLSTM, slstm_recurrent
    >>> rng = np.random.default_rng(0)
    >>> slstm, x = sLSTM(3, 4, num_heads=2, rng=rng), rng.standard_normal((2, 5, 3))
    >>> W, R, b = (slstm.params[name] for name in "WRb")
    >>> y, state, cache = slstm_recurrent(x @ W.T + b, R)
    >>> np.allclose(y, slstm(x)[0], rtol=1e-14)
    True
    """
    check_choice("forget_gate", forget_gate, KINDS)
    state, ends = scan.enter(sLSTMState, Wx, R, state, lengths)
    check_memory(state)
    return forward(Wx, R, state, ends, forget_gate)


@own_error_state
def slstm_recurrent_backward(
    dy: Array, cache: sLSTMScanCache, dstate: Any = None
) -> tuple[Array, Array, sLSTMState]:
    """Vector-Jacobian product of :func:`slstm_recurrent`.

    Parameters
    ----------
    dy : np.ndarray
        Cotangent of y, shape (B, T, H).
    cache
        From :func:`slstm_recurrent`.
    dstate : sLSTMState, optional
        Cotangent of the state after the last step, (B, H) each; 0 if omitted.

    Returns
    -------
    dWx, dR : np.ndarray
        Gradients of Wx, (B, T, 4·H), and of R, (NH, 4·DH, DH).
    dstate0 : sLSTMState
        Gradient of the state before the first step.

    Raises
    ------
    ShapeError, DTypeError, NonFiniteError, CacheError
        If ``dy`` or ``dstate`` is not like what the forward returned, or ``cache`` is another.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import slstm_recurrent, slstm_recurrent_backward
    >>> rng = np.random.default_rng(0)
    >>> Wx, R = rng.standard_normal((2, 5, 16)), rng.standard_normal((2, 8, 2))
    >>> y, state, cache = slstm_recurrent(Wx, R)
    >>> dWx, dR, dstate0 = slstm_recurrent_backward(rng.standard_normal(y.shape), cache)
    >>> dWx.shape, dR.shape, dstate0.m.shape
    ((2, 5, 16), (2, 8, 2), (2, 4))
    """
    return backward(dy, cache, scan.enter_backward(sLSTMState, sLSTMScanCache, dy, cache, dstate))
