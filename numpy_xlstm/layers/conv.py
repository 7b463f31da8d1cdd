"""Causal depthwise convolution over time, with a state.

Derived in ``docs/derivations/blocks.md``.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from numpy_xlstm.kernels.maps import correlate, correlate_backward
from numpy_xlstm.layers.base import Recurrent, RunOptions, Step
from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import Array, checked_batch_size, checked_positive
from numpy_xlstm.numerics.initial import drawn_uniformly


class CausalConv1d(Recurrent[Array]):
    r"""Causal convolution of each feature over the present step and the K − 1 previous steps.

    .. math:: y_t = \sum_{j=0}^{K-1} w_j ∘ x_{t-K+1+j} + b

    Parameters
    ----------
    feature_dim : int
        Width D.
    kernel_size : int
        Number K of steps that an output depends on.
    dtype, rng
        As in :class:`~numpy_xlstm.LSTM`.

    Attributes
    ----------
    params : dict[str, np.ndarray]
        ``conv.weight`` is w, shape (D, 1, K); its last entry is for the present step. ``conv.bias``
        is b, shape (D,). The ``torch.nn.Conv1d`` in the official package has the same names, shapes
        and initialisation, uniform in ±1/√K.

    Examples
    --------
    >>> import numpy as np
    >>> layer = CausalConv1d(1, kernel_size=2)
    >>> layer.params["conv.weight"][...] = 1.0, 10.0
    >>> layer.params["conv.bias"][...] = 0.0
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
        *,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        self.in_features = self.out_features = D = checked_positive("feature_dim", feature_dim)
        self.kernel_size = K = checked_positive("kernel_size", kernel_size)
        shapes = {"conv.weight": (D, 1, K), "conv.bias": (D,)}
        self.params = drawn_uniformly(shapes, K**-0.5, dtype, rng)

    def init_state(self, batch_size: int) -> Array:
        """Return the empty state: K − 1 inputs of 0."""
        B = checked_batch_size(batch_size)
        return np.zeros((B, self.kernel_size - 1, self.in_features), self.dtype)

    @property
    def taps(self) -> Array:
        """Weight as (K, D), copied into this memory order because sums read it row by row."""
        return self.params["conv.weight"][:, 0].T.copy()

    def compute(self, x: Array, state: Array, options: RunOptions) -> tuple[Array, Array, Any]:
        """Compute the forward without checks; ``padded`` is the state followed by x."""
        padded = np.concatenate((state, x), axis=1)
        y = correlate(padded, self.taps)
        y += self.params["conv.bias"]  # [conv.1]
        last: Any = slice(None), slice(x.shape[1], None)  # the last K − 1 inputs of each row
        if (lengths := options.lengths) is not None:
            last = np.arange(len(x))[:, None], lengths[:, None] + np.arange(self.kernel_size - 1)
        return y, padded[last].copy(), (padded, last)  # [conv.2]

    def decode_step(self) -> Step:
        taps, bias = self.taps, self.params["conv.bias"].copy()

        def step(x: Array, state: Array) -> tuple[Array, Array]:
            seen = np.concatenate((state, x[:, None]), axis=1)
            return (seen * taps).sum(axis=1) + bias, seen[:, 1:]

        return step

    def compute_backward(self, dy: Array, cache: Any, dstate: Array) -> tuple[Array, Array, Grads]:
        (padded, last), past = cache, self.kernel_size - 1
        dpadded, dtaps = correlate_backward(dy, padded, self.taps)  # [conv.3] [conv.4]
        dpadded[last] += dstate
        dbias = dy.sum(axis=(0, 1))  # [conv.5]
        grads = {"conv.weight": dtaps.T.copy()[:, None], "conv.bias": dbias}
        return dpadded[:, past:], dpadded[:, :past], grads
