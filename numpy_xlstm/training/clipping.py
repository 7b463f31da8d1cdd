"""Clipping the norm of all gradients together."""

from collections.abc import Mapping

import numpy as np

from numpy_xlstm.errors import NonFiniteError, OptionError
from numpy_xlstm.numerics import Array, check_above_zero
from numpy_xlstm.training.blocks import check_floats, each_block, sum_of_squares

SAFE = (1e-200, 1e300)
"""Sums of squares within which none has overflowed and none that underflowed counts."""


def global_norm(grads: Mapping[str, Array]) -> float:
    """Euclidean norm of all arrays together, without overflow or underflow on the way.

    Examples
    --------
    >>> import numpy as np
    >>> global_norm({"a": np.array([3e300]), "b": np.array([4e300])})
    5e+300
    """
    squares = _squares(grads)
    if squares == 0 or not SAFE[0] < squares < SAFE[1]:
        return _scaled_norm(grads)
    return float(np.sqrt(squares))


def _squares(grads: Mapping[str, Array]) -> float:
    """Sum of the squares, in float64: those of float32 neither overflow nor underflow there."""
    arrays = {name: (g,) for name, g in grads.items()}
    return float(sum(each_block(lambda _, g: sum_of_squares(g, np.float64), arrays)))


def _scaled_norm(grads: Mapping[str, Array]) -> float:
    peak = max((float(np.abs(g).max(initial=0)) for g in grads.values()), default=0.0)
    if peak == 0 or not np.isfinite(peak):
        return peak
    scaled = {name: g.astype(np.float64) / peak for name, g in grads.items()}
    return peak * float(np.sqrt(_squares(scaled)))  # [clip.1]


def clip_grad_norm(grads: Mapping[str, Array], max_norm: float) -> tuple[dict[str, Array], float]:
    r"""Scale the gradients down so that their common norm is at most ``max_norm``.

    .. math:: g ← g \cdot \min(1, \mathrm{max\_norm} / \lVert g \rVert)

    Parameters
    ----------
    grads : Mapping[str, np.ndarray]
        The gradients, which are not modified.
    max_norm : float
        The largest norm to let through; ``inf`` lets everything through that is finite.

    Returns
    -------
    clipped : dict[str, np.ndarray]
        The scaled gradients; the very same arrays where nothing had to be scaled.
    norm : float
        The norm before.

    Raises
    ------
    NonFiniteError
        If the norm is not finite: a step along such a gradient would destroy the parameters.
    OptionError
        If ``max_norm`` is not a positive number, or ``grads`` are not arrays by name.
    DTypeError
        If a gradient is not an array of floating-point numbers.

    Notes
    -----
    ``torch.nn.utils.clip_grad_norm_`` divides by ‖g‖ + 1e-6 instead of ‖g‖.

    Examples
    --------
    >>> import numpy as np
    >>> clip_grad_norm({"a": np.array([3.0]), "b": np.array([[4.0]])}, max_norm=1.0)
    ({'a': array([0.6]), 'b': array([[0.8]])}, 5.0)
    """
    check_above_zero("max_norm", max_norm, infinite=True)
    if not isinstance(grads, Mapping):
        raise OptionError(f"grads: expected arrays by name; got {type(grads).__name__}")
    for name, g in grads.items():
        check_floats(name, g)
    norm = global_norm(grads)
    if not np.isfinite(norm):
        bad = [name for name, g in grads.items() if not np.isfinite(g).all()]
        raise NonFiniteError(
            f"gradients: expected a finite norm; got {norm} "
            f"(in {', '.join(bad) or 'the sum of squares'})"
        )
    if norm <= max_norm:
        return dict(grads), norm
    return {name: _scaled(g, max_norm / norm) for name, g in grads.items()}, norm  # [clip.2]


def _scaled(g: Array, factor: float) -> Array:
    """Scale g, in float64 where the factor would lose its digits in the dtype of g."""
    if factor < np.finfo(g.dtype).tiny:
        wide = g.astype(np.float64) * factor
        return wide.astype(g.dtype)
    scaled: Array = g * g.dtype.type(factor)
    return scaled
