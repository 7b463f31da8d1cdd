"""The gates of mLSTM: exponential and stabilised, or sigmoid (mLSTMsig) with nothing to stabilise.

Derived in ``docs/derivations/mlstm.md`` and ``docs/derivations/stabiliser.md``.
"""

from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.cells.stabilizer import FORGET_GATES, log_forget, log_forget_slope, stabilise
from numpy_xlstm.errors import OptionError
from numpy_xlstm.numerics import Array, check_choice, log_sigmoid, log_sigmoid_slope

INPUT_GATES = ("exp", "sigmoid")


class Options(NamedTuple):
    """What all forms of mLSTM can be told."""

    eps: float
    forget_gate: str
    input_gate: str

    @property
    def normalised(self) -> bool:
        """Whether there are n and m: with an exponential input gate."""
        return self.input_gate == "exp"


def check_options(eps: Any, forget_gate: str, input_gate: str) -> Options:
    """Return the options, or raise :class:`OptionError`."""
    if not isinstance(eps, int | float | np.floating) or not 0 <= eps < np.inf:
        raise OptionError(f"eps: expected a finite number, at least 0; got {eps!r}")
    return Options(
        float(eps),
        check_choice("forget_gate", forget_gate, FORGET_GATES),
        check_choice("input_gate", input_gate, INPUT_GATES),
    )


class Gates(NamedTuple):
    """Input and forget gate of one step, shape (B, NH), and m where they are stabilised."""

    i: Array
    f: Array
    m: Array | None


def gates(log_i: Array, log_f: Array, m_prev: Array | None) -> Gates:
    """Log gates to gates, stabilised if there is an m.

    A step that is not there, log i = −inf, leaves an empty memory, m₋ = −inf, as it is: f = 1.
    """
    if m_prev is None:
        return Gates(np.exp(log_i), np.exp(log_f), None)  # [mlstm.20]
    if np.minimum.reduce(m_prev.real, axis=None) > -np.inf:
        return Gates(*stabilise(log_i, log_f, m_prev))
    nothing = (m_prev.real == -np.inf) & (log_i.real == -np.inf)
    i, f, m = stabilise(log_i, log_f, np.where(nothing, 0, m_prev))
    return Gates(i, f, np.where(nothing, m_prev, m))


def log_gates(i_pre: Array, f_pre: Array, options: Options) -> tuple[Array, Array]:
    """Log i, which is ĩ or log σ(ĩ), and log f."""
    log_i = i_pre if options.normalised else log_sigmoid(i_pre)
    return log_i, log_forget(f_pre, options.forget_gate)


def log_gates_backward(
    dlog_i: Array, dlog_f: Array, i_pre: Array, f_pre: Array, options: Options
) -> tuple[Array, Array]:
    """Gradients of the pre-activations: times 1 or σ(−ĩ), and σ(−f̃) or 1."""
    di = dlog_i if options.normalised else dlog_i * log_sigmoid_slope(i_pre)
    return di, dlog_f * log_forget_slope(f_pre, options.forget_gate)
