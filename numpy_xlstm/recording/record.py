"""Record what a function does with its arguments."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from numpy_xlstm.numerics import Array
from numpy_xlstm.recording.array import RecordedArray, plain, recorded
from numpy_xlstm.recording.program import Program, Recorder
from numpy_xlstm.trees import leaves, tree_map


def record(function: Callable[..., Any], *arguments: Any) -> Program:
    """Run a function once and return the operations of NumPy that it consists of, as a program.

    Other arrays that the function uses, such as parameters, are constants of the program: an
    operation on nothing but constants is done once and for all. So is what depends on the
    arguments in a way that NumPy does not tell, see :mod:`numpy_xlstm.recording.array`: compare a
    run for other inputs with the function, as :class:`numpy_xlstm.generation.Steps` does.

    Parameters
    ----------
    function : Callable
        Maps arrays, and nested tuples of arrays, to such.
    *arguments
        Shapes, dtypes and first numbers of its arguments; they are copied.

    Returns
    -------
    Program
        It holds the results for these arguments.

    Raises
    ------
    RecordingError
        If the function does something that cannot be recorded.

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
    inputs = tree_map(np.copy, arguments)
    given = {id(array) for _, array in leaves("", inputs)}

    def settled(array: Array) -> Array:
        """An output, in an array that is no input as well."""
        if not isinstance(array, RecordedArray):
            return array
        shared = not given.isdisjoint(map(id, _bases(array)))
        output: Array = plain(array.copy() if shared else array)
        return output

    results = function(*tree_map(partial(recorded, recorder=recorder), inputs))
    outputs = tree_map(settled, results)
    return Program(inputs, outputs, tuple(recorder.operations))


def _bases(array: Array | None) -> Iterator[Array]:
    """The array, what it is a view of, and so on."""
    while isinstance(array, np.ndarray):
        yield array
        array = array.base
