"""One token after the other: the model's own operations, recorded once and repeated."""

from typing import Any, Protocol

import numpy as np

from numpy_xlstm.errors import BranchError, RecordingError
from numpy_xlstm.layers.indices import IndexArray, check_sequence
from numpy_xlstm.numerics import Array
from numpy_xlstm.recording import Program, exchanged, record
from numpy_xlstm.trees import leaves, tree_map

ATTEMPTS = 4
"""So often a program is recorded for a model that branches."""


class TokenModel(Protocol):
    """All that generation needs of a model."""

    def __call__(self, tokens: IndexArray, /, state: Any = None) -> tuple[Array, Any]:
        """Map tokens (B, T) and a state to logits (B, T, V) and the state after them."""


class Steps:
    """What ``model(tokens, state)`` gives for one token per row, step after step, in less time.

    A step of a small model takes its time in Python and in making arrays. Its operations are the
    same at every step, so they are recorded, see :func:`numpy_xlstm.recording.record`, and the
    following steps are the same calls of NumPy in the same arrays, bit for bit. Where the model
    would branch otherwise, the step is taken by the model, and the next one recorded again.

    That is done with the models of this package, made of layers of this package. Anything else is
    called as it is, once for every step.

    Do not change the parameters of the model between two steps.

    Parameters
    ----------
    model : TokenModel
        Maps tokens (B, 1) and a state to logits (B, 1, V) and a state.
    state : optional
        Where to begin; the empty state of the model if omitted. It is not changed.

    Attributes
    ----------
    program : Program or None
        The operations of the next step; None while the model is called as it is, as at the first
        step from an empty state. Two take turns, each of which reads the state where the other one
        has written it.

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

    program: Program | None = None

    def __init__(self, model: TokenModel, state: Any = None) -> None:
        self._model, self._state = model, state
        self._attempts = ATTEMPTS if _is_ours(model) else 0

    @property
    def state(self) -> Any:
        """The state after the last step: a copy, if the model is recorded."""
        return self._state if self.program is None else tree_map(np.copy, self._state)

    def __call__(self, tokens: IndexArray) -> Array:
        """Take one step.

        Parameters
        ----------
        tokens : np.ndarray
            One id for each row, integers (B,).

        Returns
        -------
        logits : np.ndarray
            Shape (B, V).

        Raises
        ------
        DTypeError, ShapeError
            If ``tokens`` is not as described. Everything else is the model's matter. After an error
            the state is that before the step.
        """
        column = check_sequence("tokens", tokens)[:, None]
        if self.program is not None and self._fits(self.program, column):
            return self._repeat(self.program, column)
        if self._attempts and _in_order(self._state):
            return self._record(column)
        return self._call(column)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy what a step depends on; the copy makes a recording of its own."""
        return type(self), (self._model, self.state)

    def _fits(self, program: Program, column: IndexArray) -> bool:
        """Whether a step is as it was recorded: so many rows, floating-point errors so treated."""
        shape: tuple[int, ...] = program.inputs[0].shape
        return column.shape == shape and np.geterr() == program.errors

    def _call(self, column: IndexArray) -> Array:
        """Take a step by the model."""
        logits, self._state = self._model(column, self._state)
        self.program = None
        return logits[:, -1]

    def _record(self, column: IndexArray) -> Array:
        """Take a step and keep its operations."""
        try:
            program = record(self._model, column.astype(np.int64), self._state, verify=False)
            other = exchanged(program, program.inputs[1], program.outputs[1])
        except RecordingError:
            logits = self._call(column)  # which raises the error, if there is another one
            self._attempts = 0
            return logits
        self._attempts -= 1
        return self._done(program, other)

    def _repeat(self, program: Program, column: IndexArray) -> Array:
        """Take a step by the program; by the model, if that would branch otherwise."""
        program.inputs[0][...] = column
        try:
            program.run()
        except BranchError:
            return self._call(column)
        return self._done(program, self._other)

    def _done(self, program: Program, other: Program) -> Array:
        """Copy the logits; the next step goes on from the state that the program has written."""
        logits, self._state = program.outputs
        self.program, self._other = other, program
        last: Array = logits[:, -1].copy()
        return last


def _in_order(state: Any) -> bool:
    """Whether there is a state, with all of its arrays laid out as the model lays them out."""
    return state is not None and all(a.flags.c_contiguous for _, a in leaves("", state))


def _is_ours(model: Any) -> bool:
    """Whether a model and all of its parts are of this package, and so known to be recorded."""
    here = type(model).__module__.partition(".")[0] == __name__.partition(".")[0]
    return here and all(map(_is_ours, getattr(model, "children", {}).values()))
