"""A program written out: what is done, to what, in which shapes.

An array and all of its views have one name: ``in.0`` for an argument, ``c0`` for a constant such as
a parameter, ``t7`` for what line 7 was the first to write to. A view is told by its shape and by
where it lies, in entries: ``t7+4 (2, 3)`` begins four entries after the first of t7, and
``t7 (3, 2) by (1, 3)`` is one entry from the next along its first axis, and three along its second.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from numpy_xlstm.numerics import Array
from numpy_xlstm.recording.memory import offset, owner, strides
from numpy_xlstm.recording.program import Operation, Program
from numpy_xlstm.trees import leaves


class Names:
    """What the arrays of a program are called."""

    def __init__(self, inputs: Any) -> None:
        self._names = {id(owner(array)): name for name, array in leaves("in", inputs)}
        self._constants = 0

    def of_result(self, array: Array, line: int) -> str:
        """Name and shape of what a line writes to."""
        return self._described(array, f"t{line}")

    def of(self, value: Any) -> str:
        """Name and shape of what an operation is given; or the number, if it is one."""
        if isinstance(value, tuple | list) and any(isinstance(part, np.ndarray) for part in value):
            return f"({', '.join(map(self.of, value))})"
        if not isinstance(value, np.ndarray):
            return str(value)
        if id(owner(value)) not in self._names:
            if not value.ndim:
                return str(value)
            self._constants += 1
        return self._described(value, f"c{self._constants - 1}")

    def _described(self, array: Array, otherwise: str) -> str:
        name = self._names.setdefault(id(owner(array)), otherwise)
        start, steps = offset(array), strides(array)
        return f"{name}{f'+{start}' * bool(start)} {array.shape}{f' by {steps}' if steps else ''}"


def lines(program: Program) -> Iterator[str]:
    """Write one line for each operation, and one for each output."""
    names = Names(program.inputs)
    for n, operation in enumerate(program.operations):
        yield f"{n:4}  {_line(n, operation, names)}"
    for name, array in leaves("out", program.outputs):
        yield f"      {name} = {names.of(array)}"


def _line(n: int, operation: Operation, names: Names) -> str:
    function, arguments, options, result, _ = operation
    if result is None:
        return f"check({names.of(arguments[0])} is {arguments[1]})"
    given = ", ".join(map(names.of, arguments))
    told = {key: options[key] for key in ("axis", "initial", "where") if _tells(options.get(key))}
    more = "".join(f", {key}={names.of(value)}" for key, value in told.items())
    return f"{names.of_result(result, n)} {result.dtype} = {_name(function)}({given}{more})"


def _tells(value: Any) -> bool:
    """Whether the value of an option is not that which it has anyway."""
    return not (value is None or value is True or value is np._NoValue)


def _name(function: Any) -> str:
    if function is np.copyto:
        return "copy"
    ufunc = getattr(function, "__self__", None)
    method = f".{function.__name__}" if isinstance(ufunc, np.ufunc) else ""
    name: str = ufunc.__name__ if isinstance(ufunc, np.ufunc) else function.__name__
    return name + method
