"""The original GRU: one step, line by line as in ``docs/derivations/gru.md``."""

from collections import namedtuple
from typing import Any

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.gates import checked_sizes, empty_state, gate_axes
from numpy_xlstm.cells.gru import GRUState
from numpy_xlstm.module import Grads, Module
from numpy_xlstm.numerics import Array, sigmoid, sigmoid_slope, tanh_slope
from numpy_xlstm.numerics.initial import drawn_uniformly
from numpy_xlstm.validation import checked_step, checked_step_backward

OriginalGRUCache = namedtuple("OriginalGRUCache", "cell x state pre r z u h_reset n")
"""The cell, and residuals of one step: x (B, D), the state before it, (r̃, z̃, ñ), and arrays (B,
H), with u = 1 − z and the reset state r ∘ h₋, which R_n multiplies."""


class OriginalGRUCell(Module):
    """One step of a gated recurrent unit as first published, with the reset gate before R.

    ::

        a = W x + b
        r, z = σ(a_r + R_r h₋), σ(a_z + R_z h₋)
        n = tanh(a_n + R_n (r ∘ h₋))
        h = (1 − z) ∘ n + z ∘ h₋

    (Cho et al. 2014, arXiv 1406.1078, Eqs 5–8; the paper has no b.) ONNX's GRU has this form with
    ``linear_before_reset=0``, its default, and Keras' GRU with ``reset_after=False``. PyTorch has
    the form of :class:`GRUCell`.

    Parameters
    ----------
    input_size, hidden_size : int
        Widths D of x and H of h.
    dtype, rng
        As in :class:`~numpy_xlstm.LSTM`.

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        ``W`` (3·H, D), ``R`` (3·H, H) and ``b`` (3·H,), rows in the order r, z, n; all are uniform
        in ±1/√H.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> cell = OriginalGRUCell(3, 4, rng=rng)
    >>> state, outputs = cell.init_state(2), []
    >>> for x in rng.standard_normal((7, 2, 3)):  # 7 steps
    ...     h, state, cache = cell.forward(x, state)
    ...     outputs.append(h)
    >>> dx, dstate0, grads = cell.backward(rng.standard_normal((2, 4)), cache)
    >>> dx.shape, dstate0.h.shape, grads["R"].shape
    ((2, 3), (2, 4), (12, 4))
    """

    @checked_step
    def forward(self, x: Array, state: Any = None) -> tuple[Array, GRUState, OriginalGRUCache]:
        """Take one step with x (B, D); return h (B, H), the state after the step and the cache."""
        (h_prev,) = state
        p, (R_r, R_z, R_n) = self.params, np.split(self.params["R"], 3)
        a_r, a_z, a_n = np.split(x @ p["W"].T + p["b"], 3, axis=1)  # [cho.1]
        r_pre, z_pre = a_r + h_prev @ R_r.T, a_z + h_prev @ R_z.T  # [cho.2]
        r, z, u = sigmoid(r_pre), sigmoid(z_pre), sigmoid(-z_pre)  # [cho.3]
        h_reset = r * h_prev  # [cho.4]
        n_pre = a_n + h_reset @ R_n.T  # [cho.5]
        n = np.tanh(n_pre)  # [cho.6]
        h = u * n + z * h_prev  # [cho.7]
        cache = OriginalGRUCache(self, x, state, (r_pre, z_pre, n_pre), r, z, u, h_reset, n)
        return h, GRUState(h), cache

    @checked_step_backward
    def backward(
        self, dh: Array, cache: OriginalGRUCache, dstate: Any = None
    ) -> tuple[Array, GRUState, Grads]:
        """Return the gradients of x, of the state before the step and of the parameters."""
        (dh_next,) = dstate
        _, x, (h_prev,), (r_pre, z_pre, n_pre), r, z, u, h_reset, n = cache
        R_r, R_z, R_n = np.split(self.params["R"], 3)
        dh = dh + dh_next  # [rec.2]
        dn_pre = dh * u * tanh_slope(n_pre)  # [cho.8]
        dz_pre = dh * (h_prev - n) * sigmoid_slope(z_pre)  # [cho.9]
        dh_reset = dn_pre @ R_n  # [cho.10]
        dr_pre = dh_reset * h_prev * sigmoid_slope(r_pre)  # [cho.11]
        da = np.hstack([dr_pre, dz_pre, dn_pre])  # [cho.12]
        dx = da @ self.params["W"]  # [cho.13]
        dh_prev = z * dh + r * dh_reset + dr_pre @ R_r + dz_pre @ R_z  # [cho.14]
        dW = da.T @ x  # [cho.15]
        dR = np.vstack([dr_pre.T @ h_prev, dz_pre.T @ h_prev, dn_pre.T @ h_reset])  # [cho.16]
        db = da.sum(axis=0)  # [cho.17]
        return dx, GRUState(dh_prev), {"W": dW, "R": dR, "b": db}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        D, H, dtype, rng = checked_sizes(input_size, hidden_size, dtype, rng)
        self.input_size, self.hidden_size = D, H
        shapes = {"W": (3 * H, D), "R": (3 * H, H), "b": (3 * H,)}
        self.params = drawn_uniformly(shapes, H**-0.5, dtype, rng)

    def init_state(self, batch_size: int) -> GRUState:
        """Return the empty state: h = 0."""
        return empty_state(GRUState, batch_size, self.hidden_size, self.dtype)

    Cache = OriginalGRUCache  # checked_step_backward refuses others
    tensor_axes = gate_axes("rzn")
