"""sLSTM over a sequence."""

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.gates import check_memory
from numpy_xlstm.cells.slstm import sLSTMCell, sLSTMState
from numpy_xlstm.layers.sequence import SequenceLayer, of_cell


class sLSTM(SequenceLayer[sLSTMState]):
    """An sLSTM over sequences x (batch, time, features): :class:`sLSTMCell` at every step.

    ``batch_first=True`` is the default, unlike in PyTorch: for x (time, batch, features) pass
    ``batch_first=False``. Every step computes, stabilised::

        g̃ = W_g x + R_g h₋ + b_g     for g = i, f, z, o     (xLSTM paper, Eqs 37–40)
        m = max(log f + m₋, ĩ)                               (Eq 15)
        i = exp(ĩ − m);  f = exp(log f + m₋ − m)             (Eqs 16, 17: i′ and f′)
        z = tanh(z̃);  o = σ(õ)
        c = f ∘ c₋ + i ∘ z                                   (Eq 34)
        n = f ∘ n₋ + i                                       (Eq 35)
        h = o ∘ c / n                                        (Eq 36)

    with log f = log σ(f̃) or f̃. R_g is block-diagonal: a head does not see the h of other heads.

    Parameters
    ----------
    input_size, hidden_size : int
        Widths D of x and H of h, c, n and m.
    num_heads : int, default 1
        Number NH of heads; must divide ``hidden_size``.
    forget_gate : {"sigmoid", "exp"}
        Activation of the forget gate.
    batch_first, dtype, rng
        As in :class:`~numpy_xlstm.LSTM`.

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        ``W`` (4·H, D), ``R`` (NH, 4·DH, DH) and ``b`` (4·H,), gate by gate in the order i, f, z, o;
        in ``R``, within each head. Initial values: W is normal with variance 2/(5D), R is uniform
        in ±1/√DH, and b is 0, except that the bias of a sigmoid forget gate rises from 3 to 6
        within each head.

    Notes
    -----
    A state is an :class:`sLSTMState`, or a plain tuple, of h, c, n and m, (B, H) each.

    Examples
    --------
    Two calls on the parts of a sequence give the same outputs as one call on the whole sequence:

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

    num_heads, forget_gate = of_cell("num_heads"), of_cell("forget_gate")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_heads: int = 1,
        *,
        forget_gate: str = "sigmoid",
        batch_first: bool = True,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        cell = sLSTMCell(
            input_size, hidden_size, num_heads, forget_gate=forget_gate, dtype=dtype, rng=rng
        )
        super().__init__(cell, batch_first=batch_first)

    def check_state(self, state: sLSTMState) -> None:
        """Raise :class:`StateError` for an unreachable state."""
        check_memory(state)
