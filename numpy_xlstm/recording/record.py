"""Record what a function does with its arguments."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from numpy_xlstm.errors import BranchError, RecordingError
from numpy_xlstm.numerics import Array
from numpy_xlstm.recording.array import RecordedArray, plain, recorded
from numpy_xlstm.recording.memory import is_whole, owner
from numpy_xlstm.recording.program import Program
from numpy_xlstm.recording.recorder import Recorder
from numpy_xlstm.trees import leaves, tree_map


def record(function: Callable[..., Any], *arguments: Any, verify: bool = True) -> Program:
    """Run a function once and return the operations of NumPy that it consists of, as a program.

    Other arrays that the function uses, such as parameters, are constants of the program: an
    operation on nothing but constants is done once and for all. So is what depends on the
    arguments in a way that NumPy does not tell, see :mod:`numpy_xlstm.recording.array`. To find
    that, the function is run again, for slightly other numbers. One thread at a time may run a
    program.

    Parameters
    ----------
    function : Callable
        Maps arrays, and nested tuples of arrays, to such.
    *arguments
        Shapes, dtypes and first numbers of its arguments, each of which is copied. A Python number
        is an array of shape () and float64 or int64; lists are taken for tuples.
    verify : bool
        Whether to compare the program with the function, for slightly other numbers.

    Returns
    -------
    Program
        It holds the results for these arguments.

    Raises
    ------
    RecordingError
        If the function does something that cannot be recorded, takes or returns other things than
        arrays and nested tuples of arrays, or if its program gives other results.

    Examples
    --------
    >>> import numpy as np
    >>> program = record(lambda x, scale: (np.exp(x) * scale).sum(), np.zeros(3), np.ones(()))
    >>> program.inputs[1][...] = 2.0
    >>> program.run()
    >>> program.outputs
    array(6.)
    >>> print(program)
       0  t0 (3,) float64 = exp(in.0 (3,))
       1  t1 (3,) float64 = multiply(t0 (3,), in.1 ())
       2  t2 () float64 = add.reduce(t1 (3,))
          out = t2 ()
    """
    recorder = Recorder()
    inputs = tree_map(_own, arguments)
    taken = {id(array) for _, array in leaves("", inputs)}

    def settled(array: Array) -> Array:
        """An output, in an array of its own: no input, no constant, no part of another."""
        if not isinstance(array, RecordedArray):
            constant = _own(array)
            copied = np.empty_like(constant)
            recorder.note_copy(copied, constant)
            return copied
        alone = is_whole(plain(array)) and id(owner(plain(array))) not in taken
        output: Array = plain(array if alone and array.flags.writeable else array.copy())
        taken.add(id(owner(output)))
        return output

    try:
        results = function(*tree_map(partial(recorded, recorder=recorder), inputs))
        outputs = tree_map(settled, results)
    finally:
        recorder.close()
    if recorder.failed:
        raise RecordingError("expected operations that succeed; got one that raised an error")
    program = recorder.program(inputs, outputs)
    if verify:
        _verify(program, function, arguments)
    return program


def _own(array: Array) -> Array:
    """Copy an array in its layout, or raise an error if it is none."""
    if array.dtype.hasobject:
        raise RecordingError(f"expected arrays and nested tuples of arrays; got {array!r}")
    copy: Array = plain(array).copy("K")
    return copy


def _verify(program: Program, function: Callable[..., Any], arguments: Any) -> None:
    """Compare a program with its function: for slightly other numbers, then for the same again."""
    first = tree_map(np.copy, program.outputs)
    others = tree_map(_nudged, arguments)
    try:
        nudged = _differences(function(*tree_map(np.copy, others)), program(*others))
    except Exception:  # those are not numbers for this function, or it branches between
        nudged = []
    try:
        same = _differences(first, program(*arguments))
    except BranchError:
        same = ["its branches"]
    if nudged or same:
        raise RecordingError(
            "expected a program that does what the function does; got others in "
            f"{', '.join(nudged or same)}: the function changes from call to call, or NumPy does "
            "not see all that it does"
        )


def _differences(expected: Any, got: Any) -> list[str]:
    """Names of the arrays of a tree that are not the same."""
    pairs = zip(leaves("out", expected), leaves("out", got), strict=True)
    return [name for (name, a), (_, b) in pairs if not np.array_equal(a, b, equal_nan=True)]


def _nudged(array: Array) -> Array:
    """Nearly the same numbers, other ones if they are not whole by their dtype."""
    if array.dtype.kind not in "fc":
        return array
    nudged: Array = array * array.dtype.type(1 - 2**-8) + array.dtype.type(2**-10)
    return nudged
