"""JSON and YAML of others: parsed only if size, depth and number of values are bounded."""

import json
import math
import re
from typing import Any

MAX_BYTES = 25_000_000
"""The most bytes that a text in JSON may have, such as a header that holds a tokenizer."""

MAX_WIDE = 10_000_000
"""The same of one that is not in ASCII: Python may take four bytes for each of its characters."""

MAX_YAML = 100_000
"""The most bytes of one in YAML, which is slow to read."""

MAX_VALUES = 500_000
"""The most values, names and lists in it: as objects of Python they take up to 30 times as much."""

MAX_TEXTS = 400_000
"""The most texts in it, names among them: to count the values between them takes memory, too."""

MAX_DEPTH = 32
"""How deep they may be nested."""

MAX_WHOLE = 2**256
"""What whole numbers are below."""

STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)


def parse_json(text: bytes) -> Any:
    """Return what a text in JSON says.

    Raises
    ------
    ValueError
        If it is none, too large, or has a name twice or a number that is not finite.
    """
    check_bounded(text)
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_no_name_twice)
    except RecursionError:
        raise ValueError(f"values nested more than {MAX_DEPTH} deep") from None
    _check("", value, MAX_DEPTH)
    return value


def parse_yaml(text: bytes) -> Any:
    """Return what a text in YAML says; raise the same, or an :class:`ImportError`.

    Anchors are refused: with them, a few lines can stand for any number of values.
    """
    import yaml

    class Plain(yaml.SafeLoader):  # type: ignore[misc]
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise ValueError("a reference to an anchor")
            if self.depth > MAX_DEPTH:
                raise ValueError(f"values nested more than {MAX_DEPTH} deep")
            self.depth += 1
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            _no_name_twice([(str(name.value), None) for name, _ in node.value])
            return super().construct_mapping(node, deep)

    if len(text) > MAX_YAML:
        raise ValueError(f"expected at most {MAX_YAML:,} bytes; got {len(text):,}")
    try:
        value = yaml.load(text.decode("utf-8"), Plain)
    except (yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from None
    _check("", value, MAX_DEPTH)
    return value


def check_bounded(text: bytes) -> None:
    """Raise :class:`ValueError` if what a text in JSON stands for could take too much memory."""
    most = MAX_BYTES if text.isascii() else MAX_WIDE
    if len(text) > most:
        raise ValueError(f"expected at most {most:,} bytes; got {len(text):,}")
    if (found := (text.count(b'"') - text.count(b'\\"')) // 2) > MAX_TEXTS:
        raise ValueError(f"expected at most {MAX_TEXTS:,} texts; got {found:,}")
    outside = STRING.sub(b"", text)
    if (found := sum(map(outside.count, (b",", b"[", b"{")))) > MAX_VALUES:
        raise ValueError(f"expected at most {MAX_VALUES:,} values; got {found:,}")


def _check(name: str, value: Any, depth: int) -> None:
    """Raise :class:`ValueError` if a value cannot be meant; ``name`` is the last on the way."""
    if isinstance(value, dict | list):
        if not depth:
            raise ValueError(f"values nested more than {MAX_DEPTH} deep")
        pairs = value.items() if isinstance(value, dict) else ((name, each) for each in value)
        for inner, each in pairs:
            _check(inner, each, depth - 1)
    elif isinstance(value, int) and abs(value) >= MAX_WHOLE:
        raise ValueError(f"{name}: expected a number of at most 256 bits; got a longer one")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number; got {value}")


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice}: expected one entry; got two")
    return found
