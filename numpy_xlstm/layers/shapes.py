"""The shape of an array up to its last axis."""

from typing import Any


def leading_shape(x: Any) -> tuple[int, ...]:
    """Every axis but the last; none for what is no array, which a check then names."""
    shape: tuple[int, ...] = getattr(x, "shape", ())
    return shape[:-1]
