"""What a step does with its gradients: their norm, and clipping it."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from numpy_xlstm.errors import DTypeError, NonFiniteError, OptionError
from numpy_xlstm.numerics import Array, check_above_zero


def check_floats(name: str, array: Any) -> None:
    """Raise :class:`DTypeError` unless ``array`` is one of real floating-point numbers."""
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        got = getattr(array, "dtype", type(array).__name__)
        raise DTypeError(f"{name}: expected an array of floating-point numbers; got {got}")


def global_norm(grads: Mapping[str, Array]) -> float:
    """Euclidean norm of all arrays together, without overflow or underflow on the way.

    Examples
    --------
    >>> import numpy as np
    >>> global_norm({"a": np.array([3e300]), "b": np.array([4e300])})
    5e+300
    """
    peak = float(np.max([np.abs(g).max(initial=0) for g in grads.values()], initial=0))
    if peak == 0 or not np.isfinite(peak):
        return peak
    unit = 2.0 ** (math.frexp(peak)[1] - 1)
    scaled = (np.divide(g, unit, dtype=np.float64) for g in grads.values())
    return unit * math.sqrt(sum(float(np.vdot(g, g)) for g in scaled))  # [clip.1]


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
    factor = max_norm / norm
    wide = np.float64 if factor < np.finfo(np.float32).tiny else None  # as float32 it lost digits
    return {
        name: np.multiply(g, factor, dtype=wide).astype(g.dtype, copy=False)  # [clip.2]
        for name, g in grads.items()
    }, norm
