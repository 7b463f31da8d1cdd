"""Reading, checking and writing configurations: plain dataclasses, JSON and YAML."""

import dataclasses
import difflib
import json
import os
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from numpy_xlstm.errors import OptionError


@dataclasses.dataclass
class Config:
    """Base of all configurations: a dataclass that is checked when it is made.

    A field whose name begins with an underscore in a file of the official package is what that
    package has computed from the others; it is skipped.
    """

    def __post_init__(self) -> None:
        """Raise :class:`OptionError` where a value is not of the type of its field.

        A type may carry a check of its own, as ``Annotated[int, check_positive]``.
        """
        checks = typing.get_type_hints(type(self), include_extras=True)
        for name, hint in typing.get_type_hints(type(self)).items():
            value = _plain(getattr(self, name))
            setattr(self, name, value)
            if not _fits(value, hint):
                raise OptionError(f"{name}: expected {_describe(hint)}; got {value!r}")
            for check in getattr(checks[name], "__metadata__", ()):
                check(name, value)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make a configuration from nested dictionaries.

        Raises
        ------
        OptionError
            If a name is unknown or missing, or a value is not what it should be.
        """
        if not isinstance(values, Mapping):
            raise OptionError(f"{cls.__name__}: expected a mapping of names; got {values!r}")
        given = {str(name): value for name, value in values.items() if str(name)[:1] != "_"}
        hints, here = typing.get_type_hints(cls), f"{cls.__name__}: expected"
        for name in given.keys() - hints.keys():
            close = difflib.get_close_matches(name, hints, n=1)
            hint = f", did you mean {close[0]!r}?" if close else f"; it has {', '.join(hints)}"
            raise OptionError(f"{here} the names of its fields; got {name!r}{hint}")
        required = [
            field.name
            for field in dataclasses.fields(cls)
            if field.default is field.default_factory is dataclasses.MISSING
        ]
        if needed := [name for name in required if name not in given]:
            raise OptionError(f"{here} {', '.join(needed)} too; got {given!r}")
        return cls(**{name: _parsed(value, hints[name]) for name, value in given.items()})

    @classmethod
    def checked(cls, config: Any) -> Self:
        """Return a copy, checked again, or raise :class:`OptionError` for another kind."""
        if not isinstance(config, cls):
            raise OptionError(f"config: expected a {cls.__name__}; got {type(config).__name__}")
        return type(config).from_dict(config.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return nested dictionaries of plain values, which :meth:`from_dict` reads."""
        return dataclasses.asdict(self)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a configuration from a file, YAML if it ends in .yaml or .yml, else JSON.

        Raises
        ------
        OptionError
            If the file does not hold such a configuration.
        OSError
            If it cannot be read.
        """
        if not Path(path).exists():
            raise FileNotFoundError(f"config: expected a file; {path} does not exist")
        name, read, failure = "JSON", json.loads, ValueError
        if _is_yaml(path):
            yaml = _yaml()
            name, read, failure = "YAML", yaml.safe_load, yaml.YAMLError
        try:
            values = read(Path(path).read_bytes().decode("utf-8"))
        except (UnicodeDecodeError, failure) as error:
            reason = " ".join(str(error).split())
            raise OptionError(f"config: expected {name}; {path} is not ({reason})") from None
        return cls.from_dict(values)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the configuration to a file, in the format that its name asks for.

        Raises
        ------
        OptionError
            If the name ends neither in .json nor in .yaml or .yml.
        OSError
            If the file cannot be written.
        """
        if _is_yaml(path):
            text = _yaml().safe_dump(self.to_dict(), sort_keys=False)
        elif Path(path).suffix.lower() == ".json":
            text = json.dumps(self.to_dict(), indent=2) + "\n"
        else:
            raise OptionError(f"config: expected a name that ends in .json or .yaml; got {path}")
        Path(path).write_text(text, encoding="utf-8")


def inherit(child: Config, **values: Any) -> None:
    """Refuse a child's value that contradicts what it has from the stack.

    The official package overwrites such a value without a word.
    """
    for name, value in values.items():
        got = getattr(child, name)
        default = next(f.default for f in dataclasses.fields(child) if f.name == name)
        if got not in (default, value):
            raise OptionError(
                f"{type(child).__name__}.{name}: expected {value!r}, as in the stack, or nothing; "
                f"got {got!r}"
            )


def check_range(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Raise :class:`OptionError` unless low ≤ value < high."""
    if not low <= value < high:
        raise OptionError(f"{name}: expected a number in [{low:g}, {high:g}); got {value!r}")


def _options(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a union type; the type itself if it is none."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if union else (hint,)


def _parsed(value: Any, hint: Any) -> Any:
    """A nested mapping as the configuration that its field holds."""
    for option in _options(hint):
        if isinstance(option, type) and issubclass(option, Config) and isinstance(value, Mapping):
            return option.from_dict(value)
    return value


def _plain(value: Any) -> Any:
    """A number of NumPy as one of Python, and a tuple as a list: what JSON and YAML know."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple | range):
        return [_plain(entry) for entry in value]
    return value


def _fits(value: Any, hint: Any) -> bool:
    options = _options(hint)
    if len(options) > 1:
        return any(_fits(value, option) for option in options)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin is typing.Literal:
        return value in args
    if origin is list:
        return isinstance(value, list) and all(_fits(entry, args[0]) for entry in value)
    kinds = (int, float) if hint is float else origin or hint
    return isinstance(value, kinds) and (hint is bool or not isinstance(value, bool))


def _describe(hint: Any) -> str:
    names = []
    for option in _options(hint):
        if typing.get_origin(option) is typing.Literal:
            names += [repr(choice) for choice in typing.get_args(option)]
        elif option is type(None):
            names.append("None")
        else:
            plain = typing.get_origin(option) is None
            names.append(option.__name__ if plain and option is not Any else str(option))
    return " or ".join(names)


def _is_yaml(path: str | os.PathLike[str]) -> bool:
    return Path(path).suffix.lower() in (".yaml", ".yml")


def _yaml() -> Any:
    try:
        import yaml
    except ImportError:
        raise OptionError(
            "config: expected the yaml extra for a YAML file: pip install 'numpy-xlstm[yaml]'; "
            "JSON needs nothing"
        ) from None
    return yaml
