"""Shared functions of the cells: W x + R h₋ + b for four gates, its backward, and logs of gates.

Rows are gate by gate, in the order i, f, z, o, as in ``torch.nn.LSTM``, where z is called "g".
Derived in ``docs/derivations/recurrence.md`` and ``docs/derivations/stabiliser.md``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from numpy_xlstm.errors import DTypeError, ShapeError
from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import (
    Array,
    check_plain,
    checked_batch_size,
    checked_choice,
    checked_dtype,
    checked_positive,
    generator_or_new,
)
from numpy_xlstm.numerics.activations import log_sigmoid, log_sigmoid_slope

State = TypeVar("State")

ROW_ORDER = ("i", "f", "z", "o")
"""Order of the rows of W, R and b."""


def gate_axes(gates: str = "ifzo") -> dict[str, str]:
    """Return ``tensor_axes`` for W, R and b: patterns for :func:`~numpy_xlstm.gradcheck`."""
    return {
        "W": f"(gate={gates} unit) input",
        "R": f"(gate={gates} unit) from",
        "b": f"(gate={gates} unit)",
    }


def axes_of_heads(axes: Mapping[str, str]) -> Any:
    """Return a property that fills the ``num_heads`` of a cell into these axes."""
    return property(
        lambda cell: {n: pattern.format(num_heads=cell.num_heads) for n, pattern in axes.items()}
    )


class Kind(NamedTuple):
    """Activation of a gate: the log of the gate, its slope, and initial biases."""

    log: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    bias: tuple[float, float]
    """First and last initial bias of a forget gate. The biases rise linearly between them, over the
    heads or the units."""


GATE_KINDS = {
    "sigmoid": Kind(log_sigmoid, log_sigmoid_slope, (3, 6)),
    "exp": Kind(lambda pre: pre, np.ones_like, (0, 0)),
}
"""Activations of forget and input gates. The log of a sigmoid gate is log σ(x), with slope σ(−x);
the log of an exponential gate is x, with slope 1."""


def pre_activations(x: Array, h_prev: Array, W: Array, R: Array, b: Array) -> list[Array]:
    """Return ĩ, f̃, z̃ and õ, each (B, H): W x + R h₋ + b, split into gates.

    R is (4·H, H), or (NH, 4·DH, DH): a block for each head, which multiplies its own part of h₋.
    """
    Rh = joined(by_heads(h_prev, R) @ R.swapaxes(-1, -2), R)
    return np.split(x @ W.T + Rh + b, 4, axis=1)  # [rec.1]


def pre_activations_backward(
    dpres: Sequence[Array], x: Array, h_prev: Array, W: Array, R: Array, b: Array
) -> tuple[Array, Array, Grads]:
    """Return the gradients of x, h₋ and the parameters from those of the pre-activations."""
    dpre = np.concatenate(dpres, axis=1)
    dRh = by_heads(dpre, R)
    dh_prev = joined(dRh @ R, R)  # [rec.3]
    dx = dpre @ W  # [rec.4]
    dW = np.dot(dpre.T, x)  # [rec.5]
    dR = dRh.swapaxes(-1, -2) @ by_heads(h_prev, R)  # [rec.6]
    db = dpre.sum(axis=0)  # [rec.7]
    return dx, dh_prev, {"W": dW, "R": dR, "b": db}


def by_heads(array: Array, R: Array) -> Array:
    """Return rows (B, K·H) as (NH, B, K·DH) if R has a block for each head; K is 1 or 4 gates."""
    if R.ndim == 2:
        return array
    NH, _, DH = R.shape
    return array.reshape(len(array), -1, NH, DH).transpose(2, 0, 1, 3).reshape(NH, len(array), -1)


def joined(array: Array, R: Array) -> Array:
    """Return rows (NH, B, K·DH) as (B, K·H); the inverse of :func:`by_heads`."""
    if R.ndim == 2:
        return array
    NH, B, _ = array.shape
    return array.reshape(NH, B, -1, R.shape[-1]).transpose(1, 2, 0, 3).reshape(B, -1)


def gate_rows(array: Array, gate: str) -> Array:
    """Return the rows of one gate in W, R or b, as a live view.

    Parameters
    ----------
    array : np.ndarray
        W (4·H, D), R (4·H, H) or (NH, 4·DH, DH), or b (4·H,), gate by gate in the order i, f, z, o.
    gate : {"i", "f", "z", "o"}
        Name of the gate.

    Returns
    -------
    np.ndarray
        A quarter of the rows: (H, D), (H, H), (NH, DH, DH) or (H,).

    Examples
    --------
    >>> gate_rows(np.arange(8), "f")
    array([2, 3])
    """
    checked_choice("gate", gate, ROW_ORDER)
    if not isinstance(array, np.ndarray):
        raise DTypeError(f"array: expected a NumPy array; got {type(array).__name__}")
    check_plain("array", array)
    axis = max(0, np.ndim(array) - 2)
    if np.ndim(array) not in (1, 2, 3) or array.shape[axis] % 4:
        raise ShapeError(f"array: expected W, R or b of four gates; got shape {np.shape(array)}")
    return np.split(array, 4, axis)[ROW_ORDER.index(gate)]


def log_gate(pre: Array, gate: str) -> Array:
    """Return the log of a gate of one of the :data:`GATE_KINDS`."""
    return GATE_KINDS[gate].log(pre)  # [stab.1]


def log_gate_slope(pre: Array, gate: str) -> Array:
    """Return the derivative of :func:`log_gate`."""
    return GATE_KINDS[gate].slope(pre)  # [stab.2]


def root(width: int, x: Array) -> Any:
    """Return √width in the precision of x."""
    return np.sqrt(x.dtype.type(width))


def underflows(exponent: Array) -> Array:
    """Return where e^exponent is so small that it, or a quotient by it, loses digits."""
    limits = np.finfo(exponent.dtype)
    lost: Array = exponent.real < np.log(limits.tiny / limits.eps)
    return lost


def empty_state(kind: Callable[..., State], batch_size: int, width: int, dtype: Any) -> State:
    """Return a state of arrays (B, width): zeros, and −inf for a stabiliser m."""
    shape, fields = (checked_batch_size(batch_size), width), kind._fields  # type: ignore[attr-defined]
    state = {name: np.zeros(shape, dtype) for name in fields}
    if "m" in state:
        state["m"][...] = -np.inf
    return kind(**state)


def checked_sizes(
    input_size: Any, hidden_size: Any, dtype: npt.DTypeLike, rng: Any
) -> tuple[int, int, np.dtype[Any], np.random.Generator]:
    """Return validated D, H, dtype and generator."""
    D = checked_positive("input_size", input_size)
    H = checked_positive("hidden_size", hidden_size)
    return D, H, checked_dtype(dtype), generator_or_new(rng)
