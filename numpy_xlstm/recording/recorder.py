"""What collects the operations of a program while a function runs."""

from collections.abc import Callable
from typing import Any, Self

import numpy as np

from numpy_xlstm.errors import RecordingError
from numpy_xlstm.numerics import Array
from numpy_xlstm.recording.calls import BUFFER, check
from numpy_xlstm.recording.program import Operation, Program, compiled


class Recorder:
    """Collects the operations of one program. Each is done ``with`` it, so that failures are known.

    A function that goes on after an operation has raised an error has taken a branch of which the
    program knows nothing.
    """

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.buffer, self.errors = BUFFER, np.geterr()
        self.failed, self._open = False, True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self.failed |= error is not None

    def close(self) -> None:
        """Take no more."""
        self._open = False

    def check_open(self) -> None:
        """Raise an error if this program is complete."""
        if not self._open:
            raise RecordingError("expected arrays of this recording; got one of an earlier one")

    def note(
        self,
        result: Array | None,
        function: Callable[..., Any],
        *arguments: Any,
        **options: Any,
    ) -> None:
        """Take an operation that has been done."""
        self.check_open()
        errors = np.geterr()
        others = None if errors == self.errors else errors
        self.operations.append(Operation(function, arguments, options, result, others))

    def note_copy(self, result: Array, value: Any, **options: Any) -> None:
        """Copy a value, and take that."""
        self.check_open()
        np.copyto(result, value, **options)
        self.note(result, np.copyto, value, **options)

    def note_check(self, condition: Array) -> bool:
        """Take a condition, which shall be as it is."""
        truth = bool(condition)
        self.note(None, check, condition, truth)
        return truth

    def program(self, inputs: Any, outputs: Any) -> Program:
        """What has been collected."""
        return compiled(inputs, outputs, tuple(self.operations), self.buffer, self.errors)
