"""Layer norm and RMS norm, over the whole width or per head.

Derived in ``docs/derivations/blocks.md``, whose tags are cited here.
"""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from numpy_xlstm.kernels.maps import normalise, normalise_backward
from numpy_xlstm.layers.base import Layer, Map
from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import Array, checked_bool, checked_dtype, checked_eps, checked_positive
from numpy_xlstm.numerics.memory import check_fits


class Norm(Layer):
    """A norm of each head of the last axis, followed by scale and shift of each feature."""

    centred: ClassVar[bool]

    def __init__(
        self,
        num_heads: int,
        head_dim: int,
        eps: float,
        *,
        weight: bool = True,
        bias: bool = False,
        residual_weight: bool = False,
        dtype: npt.DTypeLike = np.float64,
    ) -> None:
        self.num_heads = checked_positive("num_heads", num_heads)
        self.head_dim = checked_positive("head_dim", head_dim)
        self.eps = checked_eps(eps)
        self.residual_weight = checked_bool("residual_weight", residual_weight)
        self.in_features = self.out_features = D = num_heads * head_dim
        to, params = checked_dtype(dtype), {}
        check_fits([(D,)], to)
        if checked_bool("weight", weight):
            params["weight"] = np.full(D, 0 if residual_weight else 1, to)
        if checked_bool("bias", bias):
            params["bias"] = np.zeros(D, to)
        self.params = params

    @property
    def gain(self) -> Array | None:
        """Factor of x̂, shape (D,); None without a weight."""
        gain: Array | None = self.params.get("weight")
        if gain is not None and self.residual_weight:
            gain = gain + 1
        return gain

    def compute(self, x: Array) -> tuple[Array, Any]:
        """Compute the forward without checks; the residuals are x̂ and r, (rows · heads, 1)."""
        normed, scale = normalise(x.reshape(-1, self.head_dim), self.eps, self.centred)
        normed, gain = normed.reshape(x.shape), self.gain
        y = normed if gain is None else normed * gain  # [norm.4]
        if "bias" in self.params:
            y = y + self.params["bias"]
        return y, (normed, scale)

    def decode_step(self) -> Map:
        gain: Any = 1.0 if self.gain is None else self.gain.copy()
        bias = self.params["bias"].copy() if "bias" in self.params else None
        width, eps, centred = self.head_dim, self.eps, self.centred

        def step(x: Array) -> Array:
            y: Array = normalise(x.reshape(-1, width), eps, centred)[0].reshape(x.shape) * gain
            return y if bias is None else y + bias

        return step

    def compute_backward(self, dy: Array, cache: Any) -> tuple[Array, Grads]:
        (normed, scale), gain, D = cache, self.gain, self.in_features
        grads, dnormed = {}, dy if gain is None else dy * gain
        if gain is not None:
            rows = normed.reshape(-1, D), dy.reshape(-1, D)
            grads["weight"] = np.einsum("nd,nd->d", *rows)  # [norm.5]
        if "bias" in self.params:
            grads["bias"] = dy.reshape(-1, D).sum(axis=0)
        by_head = (-1, self.head_dim)
        dx = normalise_backward(
            dnormed.reshape(by_head), normed.reshape(by_head), scale, self.centred
        )
        return dx.reshape(dy.shape), grads


class MultiHeadLayerNorm(Norm):
    """:class:`LayerNorm` applied to each head separately: a group norm.

    Parameters
    ----------
    num_heads, head_dim : int
        Number NH and width DH of the heads: x is (..., NH·DH), head after head, and ``weight`` and
        ``bias`` are (NH·DH,).
    eps : float
        ε.
    **options
        As in :class:`LayerNorm`.

    Examples
    --------
    >>> import numpy as np
    >>> MultiHeadLayerNorm(2, 2, eps=0.0)(np.array([1.0, 3.0, 0.0, 20.0]))
    array([-1.,  1., -1.,  1.])
    """

    centred = True

    def __init__(self, num_heads: int, head_dim: int, eps: float = 1e-5, **options: Any) -> None:
        super().__init__(num_heads, head_dim, eps, **{"residual_weight": True, **options})


class LayerNorm(MultiHeadLayerNorm):
    r"""Layer norm over the last axis, with a weight that is stored as its difference from 1.

    .. math:: \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + ε}}, \qquad y = \hat x ∘ (1 + w) + b

    Parameters
    ----------
    num_features : int
        Width D.
    eps : float
        ε; 1e-5 in the official package.
    **options
        ``weight`` and ``bias``: whether there are w and b; by default only w. ``residual_weight``:
        whether the factor is 1 + w rather than w. ``dtype`` of the parameters, which the inputs
        must share.

    Attributes
    ----------
    params : dict[str, np.ndarray]
        ``weight`` is w, shape (D,); the initial factor is 1. ``bias`` is b, initially 0.

    Notes
    -----
    The sum of squares, :math:`D σ^2`, must not exceed the range of the dtype, 3.4e38 in float32.
    Otherwise :math:`\hat x` is 0. The same applies to :class:`RMSNorm`.

    Examples
    --------
    >>> import numpy as np
    >>> layer = LayerNorm(4, eps=0.0)
    >>> y, cache = layer.forward(np.array([[1.0, 3.0, 1.0, 3.0]]))
    >>> y
    array([[-1.,  1., -1.,  1.]])
    >>> dx, grads = layer.backward(np.array([[1.0, 0.0, 0.0, 0.0]]), cache)
    >>> dx
    array([[ 0.5,  0. , -0.5,  0. ]])
    """

    def __init__(self, num_features: int, eps: float = 1e-5, **options: Any) -> None:
        super().__init__(1, checked_positive("num_features", num_features), eps, **options)


class MultiHeadRMSNorm(Norm):
    """:class:`RMSNorm` applied to each head separately.

    Parameters
    ----------
    num_heads, head_dim : int
        Number NH and width DH of the heads, as in :class:`MultiHeadLayerNorm`.
    eps : float
        ε.
    **options
        As in :class:`RMSNorm`.

    Examples
    --------
    >>> import numpy as np
    >>> MultiHeadRMSNorm(2, 1, eps=0.0)(np.array([5.0, -0.1]))
    array([ 1., -1.])
    """

    centred = False

    def __init__(self, num_heads: int, head_dim: int, eps: float = 1e-6, **options: Any) -> None:
        super().__init__(num_heads, head_dim, eps, **options)


class RMSNorm(MultiHeadRMSNorm):
    r"""RMS norm over the last axis.

    .. math:: \hat x = \frac{x}{\sqrt{\overline{x^2} + ε}}, \qquad y = \hat x ∘ w + b

    Parameters
    ----------
    num_features : int
        Width D.
    eps : float
        ε; 1e-6 in xLSTM Large.
    **options
        As in :class:`LayerNorm`, but w is the factor itself, initially 1.

    Examples
    --------
    >>> import numpy as np
    >>> RMSNorm(2, eps=0.0)(np.array([[3.0, 3.0]]))
    array([[1., 1.]])
    """

    def __init__(self, num_features: int, eps: float = 1e-6, **options: Any) -> None:
        super().__init__(1, checked_positive("num_features", num_features), eps, **options)
