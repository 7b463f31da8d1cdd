"""Causal depthwise convolution over time, with a state. Derived in ``derivations/blocks.md``."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.layers.layer import Grads
from numpy_xlstm.numerics import (
    Array,
    check_array,
    check_batch,
    check_positive,
    checked_dtype,
    generator_or_new,
)
from numpy_xlstm.parameters import Parameterised
from numpy_xlstm.signatures import Signed, opened


class CausalConv1dCache(NamedTuple):
    """What the backward of :class:`CausalConv1d` needs."""

    padded: Array
    """The state and then the inputs, shape (B, K − 1 + T, D)."""
    taps: Array
    """The weight that the forward used, shape (K, D)."""


class CausalConv1d(Parameterised):
    r"""Convolve each feature with its own kernel over this and the K − 1 previous steps.

    .. math:: y_t = \sum_{j=0}^{K-1} w_j ∘ x_{t-K+1+j} + b

    Parameters
    ----------
    feature_dim : int
        Width D.
    kernel_size : int
        Number K of steps that an output depends on.
    bias : bool
        Whether there is a bias b.
    dtype : dtype
        The dtype of the parameters, which the inputs must share.
    rng : np.random.Generator, optional
        Draws the parameters; a fresh, unseeded one if omitted.

    Attributes
    ----------
    params : dict[str, np.ndarray]
        ``conv.weight`` is w, shape (D, 1, K), the last entry for the present; ``conv.bias`` is b,
        shape (D,). Names and shapes are those of the ``torch.nn.Conv1d`` in the official package;
        both are drawn uniformly from ±1/√K, as there.

    Examples
    --------
    >>> import numpy as np
    >>> layer = CausalConv1d(1, kernel_size=2, bias=False)
    >>> layer.params["conv.weight"][...] = 1.0, 10.0
    >>> x = np.array([[[1.0], [2.0], [3.0]]])
    >>> y, state, cache = layer.forward(x)
    >>> y[0, :, 0]
    array([10., 21., 32.])
    >>> layer.forward(x[:, :1], state)[0][0, :, 0]
    array([13.])
    """

    def __init__(
        self,
        feature_dim: int,
        kernel_size: int = 4,
        bias: bool = True,
        *,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.feature_dim = check_positive("feature_dim", feature_dim)
        self.kernel_size = check_positive("kernel_size", kernel_size)
        to, rng = checked_dtype(dtype), generator_or_new(rng)
        bound = kernel_size**-0.5
        shape = (feature_dim, 1, kernel_size)
        self.params = {"conv.weight": rng.uniform(-bound, bound, shape).astype(to)}
        if bias:
            self.params["conv.bias"] = rng.uniform(-bound, bound, feature_dim).astype(to)

    def init_state(self, batch_size: int) -> Array:
        """Return the empty state: K − 1 inputs of 0."""
        B = check_positive("batch_size", batch_size)
        return np.zeros((B, self.kernel_size - 1, self.feature_dim), self.dtype)

    def __call__(self, x: Array, state: Array | None = None) -> tuple[Array, Array]:
        """Evaluate: the output and the state after it."""
        return self.forward(x, state)[:2]

    def forward(
        self, x: Array, state: Array | None = None
    ) -> tuple[Array, Array, Signed[CausalConv1dCache]]:
        """Convolve.

        Parameters
        ----------
        x : np.ndarray
            Inputs, shape (B, T, D), T ≥ 0.
        state : np.ndarray, optional
            The K − 1 inputs before them, shape (B, K − 1, D); 0 if omitted.

        Returns
        -------
        y : np.ndarray
            Outputs, shape (B, T, D).
        state : np.ndarray
            The last K − 1 inputs.
        cache
            What :meth:`backward` needs.

        Raises
        ------
        ShapeError, DTypeError, NonFiniteError
            If an argument is not as described.
        """
        check_array("x", x, ("batch", "time", self.feature_dim), self.dtype)
        check_batch("x", x)
        if state is not None:
            check_array("state", state, self.init_state(len(x)).shape, self.dtype)
        y, after, cache = self.apply(x, state)
        return y, after, Signed.by(self, y, cache)

    def backward(
        self, dy: Array, cache: Signed[CausalConv1dCache], dstate: Array | None = None
    ) -> tuple[Array, Array, Grads]:
        """Gradients of x, of the state before and of the parameters.

        ``dy`` is (B, T, D); ``dstate``, zero if omitted, is the cotangent of the state after.

        Raises
        ------
        ShapeError, DTypeError, NonFiniteError
            If a cotangent is not like what that forward returned, or not finite.
        CacheError
            If ``cache`` is not from a layer of this kind, with these sizes and options.
        """
        inner = opened(cache, self, dy)
        if dstate is not None:
            check_array("dstate", dstate, self.init_state(len(dy)).shape, self.dtype)
        return self.apply_backward(dy, inner, dstate)

    def apply(self, x: Array, state: Array | None) -> tuple[Array, Array, CausalConv1dCache]:
        """Forward, without checks."""
        past = self.init_state(len(x)) if state is None else state
        padded = np.ascontiguousarray(np.concatenate((past, x), axis=1))
        taps = self.params["conv.weight"][:, 0].T.copy()
        y = _correlate(padded, taps)  # [conv.1]
        if "conv.bias" in self.params:
            y += self.params["conv.bias"]
        return y, padded[:, x.shape[1] :].copy(), CausalConv1dCache(padded, taps)  # [conv.2]

    def apply_backward(
        self, dy: Array, cache: CausalConv1dCache, dstate: Array | None
    ) -> tuple[Array, Array, Grads]:
        """Backward, without checks."""
        padded, taps = cache
        (B, T, D), past = dy.shape, len(taps) - 1
        between = np.zeros((B, T + 2 * past, D), dy.dtype)
        between[:, past : past + T] = dy
        dpadded = _correlate(between, taps[::-1].copy())  # [conv.3]
        if dstate is not None:
            dpadded[:, T:] += dstate
        dtaps = np.einsum("btd,btkd->kd", dy, _windows(padded, len(taps)))  # [conv.4]
        grads = {"conv.weight": dtaps.T[:, None].copy()}
        if "conv.bias" in self.params:
            grads["conv.bias"] = dy.sum(axis=(0, 1))  # [conv.5]
        return dpadded[:, past:], dpadded[:, :past], grads


def _correlate(padded: Array, taps: Array) -> Array:
    """Σ_j taps[j] · padded[:, t + j], for every t that has all of them."""
    if padded.shape[1] == len(taps):  # one step, which np.einsum would take longer for
        return np.add.reduce(padded * taps, axis=1, keepdims=True)
    y: Array = np.einsum("btkd,kd->btd", _windows(padded, len(taps)), taps)
    return y


def _windows(padded: Array, K: int) -> Array:
    """View of a contiguous (B, K − 1 + T, D) as (B, T, K, D): each step and what follows it."""
    B, steps, D = padded.shape
    row, step, feature = padded.strides
    shape, strides = (B, steps - K + 1, K, D), (row, step, step, feature)
    return np.ndarray(shape, padded.dtype, padded, strides=strides)
