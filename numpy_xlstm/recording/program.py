"""A straight line of NumPy operations between arrays that stay where they are."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.errors import BranchError, RecordingError

Operation = partial[Any]
"""A function with all of its arguments, the arrays that it reads and writes."""

BUFFER = 4096
"""Entries that NumPy takes at a time. With more, it copies a factor that is the same for many."""


class Program(NamedTuple):
    """Operations that turn what is in the arrays ``inputs`` into what is in ``outputs``.

    Write to the inputs, call :meth:`run`, read the outputs. All arrays that come between are made
    when the program is recorded, and used again by every run.
    """

    inputs: tuple[Any, ...]
    """The arguments: arrays, or nested tuples of such."""
    outputs: Any
    """What the function returned, likewise."""
    operations: tuple[Operation, ...]
    buffer: int
    """:data:`BUFFER`; or what NumPy has otherwise, where the last bits of a sum depend on it."""

    def run(self) -> None:
        """Do all operations in order.

        Raises
        ------
        BranchError
            If the function would branch otherwise for these inputs. Outputs are undefined then;
            inputs are as they were, unless the function writes to its arguments.
        """
        with np.errstate():  # at whose end the buffer is as before
            np.setbufsize(self.buffer)
            for operation in self.operations:
                operation()

    def __str__(self) -> str:
        """Write the program out, see :func:`numpy_xlstm.recording.listing.lines`."""
        from numpy_xlstm.recording.listing import lines

        return "\n".join(lines(self))


def check(condition: np.ndarray[Any, Any], expected: bool) -> None:
    """Raise :class:`BranchError` unless the condition is as it was."""
    if bool(condition) is not expected:
        raise BranchError(f"expected a condition to be {expected} again; it is {not expected} now")


def assign(
    target: np.ndarray[Any, Any], function: Callable[..., Any], *arguments: Any, **options: Any
) -> None:
    """Write to ``target`` what a function returns that cannot do so itself."""
    target[...] = function(*arguments, **options)


def within(errors: Any, operation: Operation) -> None:
    """Do an operation that was recorded under another treatment of floating-point errors."""
    with np.errstate(**errors):
        operation()


class Recorder:
    """Collects the operations of one program."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.buffer = BUFFER
        self._errors, self._open = np.geterr(), True

    def close(self) -> None:
        """Take no more."""
        self._open = False

    def check_open(self) -> None:
        """Raise an error if this program is complete."""
        if not self._open:
            raise RecordingError("expected arrays of this recording; got one of an earlier one")

    def note(self, operation: Operation) -> None:
        """Take an operation that has been done."""
        self.check_open()
        errors = np.geterr()
        if errors != self._errors:
            operation = partial(within, errors, operation)
        self.operations.append(operation)

    def do(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        """Do an operation that writes to one of its arguments, and take it."""
        operation = partial(function, *arguments, **options)
        operation()
        self.note(operation)
