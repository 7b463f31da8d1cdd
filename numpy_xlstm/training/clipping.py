"""Clipping of gradients. The equations are in ``docs/derivations/layers.md``."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from numpy_xlstm.errors import NonFiniteError, OptionError
from numpy_xlstm.kernels.adamw import norm
from numpy_xlstm.numerics import Array, check_form, checked_above_zero, own_error_state

CLIP_EPS = 1e-6
"""Number added to the norm, as in PyTorch."""

TINY = float(np.finfo(np.float32).tiny)
"""Smallest factor that float32 holds with all its digits."""

BLOCK = 2**15
"""Count of numbers whose squares are added at a time, so that float64 copies of them are small."""


@own_error_state
def global_norm(grads: Mapping[str, Array]) -> float:
    """Return the Euclidean norm of all arrays together, without intermediate over- or underflow.

    Examples
    --------
    >>> import numpy as np
    >>> global_norm({"a": np.array([3e300]), "b": np.array([4e300])})
    5e+300
    """
    check_floats(grads)
    flat = (grad.ravel("K") for grad in grads.values())
    blocks = (g[n : n + BLOCK] for g in flat for n in range(0, g.size, BLOCK))
    norms = (norm(block) for block in blocks)
    return math.hypot(*norms)  # [clip.1]


@own_error_state
def clip_grad_norm(grads: Mapping[str, Array], max_norm: float) -> tuple[dict[str, Array], float]:
    r"""Scale the gradients so that their global norm is below ``max_norm``.

    .. math:: g ← g \cdot \min(1, \mathrm{max\_norm} / (\lVert g \rVert + 10^{-6}))

    The factor is that of ``torch.nn.utils.clip_grad_norm_``, where 10⁻⁶ avoids a division by 0. The
    clipped norm is below ``max_norm`` by a relative 1e-6 / ‖g‖. A norm that is below ``max_norm``
    by less than 1e-6 is also scaled.

    Parameters
    ----------
    grads : Mapping[str, np.ndarray]
        Gradients, of any shape. They are not modified.
    max_norm : float
        Bound of the norm; ``inf`` for no scaling.

    Returns
    -------
    clipped, norm : dict[str, np.ndarray], float
        The scaled gradients in their shapes, or the same arrays if nothing was scaled, and the norm
        before scaling. A norm that is not finite is an error, because a step along such a gradient
        would destroy the parameters.

    Examples
    --------
    >>> import numpy as np
    >>> clip_grad_norm({"a": np.array([3.0]), "b": np.array([[4.0]])}, max_norm=1.0)
    ({'a': array([0.59999988]), 'b': array([[0.79999984]])}, 5.0)
    """
    factor, norm = clip_factor(grads, max_norm)
    return (dict(grads) if factor == 1 else scaled(grads, factor)), norm


def clip_factor(grads: Mapping[str, Array], max_norm: float) -> tuple[float, float]:
    """Return the factor of :func:`clip_grad_norm`, and the norm before scaling."""
    checked_above_zero("max_norm", max_norm, infinite=True)
    norm = global_norm(grads)
    if not np.isfinite(norm):
        bad = [name for name, g in grads.items() if not np.isfinite(g).all()]
        raise NonFiniteError(
            f"gradients: expected a finite norm; got {norm} "
            f"(in {', '.join(bad) or 'the sum of squares'})"
        )
    return min(1.0, max_norm / (norm + CLIP_EPS)), norm


@own_error_state
def scaled(grads: Mapping[str, Array], factor: float) -> dict[str, Array]:
    """Return the gradients multiplied by a factor."""
    wide = np.float64 if factor < TINY else None  # a float32 factor would lose digits
    return {
        name: np.asarray(np.multiply(g, factor, dtype=wide), g.dtype)  # [clip.2]
        for name, g in grads.items()
    }


def check_floats(arrays: Any, title: str = "grads") -> None:
    """Raise an error for anything but a mapping of arrays of real floating-point numbers."""
    if not isinstance(arrays, Mapping):
        got = type(arrays).__name__
        raise OptionError(f"{title}: expected a mapping of arrays, such as model.params; got {got}")
    for name, array in arrays.items():
        check_form(f"{title}[{name!r}]", array, (...,), "floating-point numbers")
