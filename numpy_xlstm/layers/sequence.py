"""SequenceLayer: a cell over a whole sequence, in either layout, with padding, in blocks."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np

from numpy_xlstm.cells.unroll import UnrollCache, unroll, unroll_backward
from numpy_xlstm.door import check_cache, check_like, check_output_cotangent, checked_cotangent
from numpy_xlstm.errors import CacheError
from numpy_xlstm.kernels.scan import padding
from numpy_xlstm.module import Grads, Module
from numpy_xlstm.numerics import Array, check_array, check_batch, check_has, check_lengths
from numpy_xlstm.trees import tree_map

EVALUATION_BLOCK = 128
"""Steps for which evaluation holds intermediate results at once."""


class SequenceCache(NamedTuple):
    """What the backward of a sequence needs."""

    x: Array  # in the layout of the caller
    kept: Any  # what the kernel has kept, or :func:`unroll`
    stacked: bool = False  # whether the states have PyTorch's leading axis of layers
    made_by: str | None = None  # the sizes, dtype and layout of the layer


class SequenceLayer(Module):
    """A cell over a whole sequence: any cell, step by step; LSTM and its kin by a kernel.

    Parameters
    ----------
    cell : Module
        Has ``input_size``, ``hidden_size``, ``init_state(B)``, and ``forward(x, state)`` and
        ``backward(dh, cache, dstate)`` of one step, as has :class:`~numpy_xlstm.LSTMCell`.
    batch_first : bool, default True
        Whether x is (B, T, D), or (T, B, D), which is PyTorch's default.

    Notes
    -----
    Parameters are those of the cell, under its names. A state may be a plain tuple. Where all its
    arrays have a leading axis of size 1, as PyTorch has them, so have the states that are returned.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm.cells import LSTMCell
    >>> rng = np.random.default_rng(0)
    >>> layer = SequenceLayer(LSTMCell(3, 4, rng=rng))
    >>> y, state, cache = layer.forward(rng.standard_normal((2, 5, 3)))
    >>> dx, dstate0, grads = layer.backward(rng.standard_normal(y.shape), cache)
    >>> y.shape, dx.shape, sorted(grads)
    ((2, 5, 4), (2, 5, 3), ['R', 'W', 'b'])
    """

    dropout = 0.0
    kept_by_kernel: ClassVar[type] = UnrollCache
    """The type of ``kept`` in a cache."""

    def __init__(self, cell: Any, *, batch_first: bool = True) -> None:
        check_has("cell", cell, "init_state", "forward", "backward")
        self.cell, self.parts, self.batch_first = cell, {"cell": ""}, batch_first
        self.input_size = self.in_features = cell.input_size
        self.hidden_size = self.out_features = cell.hidden_size

    @property
    def tensor_axes(self) -> Mapping[str, str]:
        """What :func:`~numpy_xlstm.gradcheck` calls the entries of the parameters."""
        return getattr(self.cell, "tensor_axes", {})

    def init_state(self, batch_size: int) -> Any:
        """Return the empty state of the cell."""
        return self.cell.init_state(batch_size)

    def forward(
        self, x: Array, state: Sequence[Any] | None = None, *, lengths: Array | None = None
    ) -> tuple[Array, Any, SequenceCache]:
        """Run over a sequence and keep what the backward needs.

        Parameters
        ----------
        x : np.ndarray
            Inputs, shape (B, T, D) with B ≥ 1 and T ≥ 0; (T, B, D) if not ``batch_first``.
        state : tuple of np.ndarray, optional
            State before the first step; the empty state if omitted.
        lengths : np.ndarray, optional
            Number of steps of each batch row, integers (B,) from 0 to T; T if omitted. The steps
            after them are padding: they change no state, have outputs of 0, and get gradients of 0.

        Returns
        -------
        y : np.ndarray
            Outputs h_1 … h_T, shape (B, T, H); (T, B, H) if not ``batch_first``.
        state : NamedTuple
            State after the last step of each row, to be passed to the next call.
        cache : SequenceCache
            What :meth:`backward` needs. It refers to x and the parameters: change neither before.

        Raises
        ------
        ShapeError, DTypeError, NonFiniteError, OptionError, StateError
            If an argument is not as described.
        """
        inputs, state, lengths, stacked = self._enter(x, state, lengths)
        y, state, cache = self.compute(inputs, state, lengths)
        cache = cache._replace(x=x, stacked=stacked, made_by=self._signature())
        return self._in_layout(y), _restacked(state, stacked), cache

    def backward(
        self, dy: Array, cache: SequenceCache, dstate: Sequence[Any] | None = None
    ) -> tuple[Array, Any, Grads]:
        """Vector-Jacobian product of :meth:`forward`.

        Parameters
        ----------
        dy : np.ndarray
            Cotangent of the outputs, in their shape.
        cache : SequenceCache
            From :meth:`forward`. It is not changed, and can be used again.
        dstate : tuple of np.ndarray, optional
            Cotangent of the state after the last step; zero if omitted.

        Returns
        -------
        dx : np.ndarray
            Gradient of the inputs, in their shape.
        dstate0 : NamedTuple
            Gradient of the state before the first step.
        grads : dict[str, np.ndarray]
            Gradients of the parameters, under the names of ``params``.

        Raises
        ------
        CacheError, ShapeError, DTypeError, NonFiniteError
            If the cache is not of such a layer, or a cotangent not like what its forward returned.
        """
        self.check_cache(cache)
        check_output_cotangent(self, dy, cache)
        dy, cache = self._batch_major(dy), cache._replace(x=self._batch_major(cache.x))
        B = len(dy)
        if cache.stacked and _is_stacked(dstate, self.init_state(B)):
            dstate = tree_map(lambda a: a[0], dstate)
        dstate = checked_cotangent(self, dstate, B)
        dx, dstate0, grads = self.compute_backward(dy, cache, dstate)
        return self._in_layout(dx), _restacked(dstate0, cache.stacked), grads

    def __call__(
        self, x: Array, state: Sequence[Any] | None = None, *, lengths: Array | None = None
    ) -> tuple[Array, Any]:
        """Evaluate: :meth:`forward` without a cache, in memory that does not grow with T.

        Takes what it takes, and returns the outputs and the state after the last step.
        """
        x, state, lengths, stacked = self._enter(x, state, lengths)
        B, T, _ = x.shape
        y = np.empty((B, T, self.hidden_size), self.dtype)
        for start in range(0, max(T, 1), EVALUATION_BLOCK):
            now = x[:, start : start + EVALUATION_BLOCK]
            left = None if lengths is None else np.clip(lengths - start, 0, now.shape[1])
            y[:, start : start + EVALUATION_BLOCK], state, _ = self.compute(now, state, left)
        return self._in_layout(y), _restacked(state, stacked)

    def compute(
        self, x: Array, state: Any, lengths: Array | None = None
    ) -> tuple[Array, Any, SequenceCache]:
        """Forward of x (B, T, D), without checks."""
        y, state, steps = unroll(self.cell, x, state, lengths=lengths)
        return y, state, SequenceCache(x, steps)

    def compute_backward(
        self, dy: Array, cache: SequenceCache, dstate: Any
    ) -> tuple[Array, Any, Grads]:
        """Backward of dy (B, T, H), without checks."""
        dx, dstate0, grads = unroll_backward(self.cell, dy, cache.kept, dstate)
        return dx, dstate0, self.named_grads(cell=grads)

    def check_cache(self, cache: Any) -> None:
        """Raise :class:`CacheError` unless a layer of this kind has made the cache."""
        check_cache(cache, SequenceCache)
        check_cache(cache.kept, self.kept_by_kernel)
        if cache.made_by is not None and cache.made_by != (here := self._signature()):
            raise CacheError(
                f"cache: expected that of a {type(self).__name__} with {here}; "
                f"got one of {cache.made_by}"
            )

    def _signature(self) -> str:
        """The sizes, dtype and layout that a cache depends on."""
        shapes = ", ".join(f"{name} {array.shape}" for name, array in self.params.items())
        order = "(batch, time)" if self.batch_first else "(time, batch)"
        return f"{shapes}, {self.dtype}, x as {order}"

    def check_state(self, state: Any) -> None:
        """Raise :class:`StateError` for a state that no sequence leads to."""

    def _enter(self, x: Array, state: Any, lengths: Any) -> tuple[Array, Any, Array | None, bool]:
        """Check the arguments; return them batch-major, and whether states are stacked."""
        order = ("batch", "time") if self.batch_first else ("time", "batch")
        check_array("x", x, (*order, self.input_size), self.dtype)
        check_batch("x", x, axis=order.index("batch"))
        x = self._batch_major(x)
        B, T, _ = x.shape
        hint = f"x is read as ({', '.join(order)}, input), see batch_first"
        like = self.init_state(B)
        if stacked := _is_stacked(state, like):
            state = tree_map(lambda a: a[0], state)
        state = like if state is None else check_like("state", state, like, hint)
        self.check_state(state)
        return x, state, None if lengths is None else check_lengths(lengths, B, T), stacked

    def _batch_major(self, array: Array) -> Array:
        """View of an array in the caller's layout as (B, T, ·)."""
        return array if self.batch_first else array.swapaxes(0, 1)

    def _in_layout(self, array: Array) -> Array:
        """(B, T, ·) in the caller's layout."""
        return array if self.batch_first else np.ascontiguousarray(array.swapaxes(0, 1))


def _is_stacked(state: Any, like: Any) -> bool:
    """Whether every array has PyTorch's leading axis of size num_layers = 1."""
    if not isinstance(state, tuple | list) or len(state) != len(like):
        return False
    pairs = [(got, want) for got, want in zip(state, like, strict=True) if want is not None]
    arrays = all(isinstance(array, np.ndarray) for pair in pairs for array in pair)
    return arrays and all(got.ndim == want.ndim + 1 and len(got) == 1 for got, want in pairs)


def _restacked(state: Any, stacked: bool) -> Any:
    """Give the arrays that axis back."""
    return tree_map(lambda a: a[None], state) if stacked else state


class GatedLayer(SequenceLayer):
    """A cell of W x + R h₋ + b: one product for all steps, and then a kernel."""

    kernel: ClassVar[Any]
    """The module of the kernel: ``forward`` and ``backward``."""

    options: Mapping[str, str] = MappingProxyType({})
    """What else its forward is to know."""

    def compute(
        self, x: Array, state: Any, lengths: Array | None = None
    ) -> tuple[Array, Any, SequenceCache]:
        """Forward of x (B, T, D), without checks."""
        B, T, D = x.shape
        W, R, b = (self.params[name] for name in "WRb")
        ends = np.full(B, T) if lengths is None else lengths
        there = x if lengths is None else np.where(padding(ends, T)[..., None], 0, x)
        Wx, R_heads = there.reshape(-1, D) @ W.T, R.reshape(-1, 4 * R.shape[-1], R.shape[-1])
        Wx += b
        Wx = Wx.reshape(B, T, len(b))
        y, state, kept = self.kernel.forward(Wx, R_heads, state, ends, **self.options)
        return y, state, SequenceCache(x, kept)

    def compute_backward(
        self, dy: Array, cache: SequenceCache, dstate: Any
    ) -> tuple[Array, Any, Grads]:
        """Backward of dy (B, T, H), without checks."""
        dWx, dR, dstate0 = self.kernel.backward(dy, cache.kept, dstate)
        x, W, R = cache.x, self.params["W"], self.params["R"]
        rows = dWx.reshape(-1, len(W))
        dx = (rows @ W).reshape(x.shape)  # [rec.3]
        dW = rows.T @ x.reshape(-1, x.shape[-1])  # [rec.4]
        db = rows.sum(axis=0)  # [rec.6]
        return dx, dstate0, {"W": dW, "R": dR.reshape(R.shape), "b": db}
