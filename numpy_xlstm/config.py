"""Configurations: dataclasses whose values are checked by the types of their fields."""

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Self

import numpy as np

from numpy_xlstm.errors import CheckpointError, OptionError
from numpy_xlstm.numerics import LARGEST, checked_positive, checked_range, did_you_mean


@dataclasses.dataclass(frozen=True)
class Config:
    """Base class of configurations: frozen dataclasses that are checked when they are made.

    The annotation of a field is a type such as ``int``, ``list[int]``, ``tuple[int, float]``,
    ``Literal["a", "b"]``, another configuration, or a union of these. It may have additional
    checks, as in ``Annotated[int, checked_positive]``, that are functions of the name and the value
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
        """Make values plain; raise :class:`OptionError` if one does not have its field's type."""
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
            for allowed in _alternatives(hints[name]):
                if hasattr(allowed.kind, "from_dict") and isinstance(value, Mapping):
                    known[name] = allowed.kind.from_dict(value, others=others, place=before + name)
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


Positive = typing.Annotated[int, checked_positive]
Probability = typing.Annotated[float, partial(checked_range, low=0, high=1)]
Count = typing.Annotated[int, partial(checked_range, low=0, high=2**63)]
Real = typing.Annotated[float, partial(checked_range, low=-LARGEST, high=LARGEST)]
NotNegative = typing.Annotated[float, partial(checked_range, low=0, high=LARGEST)]

FEW = partial(checked_range, low=0, high=1025)
"""Check of a number of blocks, or of steps in a convolution: many take long, but little memory."""


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    """Return the annotations of the fields, which are the same for every object of a class."""
    return typing.get_type_hints(kind, include_extras=True)


class Allowed(typing.NamedTuple):
    """A type or a single value that a field may have."""

    kind: Any
    entries: tuple[Any, ...]
    checks: tuple[Callable[[str, Any], object], ...]

    def fits(self, value: Any) -> bool:
        """Return whether a value has the type, or equals the single value.

        An int is accepted as a float, and a bool is not accepted as an int. Tuples are lists of a
        certain length, and their entries are not examined.
        """
        if self.kind is tuple:
            return isinstance(value, list) and len(value) == len(self.entries)
        if not isinstance(self.kind, type):
            return isinstance(value, bool) == isinstance(self.kind, bool) and value == self.kind
        if self.kind is float and type(value) is int:
            return abs(value) < 2**1023
        return isinstance(value, self.kind) and isinstance(value, bool) == (self.kind is bool)

    def __str__(self) -> str:
        """Return the text for errors."""
        if self.kind is tuple:
            return f"a list of {len(self.entries)}"
        if not isinstance(self.kind, type):
            return repr(self.kind)
        if issubclass(self.kind, Config | dict):
            return "a mapping of names"
        entries = [str(allowed) for own in self.entries for allowed in _alternatives(own)]
        return self.kind.__name__ + (f"[{', '.join(entries)}]" if entries else "")


@functools.lru_cache(None, typed=True)  # True is not 1
def _alternatives(hint: Any, *checks: Any) -> list[Allowed]:
    """Return what a type, a union or a Literal allows, with the checks of annotations."""
    kind, inner = typing.get_origin(hint), typing.get_args(hint)
    if kind is typing.Annotated:
        return _alternatives(inner[0], *inner[1:], *checks)
    if kind in (typing.Union, types.UnionType, typing.Literal):
        return [allowed for own in inner for allowed in _alternatives(own, *checks)]
    return [Allowed(None if hint is type(None) else kind or hint, inner, checks)]


def _check(name: str, value: Any, hint: Any) -> None:
    """Raise :class:`OptionError` unless a value and its entries have their types and ranges."""
    alternatives = _alternatives(hint)
    fitting = next((allowed for allowed in alternatives if allowed.fits(value)), None)
    if fitting is None:
        expected = " or ".join(map(str, alternatives))
        raise OptionError(f"{name}: expected {expected}; got {value!r:.80}")
    if isinstance(value, list):
        hints = fitting.entries * len(value) if fitting.kind is list else fitting.entries
        typed = bool(fitting.entries)  # a bare list has no type of entries
        for n, (entry, inner) in enumerate(zip(value, hints, strict=typed)):
            _check(f"{name}[{n}]", entry, inner)
    for check in fitting.checks if value is not None else ():
        check(name, value)


def _plain(value: Any) -> Any:
    """Convert NumPy numbers, tuples and sets to Python numbers and lists, for JSON and YAML."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple | range | set | frozenset):
        return [_plain(entry) for entry in value]
    return value
