"""What may be checked, a layer or two functions, and the errors that say what came instead."""

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.errors import DTypeError
from numpy_xlstm.numerics import Array
from numpy_xlstm.numerics.arrays import SUPPORTED_DTYPES

Arrays = dict[str, Array]

REAL_DTYPES = tuple(d for d in SUPPORTED_DTYPES if d.kind == "f")


class Pair(NamedTuple):
    """Two functions, called as if they were methods of a layer."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]


def checked_target(target: Any) -> Any:
    """Return a layer, or two functions as a :class:`Pair`; raise ``TypeError`` for all else."""
    found = Pair(*target) if isinstance(target, tuple) and len(target) == 2 else target
    functions = getattr(found, "forward", None), getattr(found, "backward", None)
    if isinstance(target, type) or not all(map(callable, functions)):
        got = f"the class {target.__name__}" if isinstance(target, type) else repr(target)
        raise TypeError(
            "gradcheck: expected a layer with forward and backward, or a tuple of two functions; "
            f"got {got}"
        )
    return found


def check_inputs(forward: Callable[..., Any], inputs: tuple[Any, ...]) -> None:
    """Raise ``TypeError`` unless the forward takes so many inputs."""
    signature = inspect.signature(forward)
    try:
        signature.bind(*inputs)
    except TypeError as error:
        names = ", ".join(signature.parameters)
        raise TypeError(
            f"gradcheck: expected the inputs of forward({names}); got {len(inputs)}: {error}"
        ) from None


def check_backward(backward: Callable[..., Any], stateful: bool) -> None:
    """Raise ``TypeError`` unless the backward takes dy, the cache and, after a state, dstate."""
    expected = ("dy", "cache", "dstate") if stateful else ("dy", "cache")
    if not accepts(backward, *expected):
        raise TypeError(
            f"gradcheck: expected backward to take ({', '.join(expected)}), as forward returns "
            f"{'a' if stateful else 'no'} state; "
            f"got backward({', '.join(inspect.signature(backward).parameters)})"
        )


def accepts(backward: Callable[..., Any], *arguments: str) -> bool:
    """Whether the backward may be called with these arguments."""
    try:
        return isinstance(backward, np.ufunc) or bool(inspect.signature(backward).bind(*arguments))
    except TypeError:
        return False


def none_by_default(forward: Callable[..., Any], position: int) -> bool:
    """Whether None is the default of the argument at a position."""
    parameters = list(inspect.signature(forward).parameters.values())[position : position + 1]
    return any(p.default is None and p.kind != p.KEYWORD_ONLY for p in parameters)


def argument_names(forward: Callable[..., Any], count: int) -> list[str]:
    """Names of the inputs: those of the forward's arguments, ``xs.0`` and so on for ``*xs``."""
    names: list[str] = []
    for parameter in inspect.signature(forward).parameters.values():
        if parameter.kind == parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}.{n}" for n in range(count - len(names))]
        elif parameter.kind != parameter.KEYWORD_ONLY:
            names.append(parameter.name)
    return names[:count]


def named_params(target: Any) -> Arrays:
    """The parameters of a layer; none of two functions."""
    params = getattr(target, "params", {})
    if not isinstance(params, Mapping):
        raise TypeError(
            f"gradcheck: expected params to be a dict of arrays; got {type(params).__name__}"
        )
    for name, array in params.items():
        if not isinstance(array, np.ndarray | np.generic):
            raise DTypeError(
                f"gradcheck: expected params[{name!r}] to be a NumPy array; "
                f"got {type(array).__name__}"
            )
    return {name: np.asarray(array) for name, array in params.items()}


def over(layer: Any, params: Arrays) -> Any:
    """The same layer over other parameters."""
    if hasattr(layer, "with_params"):
        return layer.with_params(params)
    clone = copy.copy(layer)
    try:
        clone.params = params
    except AttributeError as error:
        raise TypeError(
            "gradcheck: expected a layer that has with_params(params), or whose params can be set; "
            f"got {type(layer).__name__}: {error}"
        ) from None
    return clone


def check_tensors(tensors: Arrays) -> None:
    """Raise :class:`DTypeError` unless there are tensors, of one real dtype that is supported."""
    if not tensors:
        raise DTypeError("gradcheck: expected a floating-point input or parameter; got none")
    first = next(iter(tensors))
    for name, array in tensors.items():
        _check_real(name, array)
        if array.dtype != tensors[first].dtype:
            raise DTypeError(
                "gradcheck: expected one dtype for all parameters and inputs; "
                f"got {tensors[first].dtype} for {first}, {array.dtype} for {name}"
            )


def check_outputs(outputs: Arrays, dtype: np.dtype[Any]) -> None:
    """Raise :class:`DTypeError` unless there are real outputs, no less precise than ``dtype``."""
    floating = {name: array for name, array in outputs.items() if is_floating(array)}
    if not floating:
        raise DTypeError("gradcheck: expected a floating-point output; got none")
    for name, array in floating.items():
        _check_real(name, array)
        if np.finfo(array.dtype).eps > np.finfo(dtype).eps:
            raise DTypeError(
                f"gradcheck: expected {name} of dtype {dtype}, as the inputs; got {array.dtype}"
            )


def is_floating(array: Array) -> bool:
    """Whether an array has a gradient: integers and the like have none."""
    return array.dtype.kind in "fc"


def copies(arrays: Mapping[str, Any]) -> Arrays:
    """A copy of each array."""
    return {name: np.array(array) for name, array in arrays.items()}


def same(a: Any, b: Any) -> bool:
    """Whether two arrays are equal, NaN included."""
    return np.array_equal(a, b, equal_nan=is_floating(a))


def strided(array: Array) -> Array:
    """A copy that is contiguous in no order: every other number, the last axis the slowest."""
    wide = np.zeros((*array.shape[::-1], 2), array.dtype)
    wide[..., 0] = array.T
    return wide[..., 0].T


def _check_real(name: str, array: Array) -> None:
    if array.dtype not in REAL_DTYPES:
        expected = ", ".join(d.name for d in REAL_DTYPES)
        raise DTypeError(f"gradcheck: expected {name} to be one of {expected}; got {array.dtype}")
