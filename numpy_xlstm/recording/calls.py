"""How an operation is done, so that its call takes the least time."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from numpy_xlstm.errors import BranchError
from numpy_xlstm.numerics import Array
from numpy_xlstm.recording.functions import ALIKE, SLOW_WITH_NUMBERS, WITH_OUT
from numpy_xlstm.recording.memory import owner

if TYPE_CHECKING:
    from numpy_xlstm.recording.program import Operation

Call = Callable[[], Any]

BUFFER = 4096
"""Entries that NumPy takes at a time. With more, it copies a factor that is the same for many."""


def call_of(operation: "Operation", written: set[int]) -> Call:
    """Return an operation as a call without arguments.

    Parameters
    ----------
    operation : Operation
        What is to be done.
    written : set of int
        The ids of all arrays that are written to. The others are constants.
    """
    call = _plain_call(operation, written)
    return call if operation.errors is None else partial(within, operation.errors, call)


def _plain_call(operation: "Operation", written: set[int]) -> Call:
    function, given, options, result, _ = operation
    if result is None:
        return partial(function, *given)
    if function is np.copyto:
        (value,) = given
        if isinstance(value, int | float | complex | np.generic):
            value = np.asarray(value).astype(result.dtype)
        return partial(np.copyto, result, value, **options)
    if isinstance(function, np.ufunc) and not options:
        operands = _operands(function, given, result, written)
        if function in SLOW_WITH_NUMBERS:  # which must have out=, as of NumPy 2.4
            return partial(function, *operands, out=result)
        return partial(function, *operands, result)  # in half the time of out=result
    if function in WITH_OUT or isinstance(getattr(function, "__self__", function), np.ufunc):
        return partial(function, *given, out=result, **options)
    return partial(assign, result, function, *given, **options)


def _operands(ufunc: np.ufunc, given: Any, result: Array, written: set[int]) -> list[Any]:
    """What a ufunc is given: numbers as arrays, and arrays as near to the result as can be."""
    operands = _as_arrays(ufunc, given)
    if ufunc not in ALIKE or result.size > BUFFER:
        return operands
    return [_alike(operand, result, ufunc, written) for operand in operands]


def _alike(operand: Any, result: Array, ufunc: np.ufunc, written: set[int]) -> Any:
    """An operand for which NumPy need not find out where its numbers are to be repeated.

    That takes it as long as the rest of a small operation. A single number has no shape, then; and
    a constant has that of the result, if it is no single number or those are slow. Complex numbers
    without a shape are multiplied in another way, with other last bits.
    """
    if not isinstance(operand, np.ndarray) or operand.shape == result.shape:
        return operand
    single = operand.size == 1 and ufunc not in SLOW_WITH_NUMBERS and result.dtype.kind != "c"
    if single or id(owner(operand)) in written:
        return operand.reshape(()) if single else operand
    return np.broadcast_to(operand, result.shape).copy()


def _as_arrays(ufunc: np.ufunc, given: Any) -> list[Any]:
    """Numbers as arrays, of the dtype that the ufunc would turn them into at each run."""
    if all(isinstance(operand, np.ndarray) for operand in given):
        return list(given)
    kinds = [getattr(operand, "dtype", type(operand)) for operand in given]
    if any(isinstance(kind, type) and kind not in (int, float, complex) for kind in kinds):
        return list(given)
    dtypes = ufunc.resolve_dtypes((*kinds, *[None] * ufunc.nout))
    return [
        operand
        if isinstance(operand, np.ndarray) or dtype.kind not in "fc"
        else np.asarray(operand, dtype)
        for operand, dtype in zip(given, dtypes, strict=False)
    ]


def check(condition: Array, expected: bool) -> None:
    """Raise :class:`BranchError` unless the condition is as it was."""
    if bool(condition) is not expected:
        raise BranchError(f"expected a condition to be {expected} again; it is {not expected} now")


def assign(target: Array, function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """Write to ``target`` what a function returns that cannot do so itself."""
    target[...] = function(*arguments, **options)


def within(errors: Any, call: Call) -> None:
    """Do an operation that was recorded under another treatment of floating-point errors."""
    with np.errstate(**errors):
        call()
