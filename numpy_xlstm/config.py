"""Configurations: dataclasses whose values are checked by the types of their fields."""

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Mapping
from functools import partial
from typing import Any, Self

import numpy as np

from numpy_xlstm.errors import CheckpointError, OptionError
from numpy_xlstm.numerics import check_positive, did_you_mean


@dataclasses.dataclass(frozen=True)
class Config:
    """Base class of configurations: frozen dataclasses that are checked when they are made.

    The annotation of a field is a type such as ``int``, ``list[int]``, ``tuple[int, float]``,
    ``Literal["a", "b"]``, another configuration, or a union of these. It may have additional
    checks, as in ``Annotated[int, check_positive]``, that are functions of the name and the value
    and are not applied to None. ``dataclasses.replace`` makes a configuration with other values.

    Names with a leading underscore are skipped: the official package computes these fields from the
    others.

    Examples
    --------
    >>> @dataclasses.dataclass(frozen=True)
    ... class Note(Config):
    ...     step: Count
    ...     losses: list[Real] = dataclasses.field(default_factory=list)
    >>> Note.from_dict({"step": 3, "losses": [1.5]})
    Note(step=3, losses=[1.5])
    >>> Note.read("run.notes", {"step": 3, "losses": [1.5, "x"]})
    Traceback (most recent call last):
    numpy_xlstm.errors.CheckpointError: run.notes.losses[1]: expected float; got 'x'
    """

    def __post_init__(self) -> None:
        """Raise :class:`OptionError` if a value does not have the type of its field."""
        kind: Any = type(self)
        for name, hint in _hints(kind).items():
            value = _plain(getattr(self, name))
            object.__setattr__(self, name, value)
            _check(name, value, hint)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, others: bool = False, place: str = "") -> Self:
        """Make a configuration from nested dictionaries; skip other names if ``others`` is True.

        Raises
        ------
        OptionError
            If a name is unknown or missing, or a value is invalid. The message begins with the
            place of the values, such as "training", if it is given.
        """
        here = place or cls.__name__
        if not isinstance(values, Mapping):
            raise OptionError(f"{here}: expected a mapping of names; got {values!r:.80}")
        given = {str(name): value for name, value in values.items() if str(name)[:1] != "_"}
        fields = inspect.signature(cls).parameters
        for name in [] if others else sorted(given.keys() - fields.keys()):
            hint = did_you_mean(name, fields) or f"; it has {', '.join(fields)}"
            raise OptionError(f"{here}: expected the names of its fields; got {name!r:.80}{hint}")
        required = [name for name, field in fields.items() if field.default is field.empty]
        if needed := [name for name in required if name not in given]:
            raise OptionError(f"{here}: expected {', '.join(needed)} too; got {given!s:.80}")
        known = {name: value for name, value in given.items() if name in fields}
        own: Any = cls  # hashable
        hints, before = _hints(own), place and f"{place}."
        for name, value in known.items():
            for kind in _alternatives(hints[name]):
                if hasattr(kind, "from_dict") and isinstance(value, Mapping):
                    known[name] = kind.from_dict(value, place=before + name)
        try:
            return cls(**known)
        except OptionError as error:
            raise OptionError(f"{before}{error}") from error

    @classmethod
    def read(cls, place: str, values: Any, *, others: bool = False) -> Self:
        """Do the same with values in a file, at a place such as "training".

        Raises
        ------
        CheckpointError
            If a name is unknown or missing, or a value is invalid.
        """
        try:
            return cls.from_dict(values, others=others, place=place)
        except OptionError as error:
            raise CheckpointError(str(error)) from error

    def to_dict(self) -> dict[str, Any]:
        """Return nested dictionaries of plain values, the input of :meth:`from_dict`."""
        return dataclasses.asdict(self)


def check_range(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Raise :class:`OptionError` unless low ≤ value < high."""
    if not low <= value < high:
        raise OptionError(f"{name}: expected a number in [{low:g}, {high:g}); got {value!r:.80}")


LARGEST = 3e38
"""Bound of numbers that are finite also in float32."""

Positive = typing.Annotated[int, check_positive]
Probability = typing.Annotated[float, partial(check_range, low=0, high=1)]
Count = typing.Annotated[int, partial(check_range, low=0, high=2**63)]
Real = typing.Annotated[float, partial(check_range, low=-LARGEST, high=LARGEST)]
NotNegative = typing.Annotated[float, partial(check_range, low=0, high=LARGEST)]


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    """Return the annotations of the fields, which are the same for every object of a class."""
    return typing.get_type_hints(kind, include_extras=True)


def _alternatives(hint: Any) -> list[Any]:
    """Return the types and single values that a type, a union or a Literal allows."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType, typing.Literal):
        return [kind for inner in typing.get_args(hint) for kind in _alternatives(inner)]
    return [None if hint is type(None) else hint]


def _check(name: str, value: Any, hint: Any) -> None:
    """Raise :class:`OptionError` unless a value and its entries have their types and ranges."""
    if typing.get_origin(hint) is typing.Annotated:
        inner, *checks = typing.get_args(hint)
        _check(name, value, inner)
        for check in checks if value is not None else ():
            check(name, value)
        return
    allowed = _alternatives(hint)
    if not (fitting := [kind for kind in allowed if _fits(value, kind)]):
        expected = " or ".join(map(_text, allowed))
        raise OptionError(f"{name}: expected {expected}; got {value!r:.80}")
    if fitting[0] is not hint:
        _check(name, value, fitting[0])
    elif isinstance(value, list):
        inner = typing.get_args(hint)
        entries = inner * len(value) if typing.get_origin(hint) is list else inner
        for n, (entry, inner_hint) in enumerate(zip(value, entries, strict=bool(inner))):
            _check(f"{name}[{n}]", entry, inner_hint)


def _text(hint: Any) -> str:
    """Return the name of a type or of a single value, for errors."""
    hint = _bare(hint)
    kind = typing.get_origin(hint) or hint
    if kind is tuple:
        return f"a list of {len(typing.get_args(hint))}"
    if isinstance(kind, type) and issubclass(kind, Config | dict):
        return "a mapping of names"
    return kind.__name__ if isinstance(hint, type) else repr(hint)


def _bare(hint: Any) -> Any:
    """Return a type without its checks."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value has a type, or equals it if it is a single value.

    An int is accepted as a float, and a bool is not accepted as an int. Tuples are lists of a
    certain length, and their entries are not examined.
    """
    if typing.get_origin(hint) is typing.Annotated:
        return any(_fits(value, kind) for kind in _alternatives(_bare(hint)))
    kind = typing.get_origin(hint) or hint
    if kind is tuple:
        return isinstance(value, list) and len(value) == len(typing.get_args(hint))
    if not isinstance(kind, type):
        return isinstance(value, bool) == isinstance(kind, bool) and bool(value == kind)
    if kind is float and type(value) is int:
        return abs(value) < 2**1023
    return isinstance(value, kind) and isinstance(value, bool) == (kind is bool)


def _plain(value: Any) -> Any:
    """Convert NumPy numbers, tuples and sets to Python numbers and lists, for JSON and YAML."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple | range | set | frozenset):
        return [_plain(entry) for entry in value]
    return value
