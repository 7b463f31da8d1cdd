"""Validation of targets (layers, or pairs of functions) and of their tensors."""

import copy
import inspect
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from numpy_xlstm.errors import DTypeError
from numpy_xlstm.numerics import SUPPORTED_DTYPES, Array, Arrays, dtype_names

REAL_DTYPES = tuple(d for d in SUPPORTED_DTYPES if d.kind == "f")


def checked_target(target: Any) -> Any:
    """Return a layer, or an object with two functions as methods; raise ``TypeError`` otherwise."""
    layer = target
    if isinstance(target, tuple) and len(target) == 2:
        layer = SimpleNamespace(forward=target[0], backward=target[1])
    functions = getattr(layer, "forward", None), getattr(layer, "backward", None)
    if isinstance(target, type) or not all(map(callable, functions)):
        got = f"the class {target.__name__}" if isinstance(target, type) else repr(target)
        raise TypeError(
            "gradcheck: expected a layer with forward and backward, or a tuple of two functions; "
            f"got {got}"
        )
    return layer


def input_names(forward: Callable[..., Any], inputs: tuple[Any, ...]) -> list[str]:
    """Return the names of the inputs from the forward's arguments; ``xs.0``, … for ``*xs``."""
    signature = inspect.signature(forward)
    try:
        arguments = signature.bind(*inputs).arguments
    except TypeError as error:
        expected = ", ".join(signature.parameters)
        raise TypeError(
            f"gradcheck: expected the inputs of forward({expected}); got {len(inputs)}: {error}"
        ) from None
    names: list[str] = []
    for name, value in arguments.items():
        starred = signature.parameters[name].kind == inspect.Parameter.VAR_POSITIONAL
        names += [f"{name}.{n}" for n in range(len(value))] if starred else [name]
    return names


def check_backward(backward: Callable[..., Any], stateful: bool) -> None:
    """Raise ``TypeError`` unless the backward takes dy, the cache and, with a state, dstate."""
    expected = ("dy", "cache", "dstate") if stateful else ("dy", "cache")
    if not accepts(backward, *expected):
        raise TypeError(
            f"gradcheck: expected backward to take ({', '.join(expected)}), because "
            f"forward returns {'a' if stateful else 'no'} state; "
            f"got backward({', '.join(inspect.signature(backward).parameters)})"
        )


def accepts(backward: Callable[..., Any], *arguments: str) -> bool:
    """Return whether the backward can be called with these arguments."""
    try:
        return isinstance(backward, np.ufunc) or bool(inspect.signature(backward).bind(*arguments))
    except TypeError:
        return False


def none_by_default(forward: Callable[..., Any], position: int) -> bool:
    """Return whether the argument at a position has the default None."""
    parameters = list(inspect.signature(forward).parameters.values())[position : position + 1]
    return any(p.default is None and p.kind != p.KEYWORD_ONLY for p in parameters)


def named_params(target: Any) -> Arrays:
    """Return the parameters of a layer; a pair of functions has none."""
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
    """Return the same layer with other parameters."""
    if hasattr(layer, "with_params"):
        return layer.with_params(params)
    clone = copy.copy(layer)
    try:
        clone.params = params
    except AttributeError as error:
        raise TypeError(
            "gradcheck: expected a layer with with_params(params), or whose params can be set; "
            f"got {type(layer).__name__}: {error}"
        ) from None
    return clone


def checked_tensors(arrays: Arrays) -> Arrays:
    """Return the differentiable tensors, or raise :class:`DTypeError`.

    It is an error if there is no differentiable tensor, or if they do not share one real dtype.
    """
    tensors = _floating("input or parameter", arrays)
    first = next(iter(tensors))
    for name, array in tensors.items():
        if array.dtype != tensors[first].dtype:
            raise DTypeError(
                "gradcheck: expected one dtype for all parameters and inputs; "
                f"got {tensors[first].dtype} for {first}, {array.dtype} for {name}"
            )
    return tensors


def check_outputs(outputs: Arrays, dtype: np.dtype[Any]) -> None:
    """Raise :class:`DTypeError` unless there are real outputs at least as precise as ``dtype``."""
    for name, array in _floating("output", outputs).items():
        if np.finfo(array.dtype).eps > np.finfo(dtype).eps:
            raise DTypeError(
                f"gradcheck: expected {name} of dtype {dtype}, as the inputs; got {array.dtype}"
            )


def _floating(what: str, arrays: Arrays) -> Arrays:
    floating = {name: array for name, array in arrays.items() if is_floating(array)}
    if not floating:
        raise DTypeError(f"gradcheck: expected a floating-point {what}; got none")
    real = dtype_names(REAL_DTYPES)
    for name, array in floating.items():
        if array.dtype not in REAL_DTYPES:
            raise DTypeError(f"gradcheck: expected {name} to be one of {real}; got {array.dtype}")
    return floating


def is_floating(array: Array) -> bool:
    """Return whether an array has a gradient, which integers and booleans do not."""
    return array.dtype.kind in "fc"


def copies(arrays: Mapping[str, Any]) -> Arrays:
    """Return a copy of each array."""
    return {name: np.array(array) for name, array in arrays.items()}


def same(a: Any, b: Any) -> bool:
    """Return whether two arrays are equal, where NaN equals NaN."""
    return np.array_equal(a, b, equal_nan=is_floating(a))
