"""mLSTMCell and mLSTM: the maps from x to q, k, v and the gates, around a form of mLSTM.

Derived in ``docs/derivations/mlstm.md``, whose tags are cited here.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.mlstm.chunkwise import CHUNK_SIZE
from numpy_xlstm.cells.mlstm.form import FORMS, FormCache, run_form, run_form_backward
from numpy_xlstm.cells.mlstm.gates import check_options
from numpy_xlstm.cells.mlstm.inputs import (
    Inputs,
    check_state,
    empty_state,
    key_scale,
    own,
    padding_of,
    to_memory,
    to_memory_backward,
)
from numpy_xlstm.cells.mlstm.step import (
    StepCache,
    enter_backward,
    leave_backward,
    step,
    step_backward,
)
from numpy_xlstm.cells.sequence import SequenceLayer
from numpy_xlstm.cells.states import mLSTMState
from numpy_xlstm.errors import OptionError
from numpy_xlstm.numerics import (
    Array,
    check_array,
    check_batch,
    check_choice,
    check_positive,
    checked_dtype,
    generator_or_new,
    sigmoid_and_slope,
)
from numpy_xlstm.parameters import Parameterised
from numpy_xlstm.signatures import Signature, check_made_by, signature

Grads = dict[str, Array]


class Projections(NamedTuple):
    """Gradients of what x is mapped to: q, k (N, NH, DK), v (N, NH, DV), i, f (N, NH), o (N, H)."""

    q: Array
    k: Array
    v: Array
    i: Array
    f: Array
    o: Array


class Source(NamedTuple):
    """Where the projections came from."""

    x: Array
    """Rows (N, D)."""
    weights: dict[str, Array]
    """W_q … W_o, by the letter of the map."""


class OutputGate(NamedTuple):
    """o and σ′(õ), shape (N, H)."""

    o: Array
    slope: Array

    def backward(self, dy: Array, h: Array) -> tuple[Array, Array]:
        """δh̃ = o ∘ δh and δõ = h̃ ∘ σ′(õ) ∘ δh  [mlstm.25]."""
        return dy * self.o, dy * h * self.slope


class _mLSTMLayer(Parameterised):
    """The parameters of an mLSTM, how they start, and the maps that they make."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_heads: int = 1,
        *,
        qk_dim: int | None = None,
        forget_gate: str = "sigmoid",
        input_gate: str = "exp",
        eps: float = 1e-6,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.input_size = check_positive("input_size", input_size)
        self.hidden_size = check_positive("hidden_size", hidden_size)
        self.num_heads = check_positive("num_heads", num_heads)
        self.qk_dim = hidden_size if qk_dim is None else check_positive("qk_dim", qk_dim)
        for name, width in (("hidden_size", self.hidden_size), ("qk_dim", self.qk_dim)):
            if width % num_heads:
                raise OptionError(
                    f"num_heads: expected a divisor of {name} = {width}; got {num_heads}"
                )
        self.options = check_options(eps, forget_gate, input_gate)
        to = checked_dtype(dtype)
        params = self._initial_params(generator_or_new(rng))
        self.params = {name: array.astype(to) for name, array in params.items()}

    def _initial_params(self, rng: np.random.Generator) -> dict[str, Array]:
        D, NH = self.input_size, self.num_heads
        H, QK = self.hidden_size, self.qk_dim
        rows = {"q": QK, "k": QK, "v": H, "i": NH, "f": NH, "o": H}
        std = np.sqrt(2 / (5 * D))
        params = {
            f"W_{g}": np.zeros((n, D)) if g in "if" else rng.normal(0, std, (n, D))
            for g, n in rows.items()
        }
        params |= {f"b_{g}": np.zeros(n) for g, n in rows.items()}
        params["b_i"] = rng.normal(0, 0.1, NH)
        if self.options.forget_gate == "sigmoid":
            params["b_f"] = np.linspace(3, 6, NH)
        return params

    @property
    def head_dims(self) -> tuple[int, int]:
        """DK and DV: the widths of a head's keys and values."""
        return self.qk_dim // self.num_heads, self.hidden_size // self.num_heads

    @property
    def cache_options(self) -> dict[str, Any]:
        """Heads, gates and eps."""
        return {"num_heads": self.num_heads, **self.options._asdict()}

    @property
    def _key_scale(self) -> Any:
        return key_scale(self.head_dims[0], self.dtype)

    def init_state(self, batch_size: int) -> mLSTMState:
        """Return the empty state: C = n = 0, m = −inf."""
        B = check_positive("batch_size", batch_size)
        return empty_state(B, self.num_heads, *self.head_dims, self.dtype, self.options)

    def _project(self, x: Array) -> tuple[Sequence[Array], OutputGate]:
        """Rows x (N, D) to q, k, v, the pre-activations of i and f, and the output gate."""
        out = {g: x @ self.params[f"W_{g}"].T + self._bias(g) for g in "qkvifo"}
        gate = OutputGate(*sigmoid_and_slope(out.pop("o")))  # [mlstm.5]
        DK, DV = self.head_dims
        for g, width in (("q", DK), ("k", DK), ("v", DV)):
            out[g] = out[g].reshape(len(x), self.num_heads, width)
        return tuple(out.values()), gate

    def _bias(self, g: str) -> Array:
        """Bias of one map; √DK·b_k for keys: √DK divides it later, and the paper does not."""
        b = self.params[f"b_{g}"]
        return b / self._key_scale if g == "k" else b  # [mlstm.1] [mlstm.2] [mlstm.4]

    def _source(self, x: Array) -> "Source":
        """Copy what the backward of the maps needs: later changes to the layer do not reach it."""
        return Source(x.copy(), {g: self.params[f"W_{g}"].copy() for g in "qkvifo"})

    def _project_backward(self, d: Projections, source: "Source") -> tuple[Array, Grads]:
        """Gradients of x and of the parameters from those of the pre-activations."""
        x = source.x
        dx = np.zeros_like(x)
        grads = {}
        for g, rows in zip("qkvifo", d, strict=True):
            flat = rows.reshape(len(x), self.params[f"b_{g}"].size)
            dx += flat @ source.weights[g]  # [mlstm.22]
            grads[f"W_{g}"] = flat.T @ x  # [mlstm.23]
            grads[f"b_{g}"] = flat.sum(0)  # [mlstm.24]
        grads["b_k"] /= self._key_scale
        return dx, {name: grads[name] for name in self.params}


class CellCache(NamedTuple):
    """What one step of the layer keeps for its backward."""

    made_by: Signature
    source: Source
    gate: OutputGate
    inputs: Inputs
    step: StepCache
    last: mLSTMState


class mLSTMCell(_mLSTMLayer):
    """One step of an mLSTM, stabilised.

    ::

        q_t = W_q x_t + b_q;  k_t = W_k x_t/√DK + b_k;  v_t = W_v x_t + b_v   (xLSTM paper, 22–24)
        ĩ_t = W_i x_t + b_i;  f̃_t = W_f x_t + b_f;  o_t = σ(W_o x_t + b_o)   (Eqs 25–27)
        C_t = f C_{t−1} + i k_t v_tᵀ;  n_t = f n_{t−1} + i k_t                (Eqs 19, 20)
        h_t = o_t ∘ C_tᵀ q_t / (max(|q_t·n_t|, 1) + eps)                       (Eq 21)

    per head, with C, n and the 1 divided by e^(m_t), see :func:`mlstm_recurrent`.

    Parameters
    ----------
    input_size : int
        Width D of x.
    hidden_size : int
        Width H of h: NH heads of DV = H / NH.
    num_heads : int, default 1
        Number NH of heads; must divide ``hidden_size`` and ``qk_dim``.
    qk_dim : int, optional
        Width of all queries, and of all keys, together: NH heads of DK; ``hidden_size`` if
        omitted.
    forget_gate : {"sigmoid", "exp"}
        What the forget gate is.
    input_gate : {"exp", "sigmoid"}
        What the input gate is; "sigmoid" is mLSTMsig, without n and m.
    eps : float, default 1e-6
        Added to the denominator; 0 is the paper.
    dtype : dtype, default float64
        Of the parameters, and of all that the cell takes and returns.
    rng : np.random.Generator, optional
        Source of the initial parameters; a fresh one if omitted.

    Attributes
    ----------
    params : dict[str, np.ndarray]
        ``W_q``, ``W_k`` (NH·DK, D), ``W_v``, ``W_o`` (H, D), ``W_i``, ``W_f`` (NH, D), and the
        biases ``b_q`` … ``b_o``. W_q, W_k, W_v, W_o start normal with variance 2/(5D), the gates'
        weights at 0, b_i normal with deviation 0.1, and b_f, if sigmoid, from 3 to 6 over heads.

    Notes
    -----
    C is keys × values, the transpose of the paper's.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import mLSTMCell
    >>> cell = mLSTMCell(3, 8, num_heads=2, qk_dim=4, rng=np.random.default_rng(0))
    >>> h, state, cache = cell.forward(np.ones((5, 3)))
    >>> h.shape, state.C.shape, state.n.shape, state.m.shape
    ((5, 8), (5, 2, 2, 4), (5, 2, 2), (5, 2))
    """

    def forward(
        self, x: Array, state: Sequence[Array | None] | None = None
    ) -> tuple[Array, mLSTMState, CellCache]:
        """Take one step.

        Parameters
        ----------
        x : np.ndarray
            Input x_t, shape (B, D).
        state : mLSTMState, optional
            State after the previous step; the empty state if omitted.

        Returns
        -------
        h : np.ndarray
            Output h_t, shape (B, H).
        state : mLSTMState
            State after this step.
        cache : CellCache
            What :meth:`backward` needs.
        """
        check_array("x", x, ("batch", self.input_size), self.dtype)
        check_batch("x", x)
        projected, gate = self._project(x)
        previous = own(check_state("state", state, _one_step(*projected), self.options))
        inputs = Inputs(*projected)
        h_tilde, after, cache = step(to_memory(inputs, self.options), previous, self.options.eps)
        h = gate.o * h_tilde.reshape(gate.o.shape)  # [mlstm.21]
        return (
            h,
            own(after),
            CellCache(signature(self), self._source(x), gate, inputs, cache, after),
        )

    def backward(
        self, dh: Array, cache: CellCache, dstate: Sequence[Array | None] | None = None
    ) -> tuple[Array, mLSTMState, Grads]:
        """Take one step back.

        Parameters
        ----------
        dh : np.ndarray
            Cotangent of h_t, shape (B, H).
        cache : CellCache
            From :meth:`forward`.
        dstate : mLSTMState, optional
            Cotangent of the state after this step; zero if omitted.

        Returns
        -------
        dx : np.ndarray
            Gradient of x_t, shape (B, D).
        dstate0 : mLSTMState
            Gradient of the state before this step.
        grads : dict[str, np.ndarray]
            Gradients of the parameters.

        Raises
        ------
        CacheError
            If ``cache`` is not from a cell of this kind, with these sizes and options.
        """
        check_made_by(cache, self)
        shape = cache.gate.o.shape
        check_array("dh", dh, shape, self.dtype)
        dlast = check_state("dstate", dstate, _one_step(*cache.inputs.arrays), self.options)
        dh_tilde, do_pre = cache.gate.backward(dh, cache.step.h.reshape(shape))
        d, dstate0 = step_backward(
            dh_tilde.reshape(cache.step.h.shape),
            enter_backward(dlast, cache.last),
            cache.step,
        )
        dprojected = to_memory_backward(d, cache.inputs, self.options)
        dx, grads = self._project_backward(Projections(*dprojected, do_pre), cache.source)
        return dx, leave_backward(dstate0, cache.step.previous), grads


class SequenceCache(NamedTuple):
    """What a sequence keeps for its backward."""

    made_by: Signature
    source: Source
    """With x time-major and flattened: (T·B, D)."""
    gate: OutputGate
    h: Array
    """Before the output gate, (T·B, H)."""
    memory: FormCache
    """The cache of the form."""


class mLSTM(_mLSTMLayer, SequenceLayer[mLSTMState, SequenceCache]):
    """An mLSTM over a sequence: :class:`mLSTMCell` at every step, with the same parameters.

    Parameters
    ----------
    input_size, hidden_size, num_heads, qk_dim, forget_gate, input_gate, eps, dtype, rng
        As in :class:`mLSTMCell`.
    form : {"auto", "recurrent", "parallel", "chunkwise"}
        How the sequence is computed; the result is the same. "auto" takes the recurrent form for a
        single step, with narrow heads also for two, and else the chunkwise form, which up to a
        chunk is the parallel one.
    chunk_size : int, default 64
        Steps per chunk of the chunkwise form.
    batch_first : bool, default True
        Whether x is (B, T, D), or (T, B, D).

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

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_heads: int = 1,
        *,
        qk_dim: int | None = None,
        forget_gate: str = "sigmoid",
        input_gate: str = "exp",
        form: str = "auto",
        chunk_size: int = CHUNK_SIZE,
        eps: float = 1e-6,
        batch_first: bool = True,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.form = check_choice("form", form, FORMS)
        self.chunk_size = check_positive("chunk_size", chunk_size)
        self.batch_first = batch_first
        super().__init__(
            input_size,
            hidden_size,
            num_heads,
            qk_dim=qk_dim,
            forget_gate=forget_gate,
            input_gate=input_gate,
            eps=eps,
            dtype=dtype,
            rng=rng,
        )

    def _forward(
        self, x: Array, state: Sequence[Array | None] | None, lengths: Array | None
    ) -> tuple[Array, mLSTMState, SequenceCache]:
        """Time-major forward: x (T, B, D) to y (T, B, H)."""
        T, B, _ = x.shape
        flat = np.ascontiguousarray(x).reshape(T * B, self.input_size)
        projected, gate = self._project(flat)
        q, k, v, i, f = (_to_heads(part, T, B) for part in projected)
        inputs = Inputs(q, k, v, i, f, None if lengths is None else padding_of(lengths, T))
        before = own(check_state("state", state, inputs, self.options))
        h, after, cache = run_form(self.form, inputs, before, self.options, self.chunk_size)
        h = _from_heads(h).reshape(gate.o.shape)
        y = (gate.o * h).reshape(T, B, self.hidden_size)  # [mlstm.21]
        return y, own(after), SequenceCache(signature(self), self._source(flat), gate, h, cache)

    def _backward(
        self, dy: Array, cache: SequenceCache, dstate: Sequence[Array | None] | None
    ) -> tuple[Array, mLSTMState, Grads]:
        """Time-major backward: dy (T, B, H) to dx (T, B, D)."""
        T, B, _ = dy.shape
        dh, do_pre = cache.gate.backward(dy.reshape(cache.h.shape), cache.h)
        dh_heads = _to_heads(dh.reshape(T * B, self.num_heads, self.head_dims[1]), T, B)
        dlast = check_state("dstate", dstate, cache.memory.inputs, self.options)
        *dinputs, dstate0 = run_form_backward(dh_heads, cache.memory, dlast)
        q, k, v, i, f = map(_from_heads, dinputs)
        d = Projections(q, k, v, i, f, do_pre)
        dx, grads = self._project_backward(d, cache.source)
        return dx.reshape(T, B, self.input_size), dstate0, grads

    def _shape_of(self, cache: SequenceCache) -> tuple[int, int]:
        B, _, T, _, _ = cache.memory.inputs.sizes
        return T, B


def _one_step(q: Array, k: Array, v: Array, i: Array, f: Array) -> Inputs:
    """The inputs of one step as those of a sequence of length 1."""
    return Inputs(*(array[:, :, None] for array in (q, k, v, i, f)))


def _to_heads(rows: Array, T: int, B: int) -> Array:
    """(T·B, NH, ...) to (B, NH, T, ...)."""
    split = rows.reshape(T, B, *rows.shape[1:])
    return np.moveaxis(split, 0, 2)


def _from_heads(array: Array) -> Array:
    """(B, NH, T, ...) to (T·B, NH, ...)."""
    time_major = np.moveaxis(array, 2, 0)
    return time_major.reshape(-1, *time_major.shape[2:])
