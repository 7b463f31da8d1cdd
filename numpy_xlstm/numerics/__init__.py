"""Validation of arrays and other arguments, and the activations that cells use.

A function ``check_…`` returns nothing, and ``checked_…`` returns its argument in the form that the
code uses. Both raise an error for an invalid argument.
"""

import difflib
import sys
from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise
from types import EllipsisType
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.array_utils import byte_bounds

from numpy_xlstm.errors import DTypeError, NonFiniteError, OptionError, ShapeError, SizeError
from numpy_xlstm.numerics.activations import (
    Array,
    Arrays,
    clip,
    dot,
    log_sigmoid,
    log_sigmoid_slope,
    lowest,
    maximum,
    modulus,
    own_error_state,
    sigmoid,
    sigmoid_and_slope,
    sigmoid_slope,
    tanh_slope,
)

SUPPORTED_DTYPES = tuple(
    np.dtype(t) for t in (np.float32, np.float64, np.longdouble, np.complex128, np.clongdouble)
)
"""Real dtypes, and complex dtypes for complex steps through a forward."""


def dtype_names(dtypes: Iterable[np.dtype[Any]]) -> str:
    """Return names that are the same on all machines, unlike ``np.dtype(np.longdouble).name``."""
    return ", ".join(dtype.type.__name__ for dtype in dtypes)


def checked_dtype(
    dtype: npt.DTypeLike, supported: Collection[np.dtype[Any]] = SUPPORTED_DTYPES
) -> np.dtype[Any]:
    """Return ``dtype`` as a ``np.dtype``, or raise :class:`DTypeError` if it is not supported."""
    try:
        checked = np.dtype(dtype)
    except (TypeError, ValueError):
        expected = dtype_names(supported)
        raise DTypeError(f"dtype: expected one of {expected}; got {dtype!r}") from None
    if checked not in supported:
        raise DTypeError(f"dtype: expected one of {dtype_names(supported)}; got {checked.name}")
    return checked


Shape = tuple[int | str | EllipsisType, ...]

KINDS = {"integers": "iu", "booleans": "b", "floating-point numbers": "f", "numbers": "iuf"}
"""Kinds of dtypes that :func:`check_form` knows."""

LARGEST = 3e38
"""Bound of numbers that are finite also in float32."""

EXPONENTS = {"bfloat16": np.uint16(0x7F80), "float16": np.uint16(0x7C00)}
"""Bits of the exponent, all of which are set in infinity and NaN."""

CHUNK = 2**20
"""Count of numbers that are checked at a time."""


def check_array(
    name: str,
    value: Any,
    shape: Shape,
    dtype: np.dtype[Any] | None = None,
    *,
    allow_minus_inf: bool = False,
) -> None:
    """Raise an error unless ``value`` is a finite array of this shape and dtype.

    An ``int`` in ``shape`` must match; a ``str`` is the name of an arbitrary size, and ``...`` at
    the beginning represents any axes. Without a dtype, any supported dtype is valid.
    ``allow_minus_inf`` allows −inf, as in m of an empty state.
    """
    check_form(name, value, shape, dtype)
    finite = np.isfinite(value)
    if allow_minus_inf:
        finite |= value.real == -np.inf
    if not finite.all():
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise NonFiniteError(
            f"{name}: expected finite numbers; got {value[where]} at index {where} "
            f"({np.count_nonzero(~finite)} of {value.size} entries are not finite)"
        )


def check_form(
    name: str, value: Any, shape: Shape, dtype: np.dtype[Any] | str | None = None
) -> None:
    """Do the same as :func:`check_array`, but do not check that the numbers are finite.

    ``dtype`` may also be one of :data:`KINDS`.
    """
    supported = SUPPORTED_DTYPES if dtype is None else (dtype,)
    if type(value) is not np.ndarray or value.dtype not in supported:
        _check_dtype(name, value, dtype)
    if shape and shape[0] is ...:  # any axes before the others
        before = value.shape[: max(0, value.ndim - len(shape) + 1)]
        shape = before + shape[1:]
    if shape != value.shape:
        fits = value.ndim == len(shape)
        for wanted, size in zip(shape, value.shape, strict=False):
            fits = fits and (wanted == size or isinstance(wanted, str))
        if not fits:
            expected = "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"
            raise ShapeError(f"{name}: expected shape {expected}; got {value.shape}")


def is_narrow(array: Array) -> bool:
    """Return whether an array has 16-bit floats."""
    return array.itemsize == 2 and array.dtype.name in EXPONENTS


def check_parameter(name: str, array: Array, like: Array) -> None:
    """Do the same as ``check_array``, but accept 16-bit floats in place of such ones."""
    if type(array) is not np.ndarray or not is_narrow(array) or array.dtype != like.dtype:
        check_array(name, array, like.shape)
        return
    bits, exponent = array.reshape(-1).view(np.uint16), EXPONENTS[array.dtype.name]
    parts = (bits[start : start + CHUNK] & exponent for start in range(0, bits.size, CHUNK))
    if any(part.max() == exponent for part in parts):
        check_array(name, array.astype(np.float32), like.shape)


def check_plain(name: str, value: Any) -> None:
    """Raise :class:`DTypeError` for a subclass of array, such as a matrix or a masked array."""
    if isinstance(value, np.ndarray) and type(value) not in (np.ndarray, np.memmap):
        raise DTypeError(f"{name}: expected a plain NumPy array; got {type(value).__name__}")


def plain_array(name: str, value: Any) -> Array:
    """Convert an array-like to an array, or raise an error, as for a subclass of array."""
    check_plain(name, value)
    try:
        array: Array = np.asarray(value)
    except ValueError as error:  # lists of different lengths in a list
        raise ShapeError(f"{name}: expected rows of equal length; got {value!r:.80}") from error
    except TypeError as error:  # a tensor of bfloat16
        got = getattr(value, "dtype", type(value).__name__)
        raise DTypeError(
            f"{name}: expected a dtype of NumPy, such as float32; got {got}"
        ) from error
    return array


def _check_dtype(name: str, value: Any, dtype: np.dtype[Any] | str | None) -> None:
    """Raise an error unless the value is a plain array of a supported dtype, or of this one."""
    check_plain(name, value)
    expected = f"an array of {dtype}" if isinstance(dtype, str) else "a NumPy array"
    if not isinstance(value, np.ndarray):
        to = f", dtype=np.{dtype_names([dtype])}" if isinstance(dtype, np.dtype) else ""
        like = isinstance(value, list | tuple) or hasattr(value, "__array__")
        hint = f"; write np.asarray({name}{to})" if like else ""
        if isinstance(value, tuple) and value and isinstance(value[0], np.ndarray):
            hint = "; of the results of a layer or a model, take the first: y, state = layer(x)"
        raise DTypeError(f"{name}: expected {expected}; got {type(value).__name__}{hint}")
    if isinstance(dtype, str):
        if value.dtype.kind not in KINDS[dtype]:
            raise DTypeError(f"{name}: expected {expected}; got {value.dtype}")
        return
    if value.dtype not in SUPPORTED_DTYPES:
        if not value.dtype.isnative:
            raise DTypeError(
                f"{name}: expected the byte order of this machine; got {value.dtype.str}, "
                f"write {name}.astype({name}.dtype.newbyteorder('='))"
            )
        hint = f"; write {name}.astype(np.float64)" if value.dtype.kind in "iub" else ""
        names = dtype_names(SUPPORTED_DTYPES)
        raise DTypeError(f"{name}: expected one of {names}; got {value.dtype.name}{hint}")
    if dtype is not None and value.dtype != dtype:
        want, got = dtype_names([dtype]), dtype_names([value.dtype])
        raise DTypeError(
            f"{name}: expected {want}, the dtype of the other arrays; got {got}; "
            f"write {name}.astype(np.{want}), or make the layer or model with dtype=np.{got}"
        )


def check_writable(arrays: Mapping[str, Array]) -> None:
    """Raise :class:`OptionError` for a read-only array."""
    for name, array in arrays.items():
        if not array.flags.writeable:
            raise OptionError(f"{name}: expected an array that can be written to")


def check_separate(params: Mapping[str, Array]) -> None:
    """Raise :class:`OptionError` if two arrays share memory."""
    bounds = sorted((*byte_bounds(array), name) for name, array in params.items() if array.size)
    for (_, end, name), (start, _, other) in pairwise(bounds):
        if start < end and np.shares_memory(params[name], params[other]):
            raise OptionError(f"params: expected separate arrays; got one for {name} and {other}")


def check_batch(name: str, array: Array, axis: int = 0) -> None:
    """Raise :class:`ShapeError` if the batch is empty."""
    if array.shape[axis] == 0:
        raise ShapeError(f"{name}: expected a batch of at least 1; got shape {array.shape}")


def check_generator(name: str, rng: Any, *, required: bool = False) -> None:
    """Raise :class:`OptionError` unless ``rng`` is a generator, or None if not ``required``."""
    if not (isinstance(rng, np.random.Generator) or (rng is None and not required)):
        expected = "a np.random.Generator" + ("" if required else ", or None")
        hint = f"; write np.random.default_rng({rng})" if is_whole(rng) else ""
        raise OptionError(f"{name}: expected {expected}; got {rng!r}{hint}")


def generator_or_new(rng: Any) -> np.random.Generator:
    """Return ``rng``, or a new generator with this seed, or an unseeded one for None.

    Raises :class:`OptionError` for anything else.
    """
    if isinstance(rng, np.random.Generator):
        return rng
    if is_whole(rng):
        checked_whole("rng", rng)
    else:
        check_generator("rng", rng)
    return np.random.default_rng(rng)


def is_number(value: Any) -> bool:
    """Return whether a value is a real number in the range of float64, and not a bool."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= sys.float_info.max
    return isinstance(value, float | np.integer | np.floating)


def is_whole(value: Any) -> bool:
    """Return whether a value is a whole number of Python or NumPy, and not a bool."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def checked_choice(name: str, value: Any, choices: Collection[str]) -> str:
    """Return ``value`` if it is one of ``choices``, else raise :class:`OptionError`."""
    if not isinstance(value, str) or value not in choices:
        expected = ", ".join(repr(c) for c in choices)
        raise OptionError(f"{name}: expected one of {expected}; got {value!r}")
    return value


def did_you_mean(word: str, known: Collection[str]) -> str:
    """Return "; did you mean WORD?" with the known word closest to a word; "" if none is close."""
    by_letters = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_letters, n=1)
    return f"; did you mean {by_letters[close[0]]}?" if close else ""


def checked_positive(name: str, value: Any) -> int:
    """Return ``value`` if it is a whole number ≥ 1, else raise :class:`OptionError`."""
    return checked_whole(name, value, 1)


def checked_batch_size(value: Any) -> int:
    """Return ``value`` if it is a whole number from 1 to 2³¹ − 1, else raise an error."""
    if checked_whole("batch_size", value, 1) >= 2**31:
        raise SizeError(f"batch_size: expected a number below {2**31}; got {value}")
    return int(value)


def checked_divides(name: str, value: Any, of: str, size: int) -> int:
    """Return ``value`` if it is a whole number ≥ 1 that divides a size, else raise an error."""
    if size % checked_positive(name, value):
        raise OptionError(f"{name}: expected a divisor of {of} = {size}; got {value}")
    return int(value)


def checked_whole(name: str, value: Any, least: int = 0) -> int:
    """Return ``value`` if it is a whole number ≥ ``least``, else raise :class:`OptionError`."""
    if not is_whole(value) or value < least:
        raise OptionError(f"{name}: expected a whole number, at least {least}; got {value!r}")
    return int(value)


def checked_above_zero(name: str, value: Any, *, infinite: bool = False) -> float:
    """Return ``value`` if it is a number > 0, else raise :class:`OptionError`."""
    if not is_number(value) or not value > 0 or (value == np.inf and not infinite):
        raise OptionError(f"{name}: expected a number above 0; got {value!r}")
    return float(value)


def checked_range(name: str, value: Any, low: float, high: float = np.inf) -> float:
    """Return ``value`` if it is a number with low ≤ value < high, else raise an error."""
    plain = value.item() if isinstance(value, np.generic) else value  # 3e38 overflows in float16
    if not is_number(value) or not low <= plain < high:
        raise OptionError(f"{name}: expected a number in [{low:g}, {high:g}); got {value!r:.80}")
    return float(value)


def checked_eps(value: Any) -> float:
    """Return ``value`` if it is a number ≥ 0 in the range of float32, else raise an error."""
    return checked_range("eps", value, 0, LARGEST)


def check_kind(name: str, value: Any, kind: type) -> None:
    """Raise :class:`OptionError` unless ``value`` has this type."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOUaeiou" else "a"
        raise OptionError(f"{name}: expected {article} {kind.__name__}; got {type(value).__name__}")


def checked_bool(name: str, value: Any) -> bool:
    """Return ``value`` if it is a bool of Python or NumPy, else raise an error."""
    if not isinstance(value, bool | np.bool_):
        raise OptionError(f"{name}: expected True or False; got {value!r}")
    return bool(value)


def check_has(name: str, value: Any, *methods: str) -> None:
    """Raise :class:`OptionError` unless ``value`` has these methods."""
    missing = [m for m in methods if not callable(getattr(value, m, None))]
    if missing or isinstance(value, type):
        raise OptionError(
            f"{name}: expected an object with {', '.join(methods)}; got {type(value).__name__}"
        )


def check_callable(name: str, value: Any) -> None:
    """Raise :class:`OptionError` unless ``value`` is callable."""
    if not callable(value) or isinstance(value, type):
        raise OptionError(f"{name}: expected a callable; got {type(value).__name__}")


def checked_lengths(lengths: Any, B: int, T: int) -> Array:
    """Return the lengths as integers (B,), or raise an error."""
    array = plain_array("lengths", lengths)
    if not array.size:  # [] becomes an array of float64
        array = array.astype(int)
    check_form("lengths", array, (B,), "integers")
    if array.min() < 0 or array.max() > T:
        raise OptionError(f"lengths: expected integers from 0 to T = {T}; got {array.tolist()}")
    whole: Array = array.astype(np.int64)
    return whole
