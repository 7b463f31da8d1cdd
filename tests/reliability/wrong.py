"""About fifty kinds of arguments, most of which are invalid in most places."""

import fractions
import types
import typing
from collections.abc import Callable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

Kind = Callable[[Any], Any]
"""Function from a valid argument to one that may be invalid."""


class Subclass(np.ndarray):
    """Array of a subclass."""


SCALARS: dict[str, Any] = {
    f"{value!r:.40}": value
    for value in (
        *(None, True, np.True_, 0, -1, 1, 10**9, 2**63, 10**30, 0.5, -1.5, 1e308, 1e-320),
        *(float("nan"), float("inf"), fractions.Fraction(1, 3), 1 + 2j, np.float16(0.5)),
        *(np.int8(-3), "", "abc", "a\0b", "\ud800", "\x1b[2J", b"abc"),
        *([], [1, 2.5, "a"], [[1], [2, 3]], (), (1, None), {}, {"a": 1, 2: "b"}, {1, 2}),
        *(object(), int, lambda *args: args, types, np.datetime64("2020-01-01")),
        *(Path("/nonexistent/file"), Path("/"), Path("/dev/zero")),
        *(np.array(["a", "b"]), np.array([None, 1], object), np.zeros(2, [("a", float)])),
        *(np.zeros((0, 3)), np.array(1.0), np.ones((2, 3)), np.zeros((1,) * 20)),
    )
}
"""Arguments that replace any argument."""

ARRAYS: dict[str, Kind] = {
    "another dtype": lambda a: a.astype(np.float32 if a.dtype != np.float32 else np.float64),
    "half precision": lambda a: a.astype(np.float16),
    "whole numbers": lambda a: (10 * a.real).astype(np.int32),
    "unsigned": lambda a: a.real.astype(np.uint8),
    "booleans": lambda a: a > 0,
    "another byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "NaN within": lambda a: _with(a, np.nan),
    "infinity within": lambda a: _with(a, np.inf),
    "minus infinity": lambda a: _with(a, -np.inf),
    "an axis more": lambda a: a[None],
    "an axis less": lambda a: a[0] if a.ndim else a,
    "turned": lambda a: a.T,
    "shorter": lambda a: a[..., :-1] if a.ndim else a,
    "no rows": lambda a: a[:0] if a.ndim else a,
    "a row more": lambda a: np.concatenate([a, a[:1]]) if a.ndim else a,
    "a matrix": lambda a: a.reshape(1, -1).view(np.matrix),
    "masked": lambda a: np.ma.masked_array(a, a > 0),
    "a subclass": lambda a: a.view(Subclass),
    "a list of it": lambda a: a.tolist(),
    "read only": lambda a: _read_only(a),
    "not contiguous": lambda a: np.repeat(a, 2, -1)[..., ::2] if a.ndim else a,
    "negative": lambda a: ~a if a.dtype.kind == "b" else -a - 1,
    "large": lambda a: a + a.dtype.type(100),
}
"""Replacements of an array."""


def _with(array: Any, value: float) -> Any:
    changed = np.array(array) if array.dtype.kind in "fc" else array.astype(np.float64)
    changed.reshape(-1)[-1:] = value
    return changed


def _read_only(array: Any) -> Any:
    array = array.copy()
    array.flags.writeable = False
    return array


def wrong(good: Any) -> dict[str, Any]:
    """Return names and values of all replacements of an argument."""
    found = dict(SCALARS)
    if isinstance(good, np.ndarray):
        found |= {name: change(good) for name, change in ARRAYS.items()}
    if isinstance(good, tuple) and good and not type(good).__name__.endswith("Cache"):
        found["a list of its parts"] = list(good)
        found["a plain tuple"] = tuple(good)
        found["one part less"] = tuple(good[:-1])
        found["one part more"] = (*good, None)
        for name, change in ARRAYS.items():
            first = next((n for n, part in enumerate(good) if isinstance(part, np.ndarray)), None)
            if first is not None:
                parts = (*good[:first], change(good[first]), *good[first + 1 :])
                found[f"{name} in a part"] = _like(good, parts)
    if isinstance(good, Mapping) and good:
        names = [*good]
        found["one name less"] = {name: good[name] for name in names[:-1]}
        found["one name more"] = {**good, "more": good[names[0]]}
        found["None in a part"] = {**good, names[0]: None}
        for name, change in ARRAYS.items():
            if isinstance(good[names[0]], np.ndarray):
                found[f"{name} in a part"] = {**good, names[0]: change(good[names[0]])}
    return found


def _like(good: Any, parts: tuple[Any, ...]) -> Any:
    return type(good)(*parts) if hasattr(good, "_fields") else parts


def fits(value: Any, annotation: Any, good: Any) -> bool:
    """Return whether a value matches its annotation or, if that is Any, the type of a valid one."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any or isinstance(annotation, typing.TypeVar):
        return value is None or _alike(value, good)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, each, good) for each in inner)
    if origin is typing.Literal:
        return isinstance(value, bool | int | str) and value in inner
    kind = type(None) if annotation is None else origin or annotation
    if kind in NUMBERS:
        value = value[()] if isinstance(value, np.ndarray) and not value.ndim else value
        return isinstance(value, NUMBERS[kind]) and not isinstance(value, bool)
    return not isinstance(kind, type) or _is(value, kind)


NUMBERS: dict[Any, Any] = {int: (int, np.integer), float: Real}


def _alike(value: Any, good: Any) -> bool:
    if isinstance(good, bool):
        return isinstance(value, bool | np.bool_)
    number = isinstance(good, Real) and isinstance(value, Real)
    several = isinstance(good, tuple) and isinstance(value, tuple | list)
    return number or several or isinstance(value, type(good))


def _is(value: Any, kind: type) -> bool:
    if kind is bool:
        return isinstance(value, bool | np.bool_)
    if kind is list:  # in a configuration, also a tuple or a set, whose order does not matter
        return isinstance(value, list | tuple | set | np.ndarray)
    if kind is tuple:
        return isinstance(value, list | tuple | np.ndarray)
    if kind is np.ndarray:  # plain, a number of NumPy, or a list of indices
        plain = type(value) in (np.ndarray, np.memmap) or isinstance(value, np.generic)
        return plain or (isinstance(value, list | tuple) and all(type(n) is int for n in value))
    try:
        return isinstance(value, kind)
    except TypeError:  # a protocol
        return True
