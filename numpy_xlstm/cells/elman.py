"""Elman network: one step, forward and backward, as in ``docs/derivations/elman.md``."""

from __future__ import annotations  # the state is defined below the cell

from collections import namedtuple
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.gates import checked_sizes, empty_state
from numpy_xlstm.module import Grads, Module
from numpy_xlstm.numerics import Array, checked_choice, tanh_slope
from numpy_xlstm.numerics.initial import drawn_uniformly
from numpy_xlstm.validation import checked_step, checked_step_backward

NONLINEARITIES = ("tanh", "relu")
"""Supported functions φ."""

ElmanCache = namedtuple("ElmanCache", "cell x state h_pre")
"""The cell, and residuals of one step: the input x, the state before the step, and h̃ (B, H)."""


class ElmanCell(Module):
    """One step of an Elman network, as in ``torch.nn.RNN``.

    ::

        h̃ = W x + R h₋ + b
        h = φ(h̃)

    with φ = tanh or relu(a) = max(a, 0). (J. L. Elman, Finding structure in time, Cognitive
    Science 14, 1990; φ is the logistic function there.)

    Parameters
    ----------
    input_size, hidden_size : int
        Widths D of x and H of h.
    nonlinearity : {"tanh", "relu"}
        The function φ.
    dtype, rng
        As in :class:`~numpy_xlstm.LSTM`.

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        ``W`` (H, D), ``R`` (H, H) and ``b`` (H,). Initial values are uniform in ±1/√H, as in each
        array of PyTorch. ``b`` replaces the sum of PyTorch's two biases.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> cell = ElmanCell(3, 4, nonlinearity="relu", rng=rng)
    >>> state, outputs = cell.init_state(2), []
    >>> for x in rng.standard_normal((7, 2, 3)):  # 7 steps
    ...     h, state, cache = cell.forward(x, state)
    ...     outputs.append(h)
    >>> dx, dstate0, grads = cell.backward(rng.standard_normal((2, 4)), cache)
    >>> dx.shape, dstate0.h.shape, grads["W"].shape
    ((2, 3), (2, 4), (4, 3))
    """

    @checked_step
    def forward(self, x: Array, state: Any = None) -> tuple[Array, ElmanState, ElmanCache]:
        """Take one step with x (B, D); return h (B, H), the state after the step and the cache."""
        (h_prev,) = state
        p = self.params
        h_pre = x @ p["W"].T + h_prev @ p["R"].T + p["b"]  # [elman.1]
        tanh = self.nonlinearity == "tanh"
        h = np.tanh(h_pre) if tanh else np.where(h_pre.real > 0, h_pre, 0)  # [elman.2]
        return h, ElmanState(h), ElmanCache(self, x, state, h_pre)

    @checked_step_backward
    def backward(
        self, dh: Array, cache: ElmanCache, dstate: Any = None
    ) -> tuple[Array, ElmanState, Grads]:
        """Return the gradients of x, of the state before the step and of the parameters."""
        (dh_next,) = dstate
        _, x, (h_prev,), h_pre = cache
        dh = dh + dh_next  # [rec.2]
        slope = tanh_slope(h_pre) if self.nonlinearity == "tanh" else h_pre.real > 0
        dh_pre = dh * slope  # [elman.3]
        dx = dh_pre @ self.params["W"]  # [elman.4]
        dh_prev = dh_pre @ self.params["R"]  # [elman.5]
        dW = dh_pre.T @ x  # [elman.6]
        dR = dh_pre.T @ h_prev  # [elman.7]
        db = dh_pre.sum(axis=0)  # [elman.8]
        return dx, ElmanState(dh_prev), {"W": dW, "R": dR, "b": db}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        nonlinearity: str = "tanh",
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        D, H, dtype, rng = checked_sizes(input_size, hidden_size, dtype, rng)
        self.input_size, self.hidden_size = D, H
        self.nonlinearity = checked_choice("nonlinearity", nonlinearity, NONLINEARITIES)
        shapes = {"W": (H, D), "R": (H, H), "b": (H,)}
        self.params = drawn_uniformly(shapes, H**-0.5, dtype, rng)

    def init_state(self, batch_size: int) -> ElmanState:
        """Return the empty state: h = 0."""
        return empty_state(ElmanState, batch_size, self.hidden_size, self.dtype)

    Cache = ElmanCache  # checked_step_backward refuses others
    tensor_axes: ClassVar[dict[str, str]] = {"W": "unit input", "R": "unit from", "b": "unit"}


class ElmanState(NamedTuple):
    """State of an Elman network, or the cotangent of one."""

    h: Array  # hidden state, (B, H)
