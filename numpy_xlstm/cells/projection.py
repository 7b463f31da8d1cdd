"""What the inputs of LSTM and sLSTM add to the gates, W x + b, for many steps in one product.

Arrays are as in :mod:`numpy_xlstm.cells.scan`: batch last, gates first.
"""

from typing import NamedTuple

import numpy as np

from numpy_xlstm.numerics import Array


class InputWeights(NamedTuple):
    """The parameters of the projection, or their gradients."""

    W: Array
    """(4·NH·DH, D), gate by gate."""
    b: Array
    """(4·NH·DH,), gate by gate."""


def project(x: Array, weights: InputWeights) -> Array:
    """W x + b for rows x (…, D), as (4·NH·DH, rows)."""
    product: Array = np.matmul(weights.W, x.reshape(-1, x.shape[-1]).T)
    product += weights.b[:, None]
    return product


def project_backward(dg: Array, weights: InputWeights) -> Array:
    """Gradient of x: Wᵀ δg, with δg (4, NH, DH, …, B)  [rec.3]."""
    rows, D = weights.W.shape
    dx: Array = dg.reshape(rows, -1).T @ weights.W
    return dx.reshape(*dg.shape[3:], D)


def input_gradients(dg: Array, x: Array) -> InputWeights:
    """Gradients of W and b: sums over the rows of x (…, B, D), with δg (4, NH, DH, …, B)."""
    rows = dg.reshape(np.prod(dg.shape[:3], dtype=int), -1)
    return InputWeights(rows @ x.reshape(-1, x.shape[-1]), rows.sum(axis=1))  # [rec.4]  [rec.6]
