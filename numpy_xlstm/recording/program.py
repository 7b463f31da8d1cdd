"""A straight line of NumPy operations between arrays that stay where they are."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np

from numpy_xlstm.errors import DTypeError, RecordingError, ShapeError
from numpy_xlstm.numerics import Array
from numpy_xlstm.recording.calls import Call, call_of
from numpy_xlstm.recording.memory import owner, shares
from numpy_xlstm.trees import leaves, structure, tree_map


class Operation(NamedTuple):
    """One call of a function of NumPy, in arrays that stay where they are."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    result: Array | None
    """What it writes to; None for a check."""
    errors: Mapping[str, Any] | None = None
    """How floating-point errors are treated, if otherwise than in the program as a whole."""


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
    calls: tuple[Call, ...]
    """One for each operation."""
    buffer: int
    """``BUFFER``; or what NumPy has otherwise, where the last bits of a sum depend on it."""
    errors: Mapping[str, Any]
    """How floating-point errors are treated: as when it was recorded, see :func:`numpy.geterr`."""

    def __call__(self, *arguments: Any) -> Any:
        """Return what the function would for arguments of the same shapes and dtypes, as copies.

        Lists are taken for tuples, of arrays.

        Raises
        ------
        ShapeError, DTypeError
            If they are not. Nothing is done then.
        RecordingError
            If an argument is itself being recorded, or of another class of arrays.
        BranchError
            As :meth:`run`.
        """
        if structure(arguments) != structure(self.inputs):
            expected = structure(self.inputs)
            raise ShapeError(f"expected arguments like {expected}; got {structure(arguments)}")
        places = list(leaves("in", self.inputs))
        given = [array for _, array in leaves("", arguments)]
        for array, (name, place) in zip(given, places, strict=True):
            if type(array) not in (np.ndarray, np.memmap):
                raise RecordingError(f"{name}: expected an array; got {type(array).__name__}")
            if array.shape != place.shape:
                raise ShapeError(f"{name}: expected shape {place.shape}; got {array.shape}")
            if array.dtype != place.dtype:
                raise DTypeError(f"{name}: expected {place.dtype}; got {array.dtype}")
        if any(shares(array, place) for array in given for _, place in places):
            given = [array.copy() for array in given]
        for array, (_, place) in zip(given, places, strict=True):
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
            for call in self.calls:
                call()

    def __reduce__(self) -> NoReturn:
        raise RecordingError("expected a program where it was recorded; got a request to copy it")

    def __str__(self) -> str:
        """Write the program out, see :func:`numpy_xlstm.recording.listing.lines`."""
        from numpy_xlstm.recording.listing import lines

        return "\n".join(lines(self))


def compiled(
    inputs: Any,
    outputs: Any,
    operations: tuple[Operation, ...],
    buffer: int,
    errors: Mapping[str, Any],
) -> Program:
    """Put a program together."""
    written = written_by(inputs, operations)
    calls = tuple(call_of(operation, written) for operation in operations)
    return Program(inputs, outputs, operations, calls, buffer, errors)


def written_by(inputs: Any, operations: Iterable[Operation]) -> set[int]:
    """The ids of the arrays that are not constants."""
    results = [operation.result for operation in operations if operation.result is not None]
    given = [array for _, array in leaves("", inputs)]
    return {id(owner(array)) for array in (*given, *results)}
