"""States of models: named tuples of arrays within tuples, checked and made as one."""

from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.cells.states import mLSTMState, sLSTMState
from numpy_xlstm.errors import ShapeError
from numpy_xlstm.numerics import Array, check_array, entries
from numpy_xlstm.trees import leaves, tree_map


class mLSTMBlockState(NamedTuple):
    """State of an mLSTM block, or the cotangent of one."""

    conv: Array
    """The last inputs of the convolution, (B, K − 1, inner width)."""
    mlstm: mLSTMState


class sLSTMBlockState(NamedTuple):
    """State of an sLSTM block, or the cotangent of one."""

    conv: Array | None
    """The last inputs of the convolution, (B, K − 1, D); None without one."""
    slstm: sLSTMState


def check_state_like(name: str, state: Any, like: Any, B: int, dtype: Any) -> None:
    """Raise an error that names the first part of ``state`` that is not as in ``like``.

    ``like`` is a nested tuple of arrays, whose shapes count but for the batch, and None. That the
    numbers are finite is the matter of :func:`check_finite`.
    """
    if _fits(state, like, B, dtype):
        return
    if isinstance(like, tuple):
        if not isinstance(state, tuple) or len(state) != len(like):
            expected = ", ".join(map(str, _fields(like)))
            raise ShapeError(f"{name}: expected a tuple ({expected}); got {entries(state)}")
        for field, part, expected_part in zip(_fields(like), state, like, strict=True):
            check_state_like(f"{name}.{field}", part, expected_part, B, dtype)
    elif like is None:
        raise ShapeError(f"{name}: expected None; got {type(state).__name__}")
    else:
        check_array(name, state, (B, *like.shape[1:]), dtype, allow_minus_inf=True)


def check_finite(name: str, state: Any, *, cotangent: bool = False) -> None:
    """Raise :class:`NonFiniteError` where a number is not finite, but for −inf as an m of a state.

    Evaluation goes without: a step of generation would spend a part of its time on it.
    """
    for leaf, array in leaves(name, state):
        empty = leaf.endswith(".m") and not cotangent
        check_array(leaf, array, array.shape, allow_minus_inf=empty)


def _fields(like: Any) -> Any:
    return getattr(like, "_fields", range(len(like)))


def _fits(state: Any, like: Any, B: int, dtype: Any) -> bool:
    """Whether a state is as in ``like``, at a cost that a step of generation can bear."""
    if isinstance(like, tuple):
        if not isinstance(state, tuple) or len(state) != len(like):
            return False
        for part, expected in zip(state, like):  # noqa: B905 — of one length, see above
            if isinstance(expected, np.ndarray):
                if not isinstance(part, np.ndarray) or part.dtype != dtype:
                    return False
                if part.shape != (B, *expected.shape[1:]):
                    return False
            elif not _fits(part, expected, B, dtype):
                return False
        return True
    return state is None and like is None


def own(state: Any) -> Any:
    """The same state in arrays that nobody else holds."""
    return tree_map(np.copy, state)


def zeros_like(state: Any) -> Any:
    """A cotangent of 0 for a state."""
    return tree_map(np.zeros_like, state)
