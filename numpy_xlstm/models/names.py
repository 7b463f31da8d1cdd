"""What parameters are called in the files of others, and what they are here."""

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from numpy_xlstm.errors import ShapeError

T = TypeVar("T")

ANYWHERE = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
"""What ``torch.compile`` and other wrappers put before the name of a module, at any depth."""

OUTSIDE = "module.", "model."
"""What a whole model in another module has before every name."""

EMBEDDINGS = "backbone.embeddings.", "embedding."
"""What transformers calls the embedding, and what xLSTMLarge does."""


def unwrapped(named: Mapping[str, T]) -> dict[str, T]:
    """Take off what wrappers have put before the names.

    Raises
    ------
    ShapeError
        If two names are the same without it.

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
    """Return what is named under other names, each of which must be new."""
    found: dict[str, T] = {}
    for name, value in named.items():
        if names[name] in found:
            raise ShapeError(f"{name}: expected one array {names[name]!r}; got two")
        found[names[name]] = value
    return found


def from_transformers_names(named: Mapping[str, T]) -> dict[str, T]:
    """Names of ``xLSTMForCausalLM`` as those of xLSTMLarge."""
    theirs, ours = EMBEDDINGS
    return renamed(
        named, {n: ours + n.removeprefix(theirs) if n.startswith(theirs) else n for n in named}
    )


def to_transformers_names(named: Mapping[str, T]) -> dict[str, T]:
    """Names of xLSTMLarge as those of ``xLSTMForCausalLM``."""
    theirs, ours = EMBEDDINGS
    return renamed(
        named, {n: theirs + n.removeprefix(ours) if n.startswith(ours) else n for n in named}
    )


def block_numbers(names: Iterable[str]) -> set[int]:
    """The numbers of the blocks that have arrays.

    Examples
    --------
    >>> block_numbers(["backbone.blocks.0.norm.weight", "backbone.blocks.11.x", "lm_head.weight"])
    {0, 11}
    """
    found = (re.search(r"(?:^|\.)blocks\.(\d{1,9})\.", name) for name in names)
    return {int(match[1]) for match in found if match}
