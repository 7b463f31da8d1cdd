"""Options of a command as the fields of a dataclass: arguments and help are made of that."""

import argparse
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, field, fields
from typing import Any, get_type_hints

LARGEST = 10**9


def whole(minimum: int, maximum: int = LARGEST) -> Callable[[str], int]:
    """Return the type of a whole number from ``minimum`` to ``maximum``."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if not minimum <= value <= maximum:
            raise argparse.ArgumentTypeError(
                f"expected a whole number from {minimum} to {maximum}; got {text!r}"
            )
        return value

    return parse


def real(
    minimum: float, *, exclusive: bool = False, below: float = math.inf
) -> Callable[[str], float]:
    """Return the type of a finite number, at least ``minimum`` or above it, and below ``below``."""
    bound = f"{'above' if exclusive else 'at least'} {minimum:g}"
    if below < math.inf:
        bound += f" and below {below:g}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        large_enough = value > minimum if exclusive else value >= minimum
        if not (large_enough and value < below):
            raise argparse.ArgumentTypeError(f"expected a number {bound}; got {text!r}")
        return value

    return parse


def places(text: str) -> list[int] | str:
    """Read block numbers: ``"1,3"`` is [1, 3], ``"none"`` is [], and ``"all"`` stays.

    Examples
    --------
    >>> places("3,1"), places("none"), places("all")
    ([1, 3], [], 'all')
    """
    if text in ("all", "none"):
        return "all" if text == "all" else []
    try:
        return sorted({whole(0)(number) for number in text.split(",")})
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"expected block numbers such as 1,3, or all, or none; got {text!r}"
        ) from None


def option(
    group: str,
    text: str,
    parse: Callable[[str], Any] = str,
    default: Any = None,
    **facts: Any,
) -> Any:
    """Describe a field: the group that shows it, its help, and what reads its value.

    Further ``facts`` are those of argparse, with ``nargs`` for what is no flag, and ``of``, which
    has the default for each kind of model that has the option.
    """
    return field(default=default, metadata={"group": group, "help": text, "parse": parse} | facts)


def flags(names: Iterable[str]) -> str:
    """How options are written on the command line."""
    return ", ".join(sorted(f"--{name.replace('_', '-')}" for name in names))


def given_options(args: argparse.Namespace, options: type[Any]) -> dict[str, Any]:
    """Return the options that are given."""
    return {one.name: getattr(args, one.name) for one in fields(options) if one.name in args}


def add_options(parser: argparse.ArgumentParser, options: type[Any]) -> None:
    """Add an argument for each field; the result will have those that are given."""
    hints, groups = get_type_hints(options), dict[str, Any]()
    for one in fields(options):
        facts, hint = one.metadata, hints[one.name]
        if facts["group"] not in groups:
            groups[facts["group"]] = parser.add_argument_group(facts["group"])
        shown: dict[str, Any] = {"help": _help(one), "default": argparse.SUPPRESS}
        kinds = getattr(hint, "__args__", (hint,))
        if hint is bool:
            shown["action"] = "store_true"
        elif "choices" in facts:
            shown["choices"] = facts["choices"]
        else:
            metavar = facts.get("metavar") or ("N" if int in kinds else "X")
            shown |= {"metavar": metavar, "type": facts["parse"]}
        shown |= {name: facts[name] for name in ("action", "nargs", "required") if name in facts}
        name = one.name if "nargs" in facts else flags([one.name])
        groups[facts["group"]].add_argument(name, **shown)


def _help(one: "Field[Any]") -> str:
    """The help with the default, unless it says that itself or there is none."""
    text, default = str(one.metadata["help"]), one.default
    of: Mapping[str, Any] = one.metadata.get("of") or {}
    values = {kind: _written(value) for kind, value in of.items() if value is not None}
    if len(set(values.values())) > 1:
        default = ", ".join(f"{value} for {kind}" for kind, value in values.items())
    elif values:
        default = next(iter(values.values()))
    if "(default" in text or default is None or default is False:
        return text
    return f"{text} (default: {default})"


def _written(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
