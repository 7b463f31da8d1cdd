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
    arguments in a way that NumPy does not tell, see :mod:`numpy_xlstm.recording.array`; a test
    records every layer and model of this package, but for a function of your own, compare a run
    for other inputs with the function. One thread at a time may run a program.

    Parameters
    ----------
    function : Callable
        Maps arrays, and nested tuples of arrays, to such.
    *arguments
        Shapes, dtypes and first numbers of its arguments, which are copied. A Python number is an
        array of shape () and float64 or int64.
    verify : bool
        Whether to run the program for these arguments, and compare with what the function returned.

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
            return _own(array)
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
        _check_repeated(program, arguments)
    return program


def _own(array: Array) -> Array:
    """Copy an array in its layout, or raise an error if it is none."""
    if array.dtype.hasobject:
        raise RecordingError(f"expected arrays and nested tuples of arrays; got {array!r}")
    copy: Array = plain(array).copy("K")
    return copy


def _check_repeated(program: Program, arguments: Any) -> None:
    """Run a program for the arguments that it was recorded with; it must do the same again."""
    expected = tree_map(np.copy, program.outputs)
    for (_, place), (_, array) in zip(
        leaves("", program.inputs), leaves("", arguments), strict=True
    ):
        place[...] = array
    try:
        program.run()
        pairs = zip(leaves("", program.outputs), leaves("", expected), strict=True)
        same = all(_are_equal(a, b) for (_, a), (_, b) in pairs)
    except BranchError:
        same = False
    if not same:
        raise RecordingError(
            "expected a function that does the same at every call; got one that changes an array "
            "which it did not make from its arguments (make it with like=)"
        )


def _are_equal(a: Array, b: Array) -> bool:
    """Whether two arrays are, NaN included; the quick question first."""
    return np.array_equal(a, b) or np.array_equal(a, b, equal_nan=True)
