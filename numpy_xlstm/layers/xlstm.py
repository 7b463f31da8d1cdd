"""sLSTM and mLSTM over sequences.

An mLSTM consists of maps from x to q, k, v and the gates, and of a form of the recurrence. It is
derived in ``docs/derivations/mlstm.md``, whose tags are cited here.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.gates import root
from numpy_xlstm.cells.mlstm import EPS, mLSTMCell, mLSTMState
from numpy_xlstm.cells.slstm import sLSTMCell, sLSTMState
from numpy_xlstm.kernels.mlstm import forms
from numpy_xlstm.kernels.mlstm.chunkwise import CHUNK_SIZE
from numpy_xlstm.layers.base import RunOptions
from numpy_xlstm.layers.sequence import SequenceLayer, of_cell
from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import Array, checked_choice, checked_positive, sigmoid_and_slope
from numpy_xlstm.numerics.threads import matmul


class sLSTM(SequenceLayer[sLSTMState]):
    """An sLSTM over sequences x (batch, time, features): :class:`sLSTMCell` at every step.

    ``batch_first=True`` is the default, unlike in PyTorch: for x (time, batch, features) pass
    ``batch_first=False``. The cell has the equations, ``params`` and initial values.

    Parameters
    ----------
    input_size, hidden_size, num_heads, forget_gate
        As in :class:`~numpy_xlstm.sLSTMCell`.
    batch_first, dtype, rng
        As in :class:`~numpy_xlstm.LSTM`.

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
        *,
        num_heads: int = 1,
        forget_gate: str = "sigmoid",
        batch_first: bool = True,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        options: dict[str, Any] = {"num_heads": num_heads, "forget_gate": forget_gate}
        cell = sLSTMCell(input_size, hidden_size, **options, dtype=dtype, rng=rng)
        super().__init__(cell, batch_first=batch_first)


class mLSTM(SequenceLayer[mLSTMState]):
    """An mLSTM over sequences x (batch, time, features): :class:`mLSTMCell` at every step.

    ``batch_first=True`` is the default, unlike in PyTorch: for x (time, batch, features) pass
    ``batch_first=False``. The cell has the equations, ``params`` and initial values.

    Parameters
    ----------
    input_size, hidden_size, num_heads, qk_dim, forget_gate, input_gate, eps
        As in :class:`~numpy_xlstm.mLSTMCell`.
    form : {"auto", "recurrent", "parallel", "chunkwise"}
        Algorithm for the sequence. All give the same result. "auto" takes the recurrent form for
        one step, and otherwise the chunkwise form. For up to one chunk the chunkwise form is the
        parallel form.
    chunk_size : int, default 64
        Steps per chunk of the chunkwise form.
    batch_first, dtype, rng
        As in :class:`~numpy_xlstm.LSTM`.

    Notes
    -----
    A state is an :class:`mLSTMState`, or a plain tuple, of C (B, NH, DK, DV), n (B, NH, DK) and
    m (B, NH). With a sigmoid input gate, n and m are None.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import mLSTM
    >>> rng = np.random.default_rng(0)
    >>> mlstm = mLSTM(3, 8, num_heads=2, rng=rng)
    >>> x = rng.standard_normal((2, 7, 3))
    >>> y, state, cache = mlstm.forward(x)
    >>> dx, dstate0, grads = mlstm.backward(rng.standard_normal(y.shape), cache)
    >>> y.shape, dx.shape, grads["W_i"].shape
    ((2, 7, 8), (2, 7, 3), (2, 3))
    """

    cell: mLSTMCell
    num_heads, qk_dim, eps = of_cell("num_heads"), of_cell("qk_dim"), of_cell("eps")
    forget_gate, input_gate = of_cell("forget_gate"), of_cell("input_gate")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        num_heads: int = 1,
        qk_dim: int | None = None,
        forget_gate: str = "sigmoid",
        input_gate: str = "exp",
        form: str = "auto",
        chunk_size: int = CHUNK_SIZE,
        eps: float = EPS,
        batch_first: bool = True,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        self.form = checked_choice("form", form, forms.FORMS)
        self.chunk_size = checked_positive("chunk_size", chunk_size)
        gates: dict[str, Any] = {"forget_gate": forget_gate, "input_gate": input_gate, "eps": eps}
        heads: dict[str, Any] = {"num_heads": num_heads, "qk_dim": qk_dim}
        cell = mLSTMCell(input_size, hidden_size, **heads, **gates, dtype=dtype, rng=rng)
        super().__init__(cell, batch_first=batch_first)

    @property
    def options(self) -> dict[str, Any]:
        """Options of the mLSTM form."""
        names = "form", "chunk_size", "eps", "forget_gate", "input_gate"
        return {name: getattr(self, name) for name in names}

    def compute(self, x: Array, state: Any, options: RunOptions) -> tuple[Array, mLSTMState, Any]:
        p, (B, T, D) = self.params, x.shape
        rows = x.reshape(B * T, D)
        maps = {g: matmul(rows, p[f"W_{g}"].T) for g in "qkvifo"}
        for g in "qvifo":
            maps[g] += p[f"b_{g}"]  # [mlstm.1] [mlstm.2] [mlstm.4]
        # forms.forward divides k by √DK, but the bias is added after the division
        maps["k"] += p["b_k"] * root(self.qk_dim // self.num_heads, x)  # [mlstm.3]
        q, k, v, i, f, o_pre = (maps[g].reshape(B, T, len(p[f"b_{g}"])) for g in "qkvifo")
        o, slope = sigmoid_and_slope(o_pre)  # [mlstm.5]
        h_tilde, after, kept = forms.forward(
            q, k, v, i, f, state, lengths=options.lengths, **self.options
        )
        return o * h_tilde, after, (x, kept, h_tilde, o, slope)  # [mlstm.14]

    def compute_backward(
        self, dy: Array, cache: Any, dstate: Any
    ) -> tuple[Array, mLSTMState, Grads]:
        x, kept, h_tilde, o, slope = cache
        do_pre = dy * h_tilde * slope  # [mlstm.15]
        dh_tilde = dy * o  # [mlstm.16]
        *dmaps, dstate0 = forms.backward(dh_tilde, kept, dstate)
        rows, root_DK, grads = x.reshape(-1, self.input_size), root(kept.q.shape[-1], x), {}
        dx = np.zeros_like(rows)
        for g, d in zip("qkvifo", [*dmaps, do_pre], strict=True):
            dg = d.reshape(len(rows), len(self.params[f"b_{g}"]))
            grads[f"W_{g}"] = matmul(dg.T, rows)  # [mlstm.33]
            grads[f"b_{g}"] = dg.sum(axis=0) * (root_DK if g == "k" else 1)  # [mlstm.32]
            dx += matmul(dg, self.params[f"W_{g}"])  # [mlstm.34]
        return dx.reshape(x.shape), dstate0, grads
