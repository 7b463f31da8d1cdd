"""LSTMCell and LSTM: the parameters of an LSTM, as a step and as a sequence."""

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.gated import GatedCell, GatedLayer, GatedSequence
from numpy_xlstm.cells.lstm.pointwise import LSTMPointwise
from numpy_xlstm.cells.states import LSTMState
from numpy_xlstm.errors import OptionError
from numpy_xlstm.numerics import Array


class _LSTMLayer(GatedLayer[LSTMState]):
    """The parameters of an LSTM and how they start."""

    state_type = LSTMState
    pointwise = LSTMPointwise()

    def _initial_params(self, rng: np.random.Generator) -> dict[str, Array]:
        D, H = self.input_size, self.hidden_size
        bound = 1 / np.sqrt(H)
        W, R = rng.uniform(-bound, bound, (4 * H, D)), rng.uniform(-bound, bound, (4 * H, H))
        b = rng.uniform(-bound, bound, 4 * H)
        b[H : 2 * H] = 1
        return {"W": W, "R": R, "b": b}


class LSTMCell(_LSTMLayer, GatedCell[LSTMState]):
    """One step of an LSTM.

    ::

        g̃_t = W_g x_t + R_g h_{t−1} + b_g     for g = i, f, z, o     (xLSTM paper, Eqs 30–33)
        i, f, o = σ(ĩ), σ(f̃), σ(õ);  z = tanh(z̃)
        c_t = f ∘ c_{t−1} + i ∘ z                                     (Eq 28)
        h_t = o ∘ tanh(c_t)                                           (Eq 29)

    Parameters
    ----------
    input_size : int
        Width D of x.
    hidden_size : int
        Width H of h and c.
    dtype : dtype, default float64
        Of the parameters, and of all that the cell takes and returns.
    rng : np.random.Generator, optional
        Source of the initial parameters; a fresh one if omitted.

    Attributes
    ----------
    params : dict[str, np.ndarray]
        ``W`` (4H, D), ``R`` (4H, H) and ``b`` (4H,), rows in the order i, f, z, o.
    W_i, W_f, W_z, W_o, R_i, R_f, R_z, R_o, b_i, b_f, b_z, b_o : np.ndarray
        The rows of one gate, as live views; ``r_i`` … ``r_o`` are other names of ``R_i`` … ``R_o``.

    Notes
    -----
    Parameters start uniform in ±1/√H, as in PyTorch, but the forget bias starts at 1.
    Paper Eqs 28–33 are followed exactly, with ψ = tanh.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import LSTMCell
    >>> cell = LSTMCell(3, 4, rng=np.random.default_rng(0))
    >>> h, state, cache = cell.forward(np.ones((2, 3)))
    >>> dx, dstate0, grads = cell.backward(np.ones((2, 4)), cache)
    >>> dx.shape, grads["W"].shape, cell.W_z.shape
    ((2, 3), (16, 3), (4, 3))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, 1, dtype, rng)


class LSTM(_LSTMLayer, GatedSequence[LSTMState]):
    """An LSTM over a sequence: :class:`LSTMCell` at every step, with the same parameters.

    Parameters
    ----------
    input_size : int
        Width D of x.
    hidden_size : int
        Width H of h and c.
    num_layers : int, default 1
        There for the call ``nn.LSTM(D, H, 1)``; only 1 is accepted. Stack layers by feeding the
        outputs of one to the next.
    batch_first : bool, default True
        Whether x is (B, T, D), or (T, B, D), which is the default of ``torch.nn.LSTM``.
    dtype : dtype, default float64
        Of the parameters, and of all that the layer takes and returns.
    rng : np.random.Generator, optional
        Source of the initial parameters; a fresh one if omitted.

    Attributes
    ----------
    params : dict[str, np.ndarray]
        As in :class:`LSTMCell`. From PyTorch: ``W`` is ``weight_ih_l0``, ``R`` is
        ``weight_hh_l0`` and ``b`` is ``bias_ih_l0 + bias_hh_l0``.

    Notes
    -----
    A state is an :class:`LSTMState` or a plain tuple (h, c) of (B, H) arrays. Arrays of shape
    (1, B, H), as PyTorch has them, are taken too, and then returned likewise.

    Examples
    --------
    PyTorch's own call, sequence-first, with two steps of ten rows:

    >>> import numpy as np
    >>> from numpy_xlstm import LSTM
    >>> rng = np.random.default_rng(0)
    >>> lstm = LSTM(5, 5, 1, batch_first=False, rng=rng)
    >>> x = rng.standard_normal((2, 10, 5))
    >>> h0, c0 = rng.standard_normal((2, 1, 10, 5))
    >>> out, (h, c) = lstm(x, (h0, c0))
    >>> out.shape, h.shape
    ((2, 10, 5), (1, 10, 5))

    The same with what the backward needs:

    >>> out, state, cache = lstm.forward(x, (h0, c0))
    >>> dx, dstate0, grads = lstm.backward(rng.standard_normal(out.shape), cache)
    >>> dx.shape, dstate0.c.shape, sorted(grads)
    ((2, 10, 5), (1, 10, 5), ['R', 'W', 'b'])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        batch_first: bool = True,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | None = None,
    ) -> None:
        if num_layers != 1:
            raise OptionError(
                f"num_layers: expected 1, layers are stacked by feeding one's outputs to the next; "
                f"got {num_layers!r}"
            )
        self.batch_first = batch_first
        super().__init__(input_size, hidden_size, 1, dtype, rng)
