"""Validation of the arguments of public forwards and backwards.

A public forward validates its arguments once with these functions. A module made of other modules
calls the ``compute`` of its parts, which does not validate again.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from types import MethodType
from typing import Any, TypeVar, cast

import numpy as np

from numpy_xlstm.errors import CacheError, ShapeError
from numpy_xlstm.numerics import Array, check_array, check_batch, checked_lengths, own_error_state
from numpy_xlstm.trees import put_together, zeros_like

Method = TypeVar("Method", bound=Callable[..., Any])


def checked_like(name: str, tree: Any, like: Any) -> Any:
    """Validate a tree of arrays, such as a state, against the structure and shapes of ``like``.

    Returns the tree in the types of ``like``. Both are nested tuples of arrays and None. If
    ``name`` begins with "state", an array ``m`` may contain −inf, and a tuple with a method
    ``check`` is checked by it.

    Examples
    --------
    >>> import numpy as np
    >>> checked_like("state", (np.zeros((2, 3)), None), (np.zeros((2, 4)), None))
    Traceback (most recent call last):
    numpy_xlstm.errors.ShapeError: state.0: expected shape (2, 4); got (2, 3)
    """
    if like is None:
        if tree is not None:
            raise ShapeError(f"{name}: expected None; got {type(tree).__name__}")
        return None
    if isinstance(like, np.ndarray):
        empty = name.startswith("state") and name.endswith(".m")
        check_array(name, tree, like.shape, like.dtype, allow_minus_inf=empty)
        return tree
    fields = getattr(like, "_fields", range(len(like)))
    if not isinstance(tree, tuple | list) or len(tree) != len(like):
        got = type(tree).__name__
        if isinstance(tree, np.ndarray):
            got = f"an array of shape {tree.shape}"
        elif isinstance(tree, tuple | list):
            got = f"{len(tree)} entries"
        expected = ", ".join(map(str, fields))
        raise ShapeError(f"{name}: expected a tuple ({expected}); got {got}")
    parts = zip(fields, tree, like, strict=True)
    checked = [checked_like(f"{name}.{f}", part, want) for f, part, want in parts]
    state = put_together(like, checked)
    if name.startswith("state") and hasattr(like, "check"):
        state.check()
    return state


def check_cache(cache: Any, kind: type) -> None:
    """Raise :class:`CacheError` unless the cache has this type."""
    if not isinstance(cache, kind):
        raise CacheError(
            f"cache: expected the {kind.__name__} that this forward has returned; "
            f"got {type(cache).__name__}"
        )


def check_maker(module: Any, maker: Any) -> None:
    """Raise :class:`CacheError` unless a cache was made by this module."""
    if maker is not module:
        own, got = type(module).__name__, type(maker).__name__
        which = f"another {got}" if own == got else f"a {got}"
        raise CacheError(f"cache: expected one that this {own} has returned; got one of {which}")


def checked_state(module: Any, state: Any, batch_size: int) -> Any:
    """Return the validated state before the first step; for None, the empty state."""
    like = module.init_state(batch_size)
    return like if state is None else checked_like("state", state, like)


def checked_cotangent(module: Any, dstate: Any, batch_size: int) -> Any:
    """Return the validated cotangent of the state after the last step; zeros for None."""
    like = module.init_state(batch_size)
    return zeros_like(like) if dstate is None else checked_like("dstate", dstate, like)


def checked_call(layer: Any, x: Array, state: Any, lengths: Any) -> tuple[Array, Any, Any]:
    """Return the validated arguments of a layer over sequences, in the layout of ``compute``."""
    try:
        layer.check_input(x)
        rows = x if layer.batch_first else x.swapaxes(0, 1)
        B, T = rows.shape[:2]
        before = layer.inner_start(B) if state is None else checked_state(layer, state, B)
        of_rows = None if lengths is None else checked_lengths(lengths, B, T)
    except ShapeError as error:
        raise ShapeError(f"{error}{_hint(error, layer, x, state, lengths)}") from None
    return rows, before if state is None else layer.inner_state(before), of_rows


def _hint(error: ShapeError, layer: Any, x: Array, state: Any, lengths: Any) -> str:
    """Return how to pass one sequence, or a time-first x that the other arguments fit."""
    name, _, reason = str(error).partition(": ")
    if not reason.startswith("expected shape"):  # only check_array says this
        return ""
    if (name, x.ndim) in (("x", 2), ("tokens", 1)):
        return f"; for one sequence pass {name}[{'None' if layer.batch_first else ':, None'}]"
    if name in ("x", "tokens") or not layer.batch_first or "batch_first" not in vars(layer):
        return ""
    with suppress(ValueError, TypeError):  # they do not fit it
        if lengths is not None:
            checked_lengths(lengths, x.shape[1], len(x))
        if state is not None:
            checked_state(layer, state, x.shape[1])
        return "; x is read as (batch, time, …); for time-first x pass batch_first=False"
    return ""


def checked_step(forward: Method) -> Method:
    """Decorate the forward of a cell: validate x (B, D) and the state, empty if it is None."""
    forward = own_error_state(forward)

    @wraps(forward)
    def checked(cell: Any, x: Array, state: Any = None) -> Any:
        check_array("x", x, ("batch", cell.input_size), cell.dtype)
        check_batch("x", x)
        return forward(cell, x, checked_state(cell, state, len(x)))

    vars(checked)["unchecked"] = forward
    return cast(Method, checked)


def checked_step_backward(backward: Method) -> Method:
    """Decorate the backward of a cell: validate dh (B, H), cache and dstate, 0 if it is None."""
    backward = own_error_state(backward)

    @wraps(backward)
    def checked(cell: Any, dh: Array, cache: Any, dstate: Any = None) -> Any:
        check_cache(cache, cell.Cache)
        check_maker(cell, cache.cell)
        check_array("dh", dh, (len(cache.x), output_size(cell)), cell.dtype)
        return backward(cell, dh, cache, checked_cotangent(cell, dstate, len(dh)))

    vars(checked)["unchecked"] = backward
    return cast(Method, checked)


def unchecked(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a decorated method of a cell without its checks; any other method as it is."""
    function = getattr(method, "unchecked", None)
    return method if function is None else MethodType(function, method.__self__)  # type: ignore[attr-defined]


def output_size(cell: Any) -> int:
    """Return the width of h: ``proj_size`` if the cell projects it, else ``hidden_size``."""
    size: int = getattr(cell, "proj_size", cell.hidden_size)
    return size
