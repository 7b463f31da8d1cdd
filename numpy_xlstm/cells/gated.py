"""What LSTM and sLSTM share: four gates, a recurrent matrix, a step and a sequence.

Both are g = W x + R h₋ + b followed by a pointwise map; only the map and the state differ.
The step (:class:`GatedCell`) is the specification. The sequence (:class:`GatedSequence`) is the
same equations with every product that does not depend on h₋ taken out of the time loop.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Generic, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.gates import GateView
from numpy_xlstm.cells.padding import padding, without_padding
from numpy_xlstm.cells.projection import (
    InputWeights,
    input_gradients,
    project,
    project_backward,
)
from numpy_xlstm.cells.scan import (
    Pointwise,
    ScanCache,
    Step,
    batch_last,
    recur,
    recur_backward,
    recurrent_gradient,
    scan,
    scan_backward,
    steps_first,
)
from numpy_xlstm.cells.sequence import SequenceLayer
from numpy_xlstm.cells.state_form import State, StateForm
from numpy_xlstm.errors import OptionError
from numpy_xlstm.numerics import (
    Array,
    check_array,
    check_batch,
    check_positive,
    checked_dtype,
    generator_or_new,
)
from numpy_xlstm.parameters import Parameterised
from numpy_xlstm.signatures import Signature, check_made_by, signature

Grads = dict[str, Array]


class GatedLayer(Parameterised, Generic[State]):
    """Parameters W, R, b of four gates, and the conversions between public and inner layout."""

    state_type: ClassVar[type[Any]]
    pointwise: Pointwise

    W_i, W_f, W_z, W_o = (GateView("W", gate) for gate in "ifzo")
    R_i, R_f, R_z, R_o = (GateView("R", gate) for gate in "ifzo")
    b_i, b_f, b_z, b_o = (GateView("b", gate) for gate in "ifzo")
    r_i, r_f, r_z, r_o = R_i, R_f, R_z, R_o

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_heads: int,
        dtype: npt.DTypeLike,
        rng: np.random.Generator | None,
    ) -> None:
        self.input_size = check_positive("input_size", input_size)
        self.hidden_size = check_positive("hidden_size", hidden_size)
        self.num_heads = check_positive("num_heads", num_heads)
        if hidden_size % num_heads:
            raise OptionError(
                f"num_heads: expected a divisor of hidden_size = {hidden_size}; got {num_heads}"
            )
        self.head_dim = hidden_size // num_heads
        to = checked_dtype(dtype)
        params = self._initial_params(generator_or_new(rng))
        self.params = {name: array.astype(to) for name, array in params.items()}

    def _initial_params(self, rng: np.random.Generator) -> dict[str, Array]:
        raise NotImplementedError

    def init_state(self, batch_size: int) -> State:
        """Return the empty state: zeros, and m = −inf where there is an m."""
        return self._form(check_positive("batch_size", batch_size)).start(None)

    def _form(self, batch_size: int) -> StateForm[State]:
        """What a state of so many rows is like."""
        return StateForm(self.state_type, batch_size, self.num_heads, self.head_dim, self.dtype)

    def _weights(self) -> "tuple[InputWeights, Array]":
        """The parameters as the recurrence takes them: copies, since caches keep them."""
        W, R, b = (self.params[name].copy() for name in "WRb")
        shape = (self.num_heads, 4 * self.head_dim, self.head_dim)
        return InputWeights(W, b), R.reshape(shape)

    def _grads(self, dW: Array, dR: Array, db: Array) -> Grads:
        """The gradients of the parameters, in their shapes."""
        return {"W": dW, "R": dR.reshape(self.params["R"].shape), "b": db}


class CellCache(NamedTuple):
    """What one step keeps for its backward."""

    made_by: Signature
    x: Array
    h_prev: Array
    before: Array
    """The memory before and after the step, and what the pointwise map has recorded."""
    after: Array
    record: Array
    weights: InputWeights
    R: Array


class GatedCell(GatedLayer[State]):
    """One step, written as the equations: the specification of the sequence."""

    def forward(
        self, x: Array, state: Sequence[Array] | None = None
    ) -> tuple[Array, State, CellCache]:
        """Take one step.

        Parameters
        ----------
        x : np.ndarray
            Input x_t, shape (B, D).
        state : tuple of np.ndarray, optional
            State after the previous step; the empty state if omitted.

        Returns
        -------
        h : np.ndarray
            Output h_t, shape (B, H).
        state : LSTMState or sLSTMState
            State after this step.
        cache : CellCache
            What :meth:`backward` needs.
        """
        check_array("x", x, ("batch", self.input_size), self.dtype)
        check_batch("x", x)
        form = self._form(len(x))
        before = form.start(state)
        weights, R = self._weights()
        h_prev, first = form.split(before)
        recurrent = recur(h_prev, R)
        h: Array = np.empty_like(h_prev)
        last: Array = np.empty_like(first)
        record = np.empty((self.pointwise.record_size, *h.shape), self.dtype)
        np.add(project(x, weights).reshape(recurrent.shape), recurrent, out=record[:4])  # [rec.1]
        self.pointwise.forward(first, record, h, last, first=True)
        after = form.join(h, last)
        cache = CellCache(signature(self), x.copy(), h_prev, first, last, record, weights, R)
        return after.h.copy(), after, cache

    def backward(
        self, dh: Array, cache: CellCache, dstate: Sequence[Array] | None = None
    ) -> tuple[Array, State, Grads]:
        """Take one step back.

        Parameters
        ----------
        dh : np.ndarray
            Cotangent of h_t, shape (B, H).
        cache : CellCache
            From :meth:`forward`.
        dstate : tuple of np.ndarray, optional
            Cotangent of the state after this step; zero if omitted.

        Returns
        -------
        dx : np.ndarray
            Gradient of x_t, shape (B, D).
        dstate0 : LSTMState or sLSTMState
            Gradient of the state before this step.
        grads : dict[str, np.ndarray]
            Gradients of the parameters.

        Raises
        ------
        CacheError
            If ``cache`` is not from a cell of this kind, with these sizes and options.
        """
        check_made_by(cache, self)
        _, x, h_prev, before, after, record, *_ = cache
        (NH, DH, B), pointwise = h_prev.shape, self.pointwise
        form = self._form(B)
        check_array("dh", dh, (B, self.hidden_size), self.dtype)
        dh_state, dlast = form.split(form.finish(dstate))
        dh = batch_last(dh.reshape(B, NH, DH)) + dh_state
        (slopes,) = pointwise.slopes(record[None], after[None])
        dg = np.empty((4, NH, DH, B), self.dtype)
        dmemory = pointwise.enter_backward(dlast, after)
        dmemory = pointwise.backward(dh, dmemory, Step(before, after, record, slopes), dg)
        dfirst_memory = pointwise.leave_backward(dmemory, before)
        dW, db = input_gradients(dg, x)
        dR = recurrent_gradient(dg[..., None, :], h_prev[None])
        dx = project_backward(dg, cache.weights)
        dfirst = form.join(recur_backward(dg, cache.R), dfirst_memory)
        return dx, dfirst, self._grads(dW, dR, db)


class SequenceCache(NamedTuple):
    """What a sequence keeps for its backward."""

    made_by: Signature
    x: Array
    """Inputs, (T, B, D)."""
    weights: InputWeights
    scan: ScanCache
    stacked: bool
    """Whether the states have PyTorch's leading axis of layers."""


class GatedSequence(GatedLayer[State], SequenceLayer[State, SequenceCache]):
    """A whole sequence, with the products that do not depend on h₋ outside of the time loop."""

    def _forward(
        self, x: Array, state: Sequence[Array] | None, lengths: Array | None
    ) -> tuple[Array, State, SequenceCache]:
        """Time-major forward: x (T, B, D) to y (T, B, H)."""
        T, B, _ = x.shape
        form, stacked = self._form(B), state is not None and _is_stacked(state)
        h, memory = form.split(form.start(_unstacked(state, stacked), self._hint()))
        padded = None if lengths is None else padding(lengths, T)
        weights, R = self._weights()
        kept, y = np.empty_like(x, order="C"), self._blank(T, B, self.hidden_size)

        def source(block: slice, out: Array) -> None:
            kept[block] = x[block]
            product = project(kept[block], weights).reshape(4, *h.shape[:-1], -1, B)
            out[...] = steps_first(product)  # [rec.1]

        def taker(block: slice, outputs: Array) -> None:
            there = outputs if padded is None else without_padding(outputs, padded[block])
            y[block] = there.reshape(*there.shape[:2], -1)

        scanned = scan(source, taker, T, R, h, memory, self.pointwise, padded)
        after = form.join(scanned.hs[-1], scanned.memory[-1])
        cache = SequenceCache(signature(self), kept, weights, scanned, stacked)
        return y, self._restack(after, stacked), cache

    def _backward(
        self, dy: Array, cache: SequenceCache, dstate: Sequence[Array] | None
    ) -> tuple[Array, State, Grads]:
        """Time-major backward: dy (T, B, H) to dx (T, B, D)."""
        T, B, _ = dy.shape
        form = self._form(B)
        dh, dmemory = form.split(form.finish(_unstacked(dstate, cache.stacked)))
        dhs = dy.reshape(T, B, self.num_heads, self.head_dim)
        dhs = without_padding(dhs, cache.scan.padding)
        _, x, weights, scanned, stacked = cache
        dx = self._blank(T, B, self.input_size)
        dweights = InputWeights(*map(np.zeros_like, weights))

        def sink(block: slice, dpre: Array) -> None:
            for total, summand in zip(dweights, input_gradients(dpre, x[block]), strict=True):
                total += summand
            dx[block] = project_backward(dpre, weights)

        dh, dmemory, dR = scan_backward(dhs, dh, dmemory, scanned, self.pointwise, sink)
        dstate0 = self._restack(form.join(dh, dmemory), stacked)
        return dx, dstate0, self._grads(dweights.W, dR, dweights.b)

    def _shape_of(self, cache: SequenceCache) -> tuple[int, int]:
        return cache.x.shape[0], cache.x.shape[1]

    def _hint(self) -> str:
        order = "batch, time, input" if self.batch_first else "time, batch, input"
        return f"x is read as ({order}), see batch_first"

    def _restack(self, state: State, stacked: bool) -> State:
        if not stacked:
            return state
        return cast(State, self.state_type(*(array[None] for array in state)))


def _is_stacked(state: Sequence[Any]) -> bool:
    """Whether every array has PyTorch's leading axis of size num_layers = 1."""
    arrays = isinstance(state, tuple | list) and all(isinstance(a, np.ndarray) for a in state)
    return arrays and all(a.ndim == 3 and len(a) == 1 for a in state)


def _unstacked(state: Sequence[Any] | None, stacked: bool) -> Sequence[Any] | None:
    """Drop that axis, where a state has it."""
    if state is None or not stacked or not _is_stacked(state):
        return state
    return tuple(array[0] for array in state)
