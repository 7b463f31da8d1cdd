"""Caches know which layer made them: another one would read them as what they are not."""

from typing import Any, Generic, NamedTuple, Self, TypeVar

import numpy as np

from numpy_xlstm.errors import CacheError
from numpy_xlstm.numerics import Array, check_array

Cache = TypeVar("Cache")


class Signature(NamedTuple):
    """What two layers have in common that can read each other's caches."""

    kind: str
    params: dict[str, tuple[tuple[int, ...], np.dtype[Any]]]
    """Shape and dtype of each parameter."""
    options: dict[str, Any]
    """:attr:`Parameterised.cache_options`."""


def signature(layer: Any) -> Signature:
    """Kind, the names, shapes and dtypes of the parameters, and options."""
    shapes = {name: (array.shape, array.dtype) for name, array in layer.params.items()}
    return Signature(type(layer).__name__, shapes, getattr(layer, "cache_options", {}))


def check_made_by(cache: Any, layer: Any) -> None:
    """Raise :class:`CacheError` unless a layer of this kind, size and options made the cache."""
    here, made_by = signature(layer), getattr(cache, "made_by", None)
    if not isinstance(made_by, Signature):
        raise CacheError(
            f"cache: expected what forward of this {here.kind} has returned; "
            f"got {type(cache).__name__}"
        )
    if made_by.kind != here.kind:
        raise CacheError(f"cache: expected that of a {here.kind}; got that of a {made_by.kind}")
    for name in here.params | made_by.params:
        expected, got = here.params.get(name), made_by.params.get(name)
        if expected != got:
            raise CacheError(
                f"cache: expected that of a {here.kind} whose {name} is {_drawn(expected)}; "
                f"got that of one where it is {_drawn(got)}"
            )
    for name, option in here.options.items():
        if option != (theirs := made_by.options.get(name)):
            raise CacheError(
                f"cache: expected that of a {here.kind} with {name} = {option!r}; "
                f"got that of one with {theirs!r}"
            )


def _drawn(form: tuple[tuple[int, ...], np.dtype[Any]] | None) -> str:
    return "missing" if form is None else f"{form[0]} {form[1]}"


class Signed(NamedTuple, Generic[Cache]):
    """The cache of a stateless layer or function, with what its backward is to be given."""

    made_by: Signature
    shape: tuple[int, ...]
    """Of the output."""
    dtype: np.dtype[Any]
    cache: Cache

    @classmethod
    def by(cls, layer: Any, y: Array, cache: Cache) -> Self:
        """Sign what a forward that returns y has kept."""
        return cls(signature(layer), y.shape, y.dtype, cache)

    @classmethod
    def by_function(cls, name: str, y: Array, cache: Cache) -> Self:
        """Sign what a function that returns y, and is no layer, has kept."""
        return cls(Signature(name, {}, {}), y.shape, y.dtype, cache)


def opened(cache: "Signed[Cache]", layer: Any, dy: Array) -> Cache:
    """Return what is signed, if ``layer`` has signed it and ``dy`` is like what it returned.

    Raises
    ------
    CacheError
        If ``cache`` is not from a layer of this kind, with these sizes and options.
    ShapeError, DTypeError, NonFiniteError
        If ``dy`` is not like the output of that forward, or not finite.
    """
    check_made_by(cache, layer)
    check_array("dy", dy, cache.shape, cache.dtype)
    return cache.cache


def opened_by_function(cache: "Signed[Cache]", name: str, dy: Array) -> Cache:
    """As :func:`opened`, for what the function of this name has signed."""
    check_returned_by(name, cache, Signed)
    if cache.made_by.kind != name:
        raise CacheError(
            f"cache: expected what {name} has returned; got that of {cache.made_by.kind}"
        )
    check_array("dy", dy, cache.shape, cache.dtype)
    return cache.cache


def check_returned_by(name: str, cache: Any, kind: type) -> None:
    """Raise :class:`CacheError` unless the cache is of the kind that this function returns."""
    if not isinstance(cache, kind):
        raise CacheError(f"cache: expected what {name} has returned; got {type(cache).__name__}")
