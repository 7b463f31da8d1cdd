"""Messages of named arrays between two processes: a line of JSON, and then the bare numbers."""

import json
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from numpy_xlstm.errors import DTypeError, NonFiniteError, OptionError, ShapeError
from numpy_xlstm.numerics import Array

RAISED = {
    kind.__name__: kind
    for kind in (DTypeError, IndexError, NonFiniteError, OptionError, ShapeError)
}
"""Errors that are told as they are, since a single process would raise them too."""


def send(stream: BinaryIO, facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write a message: what JSON can say, and arrays by their names."""
    described = {name: [array.dtype.str, array.shape] for name, array in arrays.items()}
    stream.write(json.dumps([dict(facts), described]).encode() + b"\n")
    for array in arrays.values():
        stream.write(np.ascontiguousarray(array).tobytes())
    stream.flush()


def receive(stream: BinaryIO) -> tuple[dict[str, Any], dict[str, Array]] | None:
    """Read the next message; None if the other side has gone, even if in the middle of it."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    facts, described = json.loads(line)
    try:
        return facts, {name: _read(stream, *form) for name, form in described.items()}
    except EOFError:
        return None


def _read(stream: BinaryIO, dtype: str, shape: list[int]) -> Array:
    array: Array = np.empty(shape, dtype)
    data = stream.read(array.nbytes)
    if len(data) < array.nbytes:
        raise EOFError
    array.reshape(-1)[...] = np.frombuffer(data, dtype)
    return array
