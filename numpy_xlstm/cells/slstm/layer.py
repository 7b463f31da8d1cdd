"""sLSTMCell and sLSTM: the parameters of an sLSTM, as a step and as a sequence."""

from typing import Any

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.gated import GatedCell, GatedLayer, GatedSequence
from numpy_xlstm.cells.slstm.pointwise import sLSTMPointwise
from numpy_xlstm.cells.stabilizer import FORGET_GATES
from numpy_xlstm.cells.states import sLSTMState
from numpy_xlstm.numerics import Array, check_choice


class _sLSTMLayer(GatedLayer[sLSTMState]):
    """The parameters of an sLSTM and how they start."""

    state_type = sLSTMState

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_heads: int,
        forget_gate: str,
        dtype: npt.DTypeLike,
        rng: np.random.Generator | None,
    ) -> None:
        self.forget_gate = check_choice("forget_gate", forget_gate, FORGET_GATES)
        self.pointwise = sLSTMPointwise(self.forget_gate)
        super().__init__(input_size, hidden_size, num_heads, dtype, rng)

    @property
    def cache_options(self) -> dict[str, Any]:
        """The kind of forget gate."""
        return {"forget_gate": self.forget_gate}

    def _initial_params(self, rng: np.random.Generator) -> dict[str, Array]:
        D, H, DH = self.input_size, self.hidden_size, self.head_dim
        bound = 1 / np.sqrt(DH)
        W = rng.normal(0, np.sqrt(2 / (5 * D)), (4 * H, D))
        R = rng.uniform(-bound, bound, (self.num_heads, 4 * DH, DH))
        b = np.zeros(4 * H)
        if self.forget_gate == "sigmoid":
            b[H : 2 * H] = np.tile(np.linspace(3, 6, DH), self.num_heads)
        return {"W": W, "R": R, "b": b}


class sLSTMCell(_sLSTMLayer, GatedCell[sLSTMState]):
    """One step of an sLSTM, stabilised.

    ::

        g̃_t = W_g x_t + R_g h_{t−1} + b_g     for g = i, f, z, o     (xLSTM paper, Eqs 37–40)
        m_t = max(log f + m_{t−1}, ĩ)                                 (Eq 15)
        i′ = exp(ĩ − m_t);  f′ = exp(log f + m_{t−1} − m_t)           (Eqs 16, 17)
        z = tanh(z̃);  o = σ(õ)
        c_t = f′ ∘ c_{t−1} + i′ ∘ z                                   (Eq 34)
        n_t = f′ ∘ n_{t−1} + i′                                       (Eq 35)
        h_t = o ∘ c_t / n_t                                           (Eq 36)

    with log f = log σ(f̃) or f̃, and R_g block-diagonal: no head sees another head's h.

    Parameters
    ----------
    input_size : int
        Width D of x.
    hidden_size : int
        Width H of h, c, n and m.
    num_heads : int, default 1
        Number NH of heads; must divide ``hidden_size``.
    forget_gate : {"sigmoid", "exp"}
        What the forget gate is.
    dtype : dtype, default float64
        Of the parameters, and of all that the cell takes and returns.
    rng : np.random.Generator, optional
        Source of the initial parameters; a fresh one if omitted.

    Attributes
    ----------
    params : dict[str, np.ndarray]
        ``W`` (4H, D), ``R`` (NH, 4·DH, DH) and ``b`` (4H,), gate-major in the order i, f, z, o;
        inside ``R`` gate-major per head.
    W_i, W_f, W_z, W_o, R_i, R_f, R_z, R_o, b_i, b_f, b_z, b_o : np.ndarray
        The part of one gate, as live views; ``r_i`` … ``r_o`` are other names of ``R_i`` … ``R_o``.

    Notes
    -----
    W starts normal with variance 2/(5D), R uniform in ±1/√DH, biases at 0, but a sigmoid forget
    gate's bias runs from 3 to 6 over each head.

    The first step of an empty state has m = ĩ, hence i′ = 1: the empty state has m = −inf, in
    each entry on its own. Where the maximum is a tie, its derivative is that of log f + m₋. A
    state with c = n = 0 is empty whatever its m; where a step from it would underflow, it is taken
    with m = −inf. n is never negative in a state that a forward has returned; none is expected in
    one that is passed in.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import sLSTMCell
    >>> cell = sLSTMCell(3, 4, num_heads=2, rng=np.random.default_rng(0))
    >>> h, state, cache = cell.forward(np.ones((2, 3)))
    >>> state._fields, cell.params["R"].shape, cell.R_f.shape
    (('h', 'c', 'n', 'm'), (2, 8, 2), (2, 2, 2))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_heads: int = 1,
        *,
        forget_gate: str = "sigmoid",
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, num_heads, forget_gate, dtype, rng)


class sLSTM(_sLSTMLayer, GatedSequence[sLSTMState]):
    """An sLSTM over a sequence: :class:`sLSTMCell` at every step, with the same parameters.

    Parameters
    ----------
    input_size, hidden_size, num_heads, forget_gate, dtype, rng
        As in :class:`sLSTMCell`.
    batch_first : bool, default True
        Whether x is (B, T, D), or (T, B, D).

    Examples
    --------
    A sequence in two calls is the sequence in one:

    >>> import numpy as np
    >>> from numpy_xlstm import sLSTM
    >>> rng = np.random.default_rng(0)
    >>> slstm = sLSTM(3, 8, num_heads=2, rng=rng)
    >>> x = rng.standard_normal((2, 7, 3))
    >>> whole, state, cache = slstm.forward(x)
    >>> first, state, _ = slstm.forward(x[:, :4])
    >>> second, state, _ = slstm.forward(x[:, 4:], state)
    >>> np.allclose(whole, np.concatenate([first, second], axis=1), rtol=1e-14)
    True
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_heads: int = 1,
        *,
        forget_gate: str = "sigmoid",
        batch_first: bool = True,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.batch_first = batch_first
        super().__init__(input_size, hidden_size, num_heads, forget_gate, dtype, rng)
