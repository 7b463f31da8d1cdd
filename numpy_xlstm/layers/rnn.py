"""LSTM, GRU and RNN with PyTorch's arguments, names, initialisation and state shapes."""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.elman import ElmanCell, ElmanState
from numpy_xlstm.cells.gru import GRUCell, GRUState
from numpy_xlstm.cells.lstm import LSTMCell, LSTMState
from numpy_xlstm.cells.lstmp import LSTMPCell
from numpy_xlstm.errors import OptionError
from numpy_xlstm.layers.base import Recurrent, RunOptions, S
from numpy_xlstm.layers.sequence import TorchSequence
from numpy_xlstm.layers.stacked import Stacked, levels
from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import (
    Array,
    checked_batch_size,
    checked_bool,
    checked_positive,
    checked_whole,
    generator_or_new,
)


class RNNBase(Stacked[S]):
    """Base class of LSTM, GRU and RNN: a stack whose state has an axis of layers.

    Attributes
    ----------
    state_type : type
        Type of the cell's state. The state of this object has the same arrays with an additional
        first axis for the layers and directions. If the state has only one array, it is that array
        itself and not a tuple.
    """

    state_type: ClassVar[Any]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        checked_positive("input_size", input_size)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.bidirectional = checked_bool("bias", bias), bidirectional
        draws = generator_or_new(rng)

        def make(width: int) -> Recurrent:
            cell = self.make_cell(width, dtype=dtype, rng=draws)
            return TorchSequence(cell, bias, draws)

        layers = levels(make, input_size, num_layers, bidirectional, draws)
        super().__init__(layers, dropout=dropout, batch_first=batch_first)
        self._widths = {"h": self.layers[0].out_features, "c": hidden_size}

    def make_cell(self, width: int, **options: Any) -> Any:
        """Make the cell of one direction of a layer, for inputs of this width."""
        raise NotImplementedError

    def init_state(self, batch_size: int) -> S:
        """Return the empty state: zeros, (num_layers · directions, B, ·)."""
        leading = len(self.layers), checked_batch_size(batch_size)
        widths = [self._widths[name] for name in self.state_type._fields]
        arrays = self.state_type(*(np.zeros((*leading, width), self.dtype) for width in widths))
        state: S = arrays if len(arrays) > 1 else arrays[0]
        return state

    def inner_state(self, state: Any) -> Any:
        """Split a state into one state of the cell for each layer and direction."""
        arrays = state if isinstance(state, tuple) else (state,)
        return tuple(map(self.state_type, *arrays))

    def outer_state(self, states: Any) -> S:
        """Join the states of all layers and directions along a new first axis."""
        arrays = self.state_type(*map(np.array, zip(*states, strict=True)))
        state: S = arrays if len(arrays) > 1 else arrays[0]
        return state

    def compute(self, x: Array, state: Any, options: RunOptions) -> tuple[Array, Any, Any]:
        """Compute the forward without checks; a stack of one layer is that layer."""
        if len(self.layers) > 1:
            return super().compute(x, state, options)
        y, after, kept = self.layers[0].compute(x, state[0], options)
        return y, (after,), kept

    def compute_backward(self, dy: Array, cache: Any, dstate: Any) -> tuple[Array, Any, Grads]:
        if len(self.layers) > 1:
            return super().compute_backward(dy, cache, dstate)
        dx, dstate0, grads = self.layers[0].compute_backward(dy, cache, dstate[0])
        return dx, (dstate0,), self.named_grads(layers=[grads])


class LSTM(RNNBase[LSTMState]):
    r"""An LSTM over sequences x (batch, time, features), otherwise as ``torch.nn.LSTM``.

    ``batch_first=True`` is the default, unlike in PyTorch: for x (time, batch, features) pass
    ``batch_first=False``. Arguments, names and states are PyTorch's. Each layer and direction
    computes at every step (xLSTM paper, Eqs 28–33; PyTorch's g is z here)::

        g̃ = W_g x + b_ig + R_g h₋ + b_hg     for g = i, f, z, o
        i, f, o = σ(ĩ), σ(f̃), σ(õ);  z = tanh(z̃)
        c = f ∘ c₋ + i ∘ z
        h = o ∘ tanh(c),   or   h = W_hr (o ∘ tanh(c)) with ``proj_size``

    Parameters
    ----------
    input_size, hidden_size : int
        Widths D of x and H of h and c.
    num_layers : int, default 1
        Number of layers.
    bias : bool, default True
        Whether there are biases.
    batch_first : bool, default True
        Whether x and y are (B, T, ·). If False, they are (T, B, ·), which is PyTorch's default.
    dropout : float
        Probability that an entry of the output of any layer but the last is dropped if ``rng`` is
        given. In contrast to PyTorch, 1 is invalid.
    bidirectional : bool
        Whether each layer also has a reverse direction, whose output is concatenated to that of the
        forward direction.
    proj_size : int
        Width P of h, less than H, if h is a projection; 0 for no projection.
    dtype : dtype, default float64
        Dtype of the parameters, and of all inputs and results: float32, float64 or longdouble; for
        a complex step, complex128 or clongdouble.
    rng : np.random.Generator or int, optional
        Generator for the initial parameters, or its seed; a new, unseeded one if omitted.

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        ``weight_ih_l0`` (4·H, D), ``weight_hh_l0`` (4·H, H or P), ``bias_ih_l0`` and ``bias_hh_l0``
        (4·H,), rows in the order i, f, z, o, and with ``proj_size`` ``weight_hr_l0`` (P, H).
        Further layers have the same arrays with ``_l1``, …, where D is the output width of the
        layer below. Reverse directions have them with ``_l0_reverse``, …. All are uniform in ±1/√H,
        as in PyTorch. :func:`gate_rows` returns the rows of a gate.

    Notes
    -----
    A state is an :class:`LSTMState`, or a plain tuple, of h (num_layers · directions, B, H or P)
    and c (num_layers · directions, B, H). The first axis is layer 0, layer 0 reverse, layer 1, and
    so on.

    There are two biases so that weights can be exchanged with PyTorch bit for bit. Only their sum
    is used, so both have the same gradient. ``lengths`` in :meth:`forward` corresponds to packing
    in PyTorch. T = 0 and lengths of 0, which PyTorch refuses, change no state.

    Examples
    --------
    The call of PyTorch, time first, followed by forward and backward:

    >>> import numpy as np
    >>> from numpy_xlstm import LSTM
    >>> rng = np.random.default_rng(0)
    >>> lstm = LSTM(5, 4, 2, bidirectional=True, batch_first=False, rng=rng)
    >>> x = rng.standard_normal((7, 10, 5))
    >>> h0, c0 = rng.standard_normal((2, 4, 10, 4))
    >>> out, (h, c) = lstm(x, (h0, c0))
    >>> out.shape, h.shape
    ((7, 10, 8), (4, 10, 4))
    >>> out, state, cache = lstm.forward(x, (h0, c0))
    >>> dx, dstate0, grads = lstm.backward(rng.standard_normal(out.shape), cache)
    >>> dx.shape, dstate0.c.shape, grads["weight_ih_l1_reverse"].shape
    ((7, 10, 5), (4, 10, 4), (16, 8))
    """

    state_type = LSTMState

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        self.proj_size = checked_whole("proj_size", proj_size)
        if self.proj_size >= checked_positive("hidden_size", hidden_size):
            expected = f"less than hidden_size = {hidden_size}, or 0 for none"
            raise OptionError(f"proj_size: expected {expected}; got {proj_size}")
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            dtype=dtype,
            rng=rng,
        )

    def make_cell(self, width: int, **options: Any) -> LSTMCell | LSTMPCell:
        if self.proj_size == 0:
            return LSTMCell(width, self.hidden_size, **options)
        return LSTMPCell(width, self.hidden_size, self.proj_size, **options)


class GRU(RNNBase[Array]):
    """A GRU over sequences x (batch, time, features), otherwise as ``torch.nn.GRU``.

    ``batch_first=True`` is the default, as in :class:`LSTM`. Each layer and direction computes at
    every step::

        a = W_ih x + b_ih;  s = W_hh h₋ + b_hh
        r, z = σ(a_r + s_r), σ(a_z + s_z)
        n = tanh(a_n + r ∘ s_n)
        h = (1 − z) ∘ n + z ∘ h₋

    Parameters
    ----------
    input_size, hidden_size : int
        Widths D of x and H of h.
    num_layers, bias, batch_first, dropout, bidirectional, dtype, rng
        As in :class:`LSTM`.

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        ``weight_ih_l0`` (3·H, D), ``weight_hh_l0`` (3·H, H), ``bias_ih_l0`` and ``bias_hh_l0``
        (3·H,), rows in the order r, z, n. Further layers, directions and initial values are as in
        :class:`LSTM`.

    Notes
    -----
    A state is an array h (num_layers · directions, B, H).

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import GRU
    >>> gru = GRU(5, 4, 2, rng=np.random.default_rng(0))
    >>> out, h = gru(np.ones((10, 7, 5)))
    >>> out.shape, h.shape, gru.params["weight_hh_l1"].shape
    ((10, 7, 4), (2, 10, 4), (12, 4))
    """

    state_type = GRUState

    def make_cell(self, width: int, **options: Any) -> GRUCell:
        return GRUCell(width, self.hidden_size, **options)


class RNN(RNNBase[Array]):
    """An Elman network over sequences x (batch, time, features), otherwise as ``torch.nn.RNN``.

    ``batch_first=True`` is the default, as in :class:`LSTM`. Each layer and direction computes
    h = φ(W_ih x + b_ih + W_hh h₋ + b_hh) at every step.

    Parameters
    ----------
    input_size, hidden_size : int
        Widths D of x and H of h.
    nonlinearity : {"tanh", "relu"}
        The function φ.
    num_layers, bias, batch_first, dropout, bidirectional, dtype, rng
        As in :class:`LSTM`.

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        ``weight_ih_l0`` (H, D), ``weight_hh_l0`` (H, H), ``bias_ih_l0`` and ``bias_hh_l0`` (H,).
        Further layers, directions and initial values are as in :class:`LSTM`.

    Notes
    -----
    A state is an array h (num_layers · directions, B, H).

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import RNN
    >>> rnn = RNN(5, 4, nonlinearity="relu", rng=np.random.default_rng(0))
    >>> out, h = rnn(np.ones((10, 7, 5)))
    >>> out.shape, h.shape
    ((10, 7, 4), (1, 10, 4))
    """

    state_type = ElmanState

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        self.nonlinearity = nonlinearity
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            dtype=dtype,
            rng=rng,
        )

    def make_cell(self, width: int, **options: Any) -> ElmanCell:
        return ElmanCell(width, self.hidden_size, nonlinearity=self.nonlinearity, **options)
