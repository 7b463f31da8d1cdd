"""Elman's network over a whole sequence, derived in ``docs/derivations/elman.md``."""

from collections.abc import Mapping
from typing import Any

from numpy_xlstm.cells.elman import ElmanState
from numpy_xlstm.kernels import scan
from numpy_xlstm.kernels.functions import pointwise, tanh, tanh_slope, where
from numpy_xlstm.numerics import Array


@pointwise
def step(h_pre: Any, relu: Any) -> Any:
    """Return h after a step."""
    return (where(relu, where(h_pre.real > 0, h_pre, 0), tanh(h_pre)),)  # [elman.2]


@pointwise
def derivatives(h_pre: Any, relu: Any) -> Any:
    """Return the derivative of h."""
    return (where(relu, where(h_pre.real > 0, 1, 0), tanh_slope(h_pre)),)


@pointwise
def step_backward(dh: Any, slope: Any) -> Any:
    """Return the gradient of the pre-activation."""
    return (dh * slope,)  # [elman.3]


CELL = scan.Recurrence(step, derivatives, step_backward, gates=1, memory=0, units=1)


def forward(
    Wx: Array, params: Mapping[str, Array], state: ElmanState, ends: Array, nonlinearity: str
) -> tuple[Array, ElmanState, scan.ScanCache]:
    """Run over Wx (B, T, H), of which row b has ``ends[b]`` steps, without checks.

    Wx is written to.
    """
    R = scan.by_head(params["R"], 1)
    y, cache = scan.forward(
        CELL, scan.gates(Wx, R), R, state, ends, scan.flag(R, nonlinearity == "relu")
    )
    return y, ElmanState(*cache.state(ends)), cache


def backward(
    dy: Array, cache: scan.ScanCache, dstate: ElmanState
) -> tuple[Array, ElmanState, dict[str, Array]]:
    """Return the gradients of Wx, of the state before and of the parameters, without checks."""
    dgates, d = scan.backward(CELL, dy, cache, dstate)
    return scan.joined(dgates), ElmanState(*d), {"R": scan.gradient_of_R(dgates, cache)}
