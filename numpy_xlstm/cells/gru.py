"""GRU: one step, forward and backward, line by line as in ``docs/derivations/gru.md``."""

from __future__ import annotations  # the state is defined below the cell

from collections import namedtuple
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.gates import checked_sizes, empty_state, gate_axes
from numpy_xlstm.module import Grads, Module
from numpy_xlstm.numerics import Array, sigmoid, sigmoid_slope, tanh_slope
from numpy_xlstm.numerics.initial import drawn_uniformly
from numpy_xlstm.validation import checked_step, checked_step_backward

GRUCache = namedtuple("GRUCache", "cell x state pre s_n r z u n")
"""The cell, and residuals of one step: x (B, D), the state before it, (r̃, z̃, ñ), and arrays (B,
H), with s_n = R_n h₋ + b′_n, which the reset gate scales, and u = 1 − z."""


class GRUCell(Module):
    """One step of a gated recurrent unit, in the form of ``torch.nn.GRU``.

    ::

        a = W x + b;  s = R h₋ + b′
        r, z = σ(a_r + s_r), σ(a_z + s_z)
        n = tanh(a_n + r ∘ s_n)
        h = (1 − z) ∘ n + z ∘ h₋

    (Cho et al. 2014, arXiv 1406.1078, Eqs 5–8, with two differences: the paper has R_n (r ∘ h₋)
    instead of ``r ∘ s_n``, and it has no biases.)

    Parameters
    ----------
    input_size, hidden_size : int
        Widths D of x and H of h.
    dtype, rng
        As in :class:`~numpy_xlstm.LSTM`.

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        ``W`` (3·H, D), ``R`` (3·H, H), ``b`` (3·H,) and ``b_h`` (3·H,), which is b′. They
        are PyTorch's ``weight_ih``, ``weight_hh``, ``bias_ih`` and ``bias_hh``. Rows are in the
        order r, z, n. All are uniform in ±1/√H, as in PyTorch.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> cell = GRUCell(3, 4, rng=rng)
    >>> state, outputs = cell.init_state(2), []
    >>> for x in rng.standard_normal((7, 2, 3)):  # 7 steps
    ...     h, state, cache = cell.forward(x, state)
    ...     outputs.append(h)
    >>> dx, dstate0, grads = cell.backward(rng.standard_normal((2, 4)), cache)
    >>> dx.shape, dstate0.h.shape, grads["W"].shape
    ((2, 3), (2, 4), (12, 3))
    """

    @checked_step
    def forward(self, x: Array, state: Any = None) -> tuple[Array, GRUState, GRUCache]:
        """Take one step with x (B, D); return h (B, H), the state after the step and the cache."""
        (h_prev,) = state
        p = self.params
        a_r, a_z, a_n = np.split(x @ p["W"].T + p["b"], 3, axis=1)  # [gru.1]
        s_r, s_z, s_n = np.split(h_prev @ p["R"].T + p["b_h"], 3, axis=1)  # [gru.2]
        r_pre, z_pre = a_r + s_r, a_z + s_z  # [gru.3]
        r, z, u = sigmoid(r_pre), sigmoid(z_pre), sigmoid(-z_pre)  # [gru.4]
        n_pre = a_n + r * s_n  # [gru.5]
        n = np.tanh(n_pre)  # [gru.6]
        h = u * n + z * h_prev  # [gru.7]
        return h, GRUState(h), GRUCache(self, x, state, (r_pre, z_pre, n_pre), s_n, r, z, u, n)

    @checked_step_backward
    def backward(
        self, dh: Array, cache: GRUCache, dstate: Any = None
    ) -> tuple[Array, GRUState, Grads]:
        """Return the gradients of x, of the state before the step and of the parameters."""
        (dh_next,) = dstate
        _, x, (h_prev,), (r_pre, z_pre, n_pre), s_n, r, z, u, n = cache
        dh = dh + dh_next  # [rec.2]
        dn_pre = dh * u * tanh_slope(n_pre)  # [gru.8]
        dz_pre = dh * (h_prev - n) * sigmoid_slope(z_pre)  # [gru.9]
        dr_pre = dn_pre * s_n * sigmoid_slope(r_pre)  # [gru.10]
        da = np.hstack([dr_pre, dz_pre, dn_pre])  # [gru.11]
        ds = np.hstack([dr_pre, dz_pre, r * dn_pre])  # [gru.12]
        dx = da @ self.params["W"]  # [gru.13]
        dh_prev = z * dh + ds @ self.params["R"]  # [gru.14]
        dW = da.T @ x  # [gru.15]
        dR = ds.T @ h_prev  # [gru.16]
        db, db_h = da.sum(axis=0), ds.sum(axis=0)  # [gru.17]
        return dx, GRUState(dh_prev), {"W": dW, "R": dR, "b": db, "b_h": db_h}

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
        shapes = {"W": (3 * H, D), "R": (3 * H, H), "b": (3 * H,), "b_h": (3 * H,)}
        self.params = drawn_uniformly(shapes, H**-0.5, dtype, rng)

    def init_state(self, batch_size: int) -> GRUState:
        """Return the empty state: h = 0."""
        return empty_state(GRUState, batch_size, self.hidden_size, self.dtype)

    Cache = GRUCache  # checked_step_backward refuses others
    tensor_axes: ClassVar[dict[str, str]] = {**gate_axes("rzn"), "b_h": "(gate=rzn unit)"}


class GRUState(NamedTuple):
    """State of a GRU, or the cotangent of one."""

    h: Array  # hidden state, (B, H)
