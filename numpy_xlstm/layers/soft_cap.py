"""Soft cap, a pure pair. Derived in ``docs/derivations/blocks.md``."""

import numpy as np

from numpy_xlstm.errors import OptionError
from numpy_xlstm.numerics import Array, is_number, tanh_slope


def soft_cap(x: Array, cap: float | None) -> tuple[Array, Array | None]:
    r"""Squash x into (−a, a), leaving small numbers as they are.

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
        Capped, the shape of ``x``.
    cache : np.ndarray or None
        For :func:`soft_cap_backward`: x / a.

    Raises
    ------
    OptionError
        If ``cap`` is not a positive number.

    Notes
    -----
    xLSTM Large caps the pre-activations of its gates at 15 and the logits at 30.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = soft_cap(np.array([0.0, 15.0, 1e9]), 15.0)
    >>> y.round(3)
    array([ 0.   , 11.424, 15.   ])
    >>> soft_cap_backward(np.ones(3), cache).round(3)
    array([1.  , 0.42, 0.  ])
    """
    if cap is None:
        return x, None
    check_cap("cap", cap)
    scaled = x / x.dtype.type(cap)
    y = np.tanh(scaled)
    y *= x.dtype.type(cap)  # [cap.1]
    return y, scaled


def soft_cap_backward(dy: Array, cache: Array | None) -> Array:
    """Gradient of x from that of y: δx = tanh′(x / a) ∘ δy."""
    return dy if cache is None else dy * tanh_slope(cache)  # [cap.2]


def check_cap(name: str, cap: float | None) -> None:
    """Raise :class:`OptionError` unless ``cap`` is None or a positive number."""
    if cap is not None and not (is_number(cap) and 0 < cap < np.inf):
        raise OptionError(f"{name}: expected a number above 0, or None; got {cap!r}")
