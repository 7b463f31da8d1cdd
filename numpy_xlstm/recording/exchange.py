"""A program between the same arrays in exchanged roles: what was written is read."""

from functools import partial
from typing import Any

import numpy as np

from numpy_xlstm.errors import RecordingError
from numpy_xlstm.numerics import Array
from numpy_xlstm.recording.calls import Call, call_of
from numpy_xlstm.recording.memory import at_the_same_place, is_whole, owner
from numpy_xlstm.recording.program import Operation, Program, written_by
from numpy_xlstm.trees import leaves, put_together


def exchanged(program: Program, inputs: Any, outputs: Any) -> Program:
    """Return the program that reads its arguments where this one writes its results.

    The two in turns are a recurrence of which nothing has to be copied.

    Parameters
    ----------
    program : Program
        As it was recorded.
    inputs, outputs
        Those of its inputs, and those of its outputs, that change places: trees of as many arrays,
        alike in shape, dtype and layout.

    Raises
    ------
    RecordingError
        If they are not alike, or one is part of another array.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm.recording import record
    >>> program = record(lambda a, b: (b, a + b), np.ones(1, int), np.ones(1, int))
    >>> other = exchanged(program, program.inputs, program.outputs)
    >>> for _ in range(3):
    ...     other.run()
    ...     program.run()
    >>> program.outputs
    (array([21]), array([34]))
    """
    ones, others = _parts("inputs", inputs, program), _parts("outputs", outputs, program)
    if len(ones) != len(others):
        raise RecordingError(f"expected {len(ones)} outputs, as inputs; got {len(others)}")
    places: dict[int, Array] = {}
    for n, (one, other) in enumerate(zip(ones, others, strict=True)):
        alike = (one.shape, one.dtype) == (other.shape, other.dtype)
        if not (alike and is_whole(one) and is_whole(other)):
            raise RecordingError(f"expected alike arrays to exchange; got others as number {n}")
        places[id(owner(one))], places[id(owner(other))] = owner(other), owner(one)
    moved = partial(_moved, places=places)
    written = written_by(program.inputs, program.operations)
    both = zip(program.operations, program.calls, strict=True)
    found = [_exchanged(operation, call, places, written) for operation, call in both]
    return program._replace(
        inputs=moved(program.inputs),
        outputs=moved(program.outputs),
        operations=tuple(operation for operation, _ in found),
        calls=tuple(call for _, call in found),
    )


def _parts(name: str, tree: Any, program: Program) -> list[Array]:
    """The arrays of a tree, if they are those of the program, each once."""
    arrays = [array for _, array in leaves(name, tree)]
    known = {id(array) for _, array in leaves(name, getattr(program, name))}
    if len({id(array) for array in arrays} & known) < len(arrays):
        raise RecordingError(f"{name}: expected some of the program's, each once; got others")
    return arrays


def _exchanged(
    operation: Operation, call: Call, places: dict[int, Array], written: set[int]
) -> tuple[Operation, Call]:
    """One operation, and how it is done; the same if it has none of these arrays."""
    if places.keys().isdisjoint(id(owner(array)) for array in _arrays(operation)):
        return operation, call
    operation = Operation(*_moved(tuple(operation), places))
    return operation, call_of(operation, written)


def _arrays(operation: Operation) -> list[Array]:
    """All arrays that an operation is given, and that of its result."""
    parts = [operation.result]
    for part in (*operation.arguments, *operation.options.values()):
        parts += part if isinstance(part, tuple | list) else [part]
    return [part for part in parts if isinstance(part, np.ndarray)]


def _moved(value: Any, places: dict[int, Array]) -> Any:
    """What an operation is given, in the other arrays."""
    if isinstance(value, np.ndarray):
        place = places.get(id(owner(value)))
        return value if place is None else at_the_same_place(value, place)
    if isinstance(value, tuple | list):
        return put_together(value, [_moved(part, places) for part in value])
    if isinstance(value, dict):
        return {key: _moved(part, places) for key, part in value.items()}
    return value
