"""Mean squared error: forward and backward. Derived in ``docs/derivations/layers.md``."""

import numpy as np

from numpy_xlstm.layers.loss import BoolArray
from numpy_xlstm.numerics import Array


def squared_error(
    y: Array, targets: Array, *, mask: BoolArray | None = None
) -> tuple[Array, tuple[Array, int]]:
    r"""Return the mean squared error of the outputs, and residuals for its backward.

    .. math:: L = \frac{1}{N} \sum_n (y_n - t_n)^2

    Parameters
    ----------
    y : np.ndarray
        Outputs, shape (..., 1).
    targets : np.ndarray
        t, floats of shape (...).
    mask : np.ndarray, optional
        Booleans of shape (...): whether a position counts, in the sum and in N.

    Examples
    --------
    >>> loss, cache = squared_error(np.array([[1.0], [3.0]]), np.array([0.0, 1.0]))
    >>> float(loss), squared_error_backward(1.0, cache).tolist()
    (2.5, [[1.0], [2.0]])
    """
    errors = y[..., 0] - targets.astype(y.dtype)
    counted = np.ones(targets.shape, bool) if mask is None else mask
    errors = np.where(counted, errors, errors.dtype.type(0))
    number = int(np.count_nonzero(counted))
    return np.square(errors).sum() / number, (errors, number)  # [mse.1]


def squared_error_backward(dloss: float, cache: tuple[Array, int]) -> Array:
    r"""Return the gradient of the outputs from the cotangent of the loss.

    .. math:: \delta y_n = \frac{2}{N} (y_n - t_n) \, \delta L

    It is 0 where a position does not count.
    """
    errors, number = cache
    dy: Array = errors * errors.dtype.type(2 * dloss / number)  # [mse.2]
    return dy[..., None]
