"""The state of LSTM and sLSTM, as a caller has it and as the loop over time has it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import numpy as np

from numpy_xlstm.cells.scan import batch_first, batch_last
from numpy_xlstm.cells.states import LSTMState, sLSTMState
from numpy_xlstm.errors import ShapeError
from numpy_xlstm.numerics import Array, check_array, entries

State = TypeVar("State", LSTMState, sLSTMState)


@dataclass(frozen=True)
class StateForm(Generic[State]):
    """What a state is made of: (B, H) arrays outside, h (NH, DH, B) and a memory inside."""

    kind: type[Any]
    """LSTMState or sLSTMState."""
    B: int
    NH: int
    DH: int
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, int]:
        """(B, H)."""
        return self.B, self.NH * self.DH

    def start(self, state: Sequence[Any] | None, hint: str = "") -> State:
        """Check the state before the first step; the empty one for None: 0, and m = −inf."""
        if state is not None:
            return self._checked("state", state, hint)
        empty = self._zeros()
        if isinstance(empty, sLSTMState):
            empty.m[...] = -np.inf
        return empty

    def finish(self, dstate: Sequence[Any] | None) -> State:
        """Check the cotangent of the state after the last step; 0 for None."""
        return self._zeros() if dstate is None else self._checked("dstate", dstate, "")

    def split(self, state: State) -> tuple[Array, Array]:
        """Turn a state into a fresh h (NH, DH, B) and memory (size, NH, DH, B)."""
        heads = np.stack(state).reshape(len(state), self.B, self.NH, self.DH)
        parts = batch_last(heads).copy()
        return parts[0], parts[1:]

    def join(self, h: Array, memory: Array) -> State:
        """Undo :meth:`split`, into fresh arrays."""
        joined = (batch_first(array).copy().reshape(self.shape) for array in (h, *memory))
        return cast(State, self.kind(*joined))

    def _zeros(self) -> State:
        return cast(State, self.kind(*(np.zeros(self.shape, self.dtype) for _ in self._fields)))

    def _checked(self, name: str, state: Sequence[Any], hint: str) -> State:
        if not isinstance(state, tuple | list) or len(state) != len(self._fields):
            got = entries(state) if isinstance(state, tuple | list) else type(state).__name__
            raise ShapeError(f"{name}: expected a tuple ({', '.join(self._fields)}); got {got}")
        for field, array in zip(self._fields, state, strict=True):
            empty = field == "m" and name == "state"
            label = f"{name}.{field}"
            check_array(label, array, self.shape, self.dtype, allow_minus_inf=empty, hint=hint)
        return cast(State, self.kind(*state))

    @property
    def _fields(self) -> tuple[str, ...]:
        fields: tuple[str, ...] = self.kind._fields
        return fields
