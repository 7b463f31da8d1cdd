"""Conversion between the parameter names of this package and those in other files."""

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from numpy_xlstm.errors import ShapeError

T = TypeVar("T")

ANYWHERE = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
"""Prefixes that ``torch.compile`` and other wrappers add to a module's name at any depth."""

OUTSIDE = "module.", "model."
"""Prefixes of every name of a model that is part of another module."""

EMBEDDINGS = "backbone.embeddings.", "embedding."
"""Prefixes of the embedding in transformers and in xLSTMLarge."""


def unwrapped(named: Mapping[str, T]) -> dict[str, T]:
    """Remove the prefixes of wrappers from the names.

    Examples
    --------
    >>> unwrapped({"module._orig_mod.lm_head.weight": 1, "module._orig_mod.x": 2})
    {'lm_head.weight': 1, 'x': 2}
    """
    names = {name: ANYWHERE.sub("", name) for name in named}
    while names and (prefix := _shared(names.values())):
        names = {name: short.removeprefix(prefix) for name, short in names.items()}
    return renamed(named, names)


def _shared(names: Iterable[str]) -> str | None:
    return next((p for p in OUTSIDE if all(name.startswith(p) for name in names)), None)


def renamed(named: Mapping[str, T], names: Mapping[str, str]) -> dict[str, T]:
    """Rename the entries. Two entries must not get the same name."""
    values: dict[str, T] = {}
    for name, value in named.items():
        if names[name] in values:
            raise ShapeError(f"{name}: expected one array {names[name]!r}; got two")
        values[names[name]] = value
    return values


def from_transformers_names(named: Mapping[str, T]) -> dict[str, T]:
    """Rename the entries from ``xLSTMForCausalLM`` to xLSTMLarge."""
    return _with_prefix(named, *EMBEDDINGS)


def to_transformers_names(named: Mapping[str, T]) -> dict[str, T]:
    """Rename the entries from xLSTMLarge to ``xLSTMForCausalLM``."""
    return _with_prefix(named, *reversed(EMBEDDINGS))


def _with_prefix(named: Mapping[str, T], old: str, new: str) -> dict[str, T]:
    """Replace a prefix of the names that begin with it."""
    return renamed(named, {name: re.sub(f"^{re.escape(old)}", new, name) for name in named})
