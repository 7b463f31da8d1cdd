"""Reading, checking and writing configurations: plain dataclasses, JSON and YAML."""

import dataclasses
import inspect
import json
import os
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from numpy_xlstm.disk import read_regular, write_text
from numpy_xlstm.documents import MAX_BYTES, parse_json, parse_yaml
from numpy_xlstm.errors import OptionError, printable
from numpy_xlstm.numerics import check_positive, checked_path, did_you_mean


@dataclasses.dataclass(frozen=True)
class Config:
    """Base class of configurations: frozen dataclasses that are checked when they are made.

    ``dataclasses.replace`` makes a configuration with other values. Names with a leading underscore
    are skipped: the official package computes these fields from the others.
    """

    def __post_init__(self) -> None:
        """Raise :class:`OptionError` if a value does not have the type of its field.

        A type may have an additional check, as in ``Annotated[int, check_positive]``, which is not
        applied to None.
        """
        for name, (allowed, checks) in _rules(type(self)).items():
            value = _plain(getattr(self, name))
            object.__setattr__(self, name, value)
            if not any(_fits(value, kind) for kind in allowed):
                kinds = [k.__name__ if isinstance(k, type) else repr(k) for k in allowed]
                raise OptionError(f"{name}: expected {' or '.join(kinds)}; got {value!r}")
            for check in checks if value is not None else ():
                check(name, value)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make a configuration from nested dictionaries.

        Raises
        ------
        OptionError
            If a name is unknown or missing, or a value is invalid.
        """
        if not isinstance(values, Mapping):
            raise OptionError(f"{cls.__name__}: expected a mapping of names; got {values!r}")
        given = {str(name): value for name, value in values.items() if str(name)[:1] != "_"}
        fields, here = inspect.signature(cls).parameters, f"{cls.__name__}: expected"
        for name in given.keys() - fields.keys():
            hint = did_you_mean(name, fields) or f"; it has {', '.join(fields)}"
            raise OptionError(f"{here} the names of its fields; got {name!r}{hint}")
        required = [name for name, field in fields.items() if field.default is field.empty]
        if needed := [name for name in required if name not in given]:
            raise OptionError(f"{here} {', '.join(needed)} too; got {given!r}")
        for name, (allowed, _) in _rules(cls).items():
            for kind in allowed:
                if hasattr(kind, "from_dict") and isinstance(given.get(name), Mapping):
                    given[name] = kind.from_dict(given[name])
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        """Return nested dictionaries of plain values, the input of :meth:`from_dict`."""
        return dataclasses.asdict(self)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a configuration from a file, which is YAML if it ends in .yaml or .yml, else JSON.

        Raises
        ------
        OptionError, CheckpointError, OSError
            If the file does not contain such a configuration, is not a regular file of at most
            25 MB, or cannot be read.
        """
        return cls.from_dict(read_values(path))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the configuration to a file, in the format given by the suffix of its name.

        Raises
        ------
        OptionError, CheckpointError, OSError
            If the suffix is not .json, .yaml or .yml, the path is not that of a regular file, or
            the file cannot be written.
        """
        name, _, write = _format(path)
        if name == "JSON" and checked_path("config", path).suffix.lower() != ".json":
            raise OptionError(f"config: expected a name that ends in .json or .yaml; got {path}")
        write_text(Path(path), write(self.to_dict()))


def read_values(path: str | os.PathLike[str]) -> Any:
    """Read the values of a configuration from a YAML or JSON file."""
    name, parse, _ = _format(path)
    text = read_regular("config", path, MAX_BYTES)
    try:
        return parse(text)
    except ValueError as error:
        reason = printable(" ".join(str(error).split()))
        raise OptionError(f"config: expected {name}; {path} is not ({reason})") from None


def check_range(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Raise :class:`OptionError` unless low ≤ value < high."""
    if not low <= value < high:
        raise OptionError(f"{name}: expected a number in [{low:g}, {high:g}); got {value!r}")


Positive = typing.Annotated[int, check_positive]
Probability = typing.Annotated[float, partial(check_range, low=0, high=1)]


@cache
def _rules(kind: Any) -> dict[str, tuple[list[Any], tuple[Any, ...]]]:
    """Return the allowed types or values of each field, and its additional checks."""
    plain, full = (typing.get_type_hints(kind, include_extras=extras) for extras in (False, True))
    return {n: (_alternatives(plain[n]), getattr(full[n], "__metadata__", ())) for n in plain}


def _alternatives(hint: Any) -> list[Any]:
    """Return the types and single values that a type, a union or a Literal allows."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType, typing.Literal):
        return [kind for each in typing.get_args(hint) for kind in _alternatives(each)]
    return [None if hint is type(None) else hint]


def _fits(value: Any, kind: Any) -> bool:
    """Return whether a value has the type ``kind``, or equals it if it is a single value.

    An int is accepted as a float, and a bool is not accepted as an int.
    """
    if typing.get_origin(kind) is list:
        (entry,) = typing.get_args(kind)
        return isinstance(value, list) and all(_fits(each, entry) for each in value)
    kind = typing.get_origin(kind) or kind
    if not isinstance(kind, type):
        return bool(value == kind)
    kinds = (int, float) if kind is float else (kind,)
    return isinstance(value, kinds) and isinstance(value, bool) == (kind is bool)


def _plain(value: Any) -> Any:
    """Convert NumPy numbers, tuples and sets to Python numbers and lists, for JSON and YAML."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple | range | set | frozenset):
        return [_plain(entry) for entry in value]
    return value


def _format(path: str | os.PathLike[str]) -> tuple[str, Callable[[bytes], Any], Any]:
    """Return the name of a file's format, its parser and its writer."""
    if checked_path("config", path).suffix.lower() not in (".yaml", ".yml"):
        return "JSON", parse_json, lambda values: json.dumps(values, indent=2) + "\n"
    try:
        import yaml
    except ImportError:
        raise OptionError(
            "config: expected the cli extra for a YAML file: pip install 'numpy-xlstm[cli]'; "
            "JSON needs nothing"
        ) from None
    return "YAML", parse_yaml, partial(yaml.safe_dump, sort_keys=False)
