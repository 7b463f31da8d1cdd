"""A straight line of NumPy operations between arrays that stay where they are."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, NoReturn, Self

import numpy as np

from numpy_xlstm.errors import BranchError, DTypeError, RecordingError, ShapeError
from numpy_xlstm.trees import leaves, tree_map

Operation = partial[Any]
"""A function with all of its arguments, the arrays that it reads and writes."""

BUFFER = 4096
"""Entries that NumPy takes at a time. With more, it copies a factor that is the same for many."""


class Program(NamedTuple):
    """Operations that turn what is in the arrays ``inputs`` into what is in ``outputs``.

    Call it with other arguments; or write to the inputs, call :meth:`run`, and read the outputs,
    which the next run writes over. All arrays that come between are made when the program is
    recorded, and used again by every run. They are views of each other, so a program cannot be
    copied.
    """

    inputs: tuple[Any, ...]
    """The arguments: arrays, or nested tuples of such."""
    outputs: Any
    """What the function returned, likewise."""
    operations: tuple[Operation, ...]
    buffer: int
    """:data:`BUFFER`; or what NumPy has otherwise, where the last bits of a sum depend on it."""
    errors: Any
    """How floating-point errors are treated: as when it was recorded, see :func:`numpy.geterr`."""

    def __call__(self, *arguments: Any) -> Any:
        """Return what the function would for arguments of the same shapes and dtypes, as copies.

        Raises
        ------
        ShapeError, DTypeError
            If they are not. Nothing is done then.
        BranchError
            As :meth:`run`.
        """
        given, places = list(leaves("", arguments)), list(leaves("in", self.inputs))
        if len(given) != len(places):
            raise ShapeError(f"expected {len(places)} arrays as when recorded; got {len(given)}")
        for (_, array), (name, place) in zip(given, places, strict=True):
            if array.shape != place.shape:
                raise ShapeError(f"{name}: expected shape {place.shape}; got {array.shape}")
            if array.dtype != place.dtype:
                raise DTypeError(f"{name}: expected {place.dtype}; got {array.dtype}")
        for (_, array), (_, place) in zip(given, places, strict=True):
            place[...] = array
        self.run()
        return tree_map(np.copy, self.outputs)

    def run(self) -> None:
        """Do all operations in order.

        Raises
        ------
        BranchError
            If the function would branch otherwise for these inputs. Outputs are undefined then;
            inputs are as they were, unless the function writes to its arguments.
        """
        with np.errstate(**self.errors):  # at whose end the buffer is as before, too
            np.setbufsize(self.buffer)
            for operation in self.operations:
                operation()

    def __reduce__(self) -> NoReturn:
        raise RecordingError("expected a program where it was recorded; got a request to copy it")

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

    def note(self, operation: Operation) -> None:
        """Take an operation that has been done."""
        self.check_open()
        errors = np.geterr()
        if errors != self.errors:
            operation = partial(within, errors, operation)
        self.operations.append(operation)

    def do(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        """Do an operation that writes to one of its arguments, and take it."""
        self.check_open()
        operation = partial(function, *arguments, **options)
        operation()
        self.note(operation)
