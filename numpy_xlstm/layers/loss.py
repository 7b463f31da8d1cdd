"""Softmax cross-entropy: forward and backward. Derived in ``docs/derivations/layers.md``."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.errors import DTypeError, OptionError, ShapeError
from numpy_xlstm.layers.embedding import IndexArray, check_indices
from numpy_xlstm.numerics import (
    Array,
    check_array,
    check_form,
    is_whole,
    own_error_state,
    plain_array,
)
from numpy_xlstm.validation import check_cache

BoolArray = npt.NDArray[np.bool_]
"""An array of booleans."""


class SoftmaxCrossEntropyCache(NamedTuple):
    """Residuals of :func:`softmax_cross_entropy`."""

    p: Array  # probabilities, (..., V)
    targets: IndexArray  # classes, (...); 0 where the position does not count
    counted: BoolArray  # which positions count, (...)


@own_error_state
def softmax_cross_entropy(
    logits: Array,
    targets: IndexArray,
    *,
    ignore_index: int | None = None,
    mask: BoolArray | None = None,
) -> tuple[Array, SoftmaxCrossEntropyCache]:
    r"""Return the mean negative log-likelihood of the targets, in nats.

    .. math:: L = \frac{1}{N} \sum_n \Big( \log \sum_j e^{x_{nj}} - x_{n t_n} \Big)

    Parameters
    ----------
    logits : np.ndarray
        x, shape (..., V).
    targets : np.ndarray
        t, integers of shape (...), from 0 to V − 1.
    ignore_index : int, optional
        Positions with this target do not count, neither in the sum nor in N.
    mask : np.ndarray, optional
        Booleans of shape (...). Where it is False, the position does not count, whatever its
        target.

    Returns
    -------
    loss : np.ndarray
        L, shape (), in the dtype of ``logits``.
    cache
        Residuals for :func:`softmax_cross_entropy_backward`.

    Raises
    ------
    ShapeError
        If no position counts, so that there is no mean.

    Notes
    -----
    The relative error of the loss is of the order of the rounding unit, even for a loss that is
    itself far below the rounding unit. With M the largest real part of a row, log Σ e^(x − M) is
    computed as log1p of the sum of all exponentials except the largest, which is 1.

    Examples
    --------
    >>> import numpy as np
    >>> loss, cache = softmax_cross_entropy(np.log([[0.5, 0.25, 0.25]]), np.array([1]))
    >>> round(float(loss), 6)  # log 4
    1.386294
    >>> softmax_cross_entropy_backward(1.0, cache).round(6)
    array([[ 0.5 , -0.75,  0.25]])
    """
    check_array("logits", logits, (..., "V"))
    if ignore_index is not None and not is_whole(ignore_index):
        raise OptionError(f"ignore_index: expected a whole number, or None; got {ignore_index!r}")
    leading, V = logits.shape[:-1], logits.shape[-1]
    counted = np.ones(leading, bool)
    if mask is not None:
        check_form("mask", mask, leading, "booleans")
        counted = mask.copy()
    if mask is not None and isinstance(targets, np.ndarray) and targets.shape == mask.shape:
        targets = np.where(mask, targets, targets.dtype.type(0))
    check_indices("targets", targets, V, shape=leading, except_for=ignore_index)
    if ignore_index is not None:
        counted = counted & (targets != ignore_index)
    if not counted.any():
        raise ShapeError(
            f"targets: expected at least one position that counts; got 0 of {targets.size}"
        )
    targets = np.where(counted, targets, 0).astype(np.intp)
    shifted = logits - logits.real.max(axis=-1, keepdims=True)  # [loss.1]
    p, log_z = _softmax(shifted)
    losses = log_z - np.take_along_axis(shifted, targets[..., None], axis=-1)  # [loss.3]
    loss = losses[counted].sum() / int(np.count_nonzero(counted))  # [loss.4]
    return np.asarray(loss, logits.dtype), SoftmaxCrossEntropyCache(p, targets, counted)


def _softmax(shifted: Array) -> tuple[Array, Array]:
    """Return probabilities (..., V) and log Σ e^x (..., 1) of logits with largest real part 0."""
    top = shifted.real.argmax(axis=-1)[..., None]
    e = np.exp(shifted)
    e_top = np.take_along_axis(e, top, axis=-1)
    np.put_along_axis(e, top, e_top - 1, axis=-1)
    rest = e.sum(axis=-1, keepdims=True)
    np.put_along_axis(e, top, e_top, axis=-1)
    e /= 1 + rest
    return e, np.log1p(rest)  # [loss.2]


@own_error_state
def softmax_cross_entropy_backward(
    dloss: float | complex | Array, cache: SoftmaxCrossEntropyCache
) -> Array:
    r"""Return the gradient of the logits from the cotangent of the loss.

    .. math:: \delta x_{nj} = \frac{\delta L}{N} \big( p_{nj} - [j = t_n] \big)

    Parameters
    ----------
    dloss : float or np.ndarray
        δL, a number or an array of shape ().
    cache
        The cache that :func:`softmax_cross_entropy` returned.

    Returns
    -------
    dlogits : np.ndarray
        δx, shape (..., V); 0 where a position does not count.
    """
    check_cache(cache, SoftmaxCrossEntropyCache)
    p, targets, counted = cache
    scale = _cotangent(dloss, p.dtype)
    dlogits: Array = p * (counted * (scale / int(np.count_nonzero(counted))))[..., None]
    target = targets[..., None]
    np.put_along_axis(dlogits, target, 0, axis=-1)
    others = dlogits.sum(axis=-1, keepdims=True)
    np.put_along_axis(dlogits, target, -others, axis=-1)  # [loss.5]
    return dlogits


def _cotangent(dloss: Any, dtype: np.dtype[Any]) -> Array:
    """Return dloss as an array of shape (), or raise an error if it is not one number."""
    scale = plain_array("dloss", dloss)
    if scale.dtype.kind == "b" or not np.can_cast(scale.dtype, dtype, "same_kind"):
        raise DTypeError(f"dloss: expected a {dtype.name} number; got {dloss!r}")
    with np.errstate(over="ignore"):
        scale = scale.astype(dtype)
    check_array("dloss", scale, ())
    return scale
