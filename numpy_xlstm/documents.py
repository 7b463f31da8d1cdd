"""JSON and YAML: reading of untrusted files, with limits on size, depth and number of values."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from numpy_xlstm.disk import checked_path, read_regular
from numpy_xlstm.errors import CheckpointError, MissingExtraError

MAX_BYTES, MAX_WIDE, MAX_YAML = 25_000_000, 10_000_000, 100_000
"""Largest sizes in bytes of a JSON text (sufficient for a header with a tokenizer), of one with
non-ASCII characters, each of which may take four bytes in Python, and of a YAML text, which is slow
to parse."""

MAX_VALUES, MAX_TEXTS = 500_000, 400_000
"""Largest numbers of values in a JSON text, counted as commas and opening brackets, and of strings,
including names. As Python objects they take up to 30 times as much memory as in the text."""

MAX_DEPTH, MAX_WHOLE = 32, 2**256
"""Largest depth of nested values, and the bound that whole numbers must be below."""

MAX_DIGITS = 400
"""Largest number of characters of a whole number in a YAML text, for example with 256 binary
digits. Numbers in base 60, such as 1:20:30, take quadratic time."""


def read_values(path: str | Path, name: str = "config") -> Any:
    """Read the values in a file, which is YAML if its name ends in .yaml or .yml, else JSON."""
    path = checked_path(name, path)
    kind, parse = ("YAML", parse_yaml) if _is_yaml(path) else ("JSON", parse_json)
    text = read_regular(name, path, MAX_BYTES)
    try:
        return parse(text)
    except ValueError as error:
        detail = " ".join(str(error).split())[:200]
        message = f"{path.name}: expected {kind}; got something else ({detail})"
        raise CheckpointError(message) from None


def as_text(path: Path, values: Any) -> str:
    """Return values as the content of a YAML or JSON file."""
    if _is_yaml(path):
        return str(_yaml_package().safe_dump(values, sort_keys=False))
    return json.dumps(values, indent=2, allow_nan=False) + "\n"


def _is_yaml(path: Path) -> bool:
    return path.suffix.lower() in (".yaml", ".yml")


def parse_json(text: bytes) -> Any:
    """Parse a JSON text.

    Raises
    ------
    ValueError
        If it is not JSON, exceeds a limit, or contains a duplicate name or a non-finite number.
    """
    most = MAX_BYTES if text.isascii() else MAX_WIDE
    if len(text) > most:
        raise ValueError(f"expected at most {most:,} bytes; got {len(text):,}")
    if (count := sum(map(text.count, (b",", b"[", b"{")))) > MAX_VALUES:
        raise ValueError(f"expected at most {MAX_VALUES:,} values; got {count:,}")
    if (count := (text.count(b'"') - text.count(b'\\"')) // 2) > MAX_TEXTS:
        raise ValueError(f"expected at most {MAX_TEXTS:,} texts; got {count:,}")
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_no_name_twice)
    except RecursionError:
        raise ValueError(f"values nested more than {MAX_DEPTH} deep") from None
    _check("", value, MAX_DEPTH)
    return value


def _yaml_package() -> Any:
    """Return PyYAML, or raise :class:`MissingExtraError`."""
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError(
            "a configuration in YAML needs the cli extra: pip install 'numpy-xlstm[cli]'"
        ) from error
    return yaml


def parse_yaml(text: bytes) -> Any:
    """Parse a YAML text, or raise the errors of :func:`parse_json`.

    References to anchors are refused, because a few lines with them can represent any number of
    values.
    """
    yaml = _yaml_package()

    class Plain(yaml.SafeLoader):  # type: ignore[misc, name-defined]
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise ValueError("a reference to an anchor")
            if self.depth > MAX_DEPTH:
                raise ValueError(f"values nested more than {MAX_DEPTH} deep")
            self.depth += 1
            node = super().compose_node(parent, index)
            self.depth -= 1
            if node.tag == "tag:yaml.org,2002:int" and len(node.value) > MAX_DIGITS:
                raise ValueError(f"expected a number of at most {MAX_DIGITS} digits")
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            _no_name_twice([(str(name.value), None) for name, _ in node.value])
            return super().construct_mapping(node, deep)

    if len(text) > MAX_YAML:
        raise ValueError(f"expected at most {MAX_YAML:,} bytes; got {len(text):,}")
    try:
        value = yaml.load(text.decode("utf-8"), Plain)
    except (yaml.YAMLError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from None
    _check("", value, MAX_DEPTH)
    return value


def _check(name: str, value: Any, depth: int) -> None:
    """Raise :class:`ValueError` for an invalid value within the field ``name``, the innermost."""
    if isinstance(value, dict | list):
        if not depth:
            raise ValueError(f"values nested more than {MAX_DEPTH} deep")
        pairs = value.items() if isinstance(value, dict) else ((name, entry) for entry in value)
        for inner, entry in pairs:
            if not isinstance(inner, str):
                raise ValueError(f"expected names that are strings; got {inner!r:.80}")
            _check(inner, entry, depth - 1)
    elif isinstance(value, int) and abs(value) >= MAX_WHOLE:
        raise ValueError(f"{name}: expected a number of at most 256 bits; got a longer one")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number; got {value}")


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{name:.80}: expected one entry; got two")
    return values
