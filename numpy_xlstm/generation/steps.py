"""One token after the other: the model's own operations, recorded once and repeated."""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from numpy_xlstm.errors import BranchError
from numpy_xlstm.layers.indices import IndexArray
from numpy_xlstm.numerics import Array
from numpy_xlstm.parameters import Parameterised
from numpy_xlstm.recording import Program, record
from numpy_xlstm.trees import leaves, tree_map

ATTEMPTS = 4
"""So often a program is recorded, if it turns out not to be the right one for a step."""


class TokenModel(Protocol):
    """All that generation needs of a model."""

    def __call__(self, tokens: IndexArray, /, state: Any = None) -> tuple[Array, Any]:
        """Map tokens (B, T) and a state to logits (B, T, V) and the state after them."""


class Steps:
    """What ``model(tokens, state)`` gives for one token per row, step after step, in less time.

    A step of a small model takes its time in Python and in making arrays. Its operations are the
    same at every step, so they are recorded, see :func:`numpy_xlstm.recording.record`, and the
    following steps are the same calls of NumPy in the same arrays. The results are those of the
    model, bit for bit: that is tried, for other tokens and another state, before a program is
    used. What cannot be recorded, and anything but the layers and models of this package, is
    called as it is. So is the model where a program is not the right one for a step, since the
    model would branch otherwise.

    Do not change the parameters of the model between two steps.

    Parameters
    ----------
    model : TokenModel
        Maps tokens (B, 1) and a state to logits (B, 1, V) and a state.
    state : tuple, optional
        Where to begin; the empty state of the model if omitted. It is not changed.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import LSTM, LanguageModel
    >>> rng = np.random.default_rng(0)
    >>> model = LanguageModel(256, 4, LSTM(4, 8, rng=rng), rng=rng)
    >>> logits, state = model(np.array([[104, 101], [110, 111]]))
    >>> steps = Steps(model, state)
    >>> for _ in range(3):
    ...     logits = steps(np.array([108, 98]))
    >>> expected, _ = model(np.array([[108, 108, 108], [98, 98, 98]]), state)
    >>> logits.shape, np.allclose(logits, expected[:, -1])
    ((2, 256), True)
    """

    def __init__(self, model: TokenModel, state: Any = None) -> None:
        self._model, self._state = model, state
        self._attempts = ATTEMPTS if isinstance(model, Parameterised) else 0
        self._program: Program | None = None

    @property
    def state(self) -> Any:
        """The state after the last step."""
        return self._state if self._program is None else tree_map(np.copy, self._state)

    def __call__(self, tokens: IndexArray) -> Array:
        """Take one step: a token for each row, shape (B,), to logits (B, V)."""
        tokens = np.asarray(tokens)[:, None]
        if self._program is None and self._attempts and self._state is not None:
            self._record(tokens)
        if self._program is not None and _alike(tokens, self._program.inputs[0]):
            return self._repeat(self._program, tokens)
        return self._call(tokens)

    def _call(self, tokens: IndexArray) -> Array:
        """Take a step by the model."""
        self._program = None
        logits, self._state = self._model(tokens, self._state)
        return logits[:, -1]

    def _record(self, tokens: IndexArray) -> None:
        """Have a program for steps like this one, unless there is none."""
        self._attempts -= 1
        try:
            program = record(self._model, tokens, self._state)
            right = _is_right(program, self._model)
        except Exception:  # of any kind: a part of the model may not take a recorded array
            self._attempts = 0
            return
        if right:
            _copy(self._state, program.inputs[1])
            self._program, self._state = program, program.inputs[1]
            self._carry = tuple(_pairs(program.outputs[1], self._state))

    def _repeat(self, program: Program, tokens: IndexArray) -> Array:
        """Take a step by the program; by the model, if that would branch otherwise."""
        program.inputs[0][...] = tokens
        try:
            program.run()
        except BranchError:
            return self._call(tokens)
        for after, before in self._carry:
            before[...] = after
        logits: Array = program.outputs[0][:, -1].copy()
        return logits


def _is_right(program: Program, model: TokenModel) -> bool:
    """Whether the program gives what the model does, for other tokens and the state after."""
    tokens, _ = program.inputs
    logits, after = program.outputs
    _copy(((tokens + 1) % logits.shape[-1], after), program.inputs)
    expected = model(*tree_map(np.copy, program.inputs))
    try:
        program.run()
    except BranchError:
        return False
    return all(np.array_equal(got, array) for got, array in _pairs(program.outputs, expected))


def _alike(a: Array, b: Array) -> bool:
    return (a.shape, a.dtype) == (b.shape, b.dtype)


def _pairs(first: Any, second: Any) -> Iterator[tuple[Array, Array]]:
    """The arrays of two trees of the same kind, side by side."""
    for (_, a), (_, b) in zip(leaves("", first), leaves("", second), strict=True):
        yield a, b


def _copy(values: Any, places: Any) -> None:
    """Write the arrays of a tree to those of another."""
    for value, place in _pairs(values, places):
        place[...] = value
