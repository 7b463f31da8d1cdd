"""Elman network over a whole sequence, derived in ``docs/derivations/elman.md``."""

from collections.abc import Mapping
from typing import Any

from numpy_xlstm.cells.elman import ElmanState
from numpy_xlstm.kernels import scan
from numpy_xlstm.kernels.functions import pointwise, tanh, tanh_slope, where
from numpy_xlstm.numerics import Array


@pointwise
def step(pre: Any, memory: Any, constants: Any) -> Any:
    """Return h after a step."""
    (h_pre,), (relu,) = pre, constants
    return (where(relu, where(h_pre.real > 0, h_pre, 0), tanh(h_pre)),)  # [elman.2]


@pointwise
def derivatives(pre: Any, before: Any, after: Any, constants: Any) -> Any:
    """Return the derivative of h with respect to h̃."""
    (h_pre,), (relu,) = pre, constants
    return (where(relu, where(h_pre.real > 0, 1, 0), tanh_slope(h_pre)),)


@pointwise
def step_backward(d: Any, factors: Any) -> Any:
    """Return the gradient of the pre-activation."""
    (dh,), (slope,) = d, factors
    return (dh * slope,)  # [elman.3]


CELL = scan.Recurrence(step, derivatives, step_backward, ElmanState, num_pre=1, num_constants=1)
backward = CELL.backward


def forward(
    Wx: Array,
    params: Mapping[str, Array],
    state: ElmanState,
    lengths: Array | None,
    nonlinearity: str,
) -> tuple[Array, ElmanState, scan.ScanCache]:
    """Run :meth:`scan.Recurrence.forward` with a nonlinearity."""
    return CELL.forward(Wx, params, state, lengths, [nonlinearity == "relu"])
