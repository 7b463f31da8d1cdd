"""Soft cap, as a pair of forward and backward. Derived in ``docs/derivations/blocks.md``."""

from functools import partial
from inspect import unwrap
from typing import NamedTuple

import numpy as np

from numpy_xlstm.errors import OptionError
from numpy_xlstm.numerics import Array, is_number, tanh_slope
from numpy_xlstm.validation import checked_backward, checked_forward


class SoftCapCache(NamedTuple):
    """Residuals of :func:`soft_cap`: x and a."""

    x: Array
    cap: float | None


def soft_cap(x: Array, cap: float | None) -> tuple[Array, SoftCapCache]:
    r"""Squash x into (−a, a). xLSTM Large caps the gates' pre-activations and the logits.

    .. math:: y = a \tanh(x / a)

    Parameters
    ----------
    x : np.ndarray
        Any shape.
    cap : float or None
        a, above 0; ``None`` gives y = x.

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
    check_cap("cap", cap)
    return checked_forward(lambda x: apply_cap(x, cap))(x)


@partial(checked_backward, SoftCapCache)
def soft_cap_backward(dy: Array, cache: SoftCapCache) -> Array:
    """Return the gradient of x: δx = tanh′(x / a) ∘ δy.

    Parameters
    ----------
    dy : np.ndarray
        Cotangent of y, in its shape.
    cache
        The cache that :func:`soft_cap` returned.

    Returns
    -------
    dx : np.ndarray
        Gradient of x, in its shape.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import soft_cap, soft_cap_backward
    >>> y, cache = soft_cap(np.array([0.0, 15.0]), 15.0)
    >>> soft_cap_backward(np.ones(2), cache).round(3)
    array([1.  , 0.42])
    """
    x, cap = cache
    return dy if cap is None else dy * tanh_slope(x / cap)  # [cap.2]


apply_cap_backward = unwrap(soft_cap_backward)
"""Compute the backward without checks."""


def apply_cap(x: Array, cap: float | None) -> tuple[Array, SoftCapCache]:
    """Compute the forward without checks."""
    y = x if cap is None else cap * np.tanh(x / cap)  # [cap.1]
    return y, SoftCapCache(x, cap)


def check_cap(name: str, cap: float | None) -> None:
    """Raise :class:`OptionError` unless ``cap`` is None or positive, in the range of float32."""
    if cap is not None and not (is_number(cap) and 0 < cap < np.inf):
        raise OptionError(f"{name}: expected a number above 0, or None; got {cap!r}")
    limits = np.finfo(np.float32)
    if cap is not None and not limits.tiny.item() <= float(cap) <= limits.max.item():
        raise OptionError(f"{name}: expected a number in the range of float32; got {cap!r}")
