"""The gates of mLSTM: exponential and stabilised, or sigmoid (mLSTMsig) with nothing to stabilise.

Derived in ``docs/derivations/mlstm.md`` and ``docs/derivations/stabiliser.md``.
"""

from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.cells.stabilizer import FORGET_GATES, log_forget, log_forget_slope, stabilise
from numpy_xlstm.errors import OptionError
from numpy_xlstm.numerics import Array, check_choice, log_sigmoid_slope, sigmoid

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


def gates(i_pre: Array, f_pre: Array, m_prev: Array | None, options: Options) -> Gates:
    """Pre-activations to gates, stabilised if the input gate is exponential."""
    log_f = log_forget(f_pre, options.forget_gate)
    if m_prev is not None:
        return Gates(*stabilise(i_pre, log_f, m_prev))
    return Gates(sigmoid(i_pre), np.exp(log_f), None)  # [mlstm.20]


def input_slope(i_pre: Array, options: Options) -> Array | int:
    """Derivative of log i: 1, or σ(−ĩ) for a sigmoid gate."""
    return 1 if options.normalised else log_sigmoid_slope(i_pre)


def forget_slope(f_pre: Array, options: Options) -> Array | int:
    """Derivative of log f: σ(−f̃), or 1 for an exponential gate."""
    return log_forget_slope(f_pre, options.forget_gate)
