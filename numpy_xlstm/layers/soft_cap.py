"""Soft cap, as a pair of forward and backward. Derived in ``docs/derivations/blocks.md``."""

from inspect import unwrap
from typing import Any

import numpy as np

from numpy_xlstm.errors import OptionError
from numpy_xlstm.numerics import Array, check_above_zero, is_number, tanh_slope
from numpy_xlstm.validation import checked_backward, checked_forward

Residuals = tuple[Array, float]
"""x and a."""


@checked_forward
def soft_cap(x: Array, cap: float) -> tuple[Array, Residuals]:
    r"""Squash x into (−a, a). xLSTM Large caps the gates' pre-activations and the logits.

    .. math:: y = a \tanh(x / a)

    Parameters
    ----------
    x : np.ndarray
        Any shape.
    cap : float
        a, above 0.

    Returns
    -------
    y : np.ndarray
        Result, in the shape of x.
    cache
        Residuals for :func:`soft_cap_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = soft_cap(np.array([0.0, 15.0, 1e9]), 15.0)
    >>> y.round(3)
    array([ 0.   , 11.424, 15.   ])
    >>> soft_cap_backward(np.ones(3), cache).round(3)
    array([1.  , 0.42, 0.  ])
    """
    check_cap("cap", check_above_zero("cap", cap))
    return apply_cap(x, cap)


@checked_backward
def soft_cap_backward(dy: Array, cache: Residuals) -> Array:
    """Return the gradient of x: δx = tanh′(x / a) ∘ δy.

    Parameters
    ----------
    dy, cache
        As in :func:`~numpy_xlstm.silu_backward`, with the cache of :func:`soft_cap`.

    Returns
    -------
    dx
        As from :func:`~numpy_xlstm.silu_backward`.
    """
    x, cap = cache
    return dy * tanh_slope(x / cap)  # [cap.2]


apply_cap_backward = unwrap(soft_cap_backward)
"""Compute the backward without checks."""


def apply_cap(x: Array, cap: float) -> tuple[Array, Residuals]:
    """Compute the forward without checks."""
    y = cap * np.tanh(x / cap)  # [cap.1]
    return y, (x, cap)


def check_cap(name: str, cap: Any) -> None:
    """Raise :class:`OptionError` unless ``cap`` is None or positive, in the range of float32."""
    if cap is not None and not (is_number(cap) and 0 < cap < np.inf):
        raise OptionError(f"{name}: expected a number above 0, or None; got {cap!r}")
    limits = np.finfo(np.float32)
    if cap is not None and not limits.tiny.item() <= float(cap) <= limits.max.item():
        raise OptionError(f"{name}: expected a number in the range of float32; got {cap!r}")
