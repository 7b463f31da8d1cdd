"""Elementary functions of one number, for compiled loops.

They consist of arithmetic without calls and branches, so that LLVM vectorises loops over them.
Errors of exp, tanh and log1p are below 1.1, 1.6 and 1.5 units in the last place.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numba.core import types

from numpy_xlstm.kernels import tiles
from numpy_xlstm.kernels.compiler import inline


class Format(NamedTuple):
    """Constants of float32 or float64; coefficients have the highest power first."""

    number: Any
    bits: Any  # unsigned integer of the same size
    digits: int  # bits of the significand, below the bits of the exponent
    bias: int  # exponent bits of the number 1
    vanishes: float  # an integer x with e^x = 0
    overflows: float  # an integer x with e^x = inf
    ln2: tuple[float, float]  # high digits, low digits; high × exponent is exact
    exp: tuple[float, ...]  # Taylor series of (e^r − 1 − r) / r² for |r| ≤ ln 2 / 2
    log: tuple[float, ...]  # Taylor series of (2 artanh(t) / t − 2) / t² in t², |t| ≤ 3 − 2 √2
    # polynomial in x² for (tanh(x) / x − 1) / x², with the least error for |x| ≤ 0.27
    tanh: tuple[float, ...]


SINGLE = Format(
    number=np.float32,
    bits=np.uint32,
    digits=23,
    bias=127,
    vanishes=-104.0,
    overflows=89.0,
    ln2=(0.693145751953125, 1.4286068203094173e-06),
    exp=tuple(1 / math.factorial(n) for n in range(7, 1, -1)),
    log=tuple(2 / n for n in range(9, 1, -2)),
    tanh=(-0.05102810234362393, 0.13321089184327514, -0.3333318749653901),
)
DOUBLE = Format(
    number=np.float64,
    bits=np.uint64,
    digits=52,
    bias=1023,
    vanishes=-746.0,
    overflows=710.0,
    ln2=(0.6931471805598903, 5.497923018708371e-14),
    exp=tuple(1 / math.factorial(n) for n in range(13, 1, -1)),
    log=tuple(2 / n for n in range(21, 1, -2)),
    tanh=(
        -0.0012968373728311595,
        0.003573970852681277,
        -0.00886214844021955,
        0.02186945260487469,
        -0.053968253331712956,
        0.13333333332798103,
        -0.3333333333333181,
    ),
)
FORMATS = {numba.float32: SINGLE, numba.float64: DOUBLE}


@inline
def polynomial(coefficients: Any, x: Any) -> Any:
    """Return the value of a polynomial at x."""
    y = coefficients[0]
    for c in coefficients[1:]:
        y = y * x + c
    return y


@cache
def power_of_two_in(F: Format) -> Any:
    """Return the function k → 2^k, with k given in the low bits of an unsigned integer."""
    number, bits, digits, one = F.number, F.bits, F.digits, F.bits(F.bias << F.digits)
    return inline(lambda k: bits(bits(k << digits) + one).view(number))


@cache
def reduced_in(F: Format) -> Any:
    """Return the function x → k, e^r − 1 for x = k ln 2 + r; k is as in :func:`power_of_two_in`."""
    number, bits, coefficients = F.number, F.bits, tuple(map(F.number, F.exp))
    per_ln2, (high, low) = number(1 / math.log(2)), map(number, F.ln2)
    shift = number(1.5 * 2**F.digits)  # adding it rounds to an integer

    def reduced(x: Any) -> Any:
        shifted = x * per_ln2 + shift
        k = shifted - shift
        r = (x - k * high) - k * low
        return number(shifted).view(bits), r + r * r * polynomial(coefficients, r)

    return inline(reduced)


def _exp(x: Any) -> Any:
    F = FORMATS[x]
    reduced, power_of_two = reduced_in(F), power_of_two_in(F)
    bits, vanishes, overflows = F.bits, F.number(F.vanishes), F.number(F.overflows)

    def exp(x: Any) -> Any:
        x = vanishes if x < vanishes else x
        x = overflows if x > overflows else x
        k, t = reduced(x)
        half = bits(k >> 1)  # 2^k may be too small or too large for a normal number
        return (1 + t) * power_of_two(half) * power_of_two(bits(k - half))

    return exp


def _tanh(x: Any) -> Any:
    F = FORMATS[x]
    reduced, power_of_two = reduced_in(F), power_of_two_in(F)
    small, saturated = F.number(0.27), F.number(20)
    coefficients = tuple(map(F.number, F.tanh))

    def tanh(x: Any) -> Any:
        y = abs(x)
        k, t = reduced(2 * (saturated if y > saturated else y))
        s = power_of_two(k)
        u = t * s + (s - 1)  # e^2|x| − 1
        q = y * y
        near_0 = y + y * (q * polynomial(coefficients, q))  # the quotient would err by 2.5 units
        return math.copysign(near_0 if y < small else u / (u + 2), x)

    return tanh


def _log1p(x: Any) -> Any:
    F = FORMATS[x]
    number, bits, digits, coefficients = F.number, F.bits, F.digits, tuple(map(F.number, F.log))
    (high, low), infinity, nan = map(number, F.ln2), number(np.inf), number(np.nan)
    bias, twice_bias = bits(F.bias), bits(2 * F.bias)
    to_exponent = bits(bits(F.bias << digits) - number(math.sqrt(0.5)).view(bits))
    whole = bits((digits + F.bias) << digits)  # bits of 2^digits, whose last bit has the value 1
    whole_bias = number(2**digits + F.bias)

    def log1p(x: Any) -> Any:
        # 1 + x = 2^k (1 + f) with 1 + f in [√½, √2); e = k + bias
        u = 1 + x
        n = number(u).view(bits)
        e = bits(bits(n + to_exponent) >> digits)
        k = bits(e | whole).view(number) - whole_bias
        f = bits(n - bits(bits(e - bias) << digits)).view(number) - 1
        # what rounding u lost; the next line ignores it if 2^−k is not a normal number
        lost = x - (u - 1)
        f += lost * bits(bits(twice_bias - min(e, twice_bias)) << digits).view(number)
        # log(1 + f) = 2 artanh(t) = f − (f² / 2 − t (f² / 2 + …))
        t, half_square = f / (2 + f), f * f / 2
        q = t * t
        rest = t * (half_square + q * polynomial(coefficients, q))
        y = k * high + (f - (half_square - (rest + k * low)))
        y = math.copysign(y if x < infinity else x, x)  # keep −0
        return y if x > -1 else (-infinity if x == -1 else nan)

    return log1p


def wider(a: Any, b: Any) -> Any:
    """Return the wider of the types ``a`` and ``b``; an integer literal does not widen a float."""
    return max(a, b, key=lambda kind: (isinstance(kind, types.Float), kind.bitwidth))


def _maximum(a: Any, b: Any) -> Any:
    kind = wider(a, b)
    return lambda a, b: kind(a) if a >= b or a != a else kind(b)


def _minimum(a: Any, b: Any) -> Any:
    kind = wider(a, b)
    return lambda a, b: kind(a) if a < b or a != a else kind(b)


def _modulus(x: Any) -> Any:
    return lambda x: abs(x)


def _where(condition: Any, a: Any, b: Any) -> Any:
    kind = wider(a, b)
    return lambda condition, a, b: kind(a) if condition else kind(b)


def reader(count: int) -> Any:
    """Return a function that returns a tuple of ``count`` numbers.

    For two, after inlining: ``array[rows[0], n, j], array[rows[1], n, j]``. A loop over the rows
    would not do, because numba must know the type of each entry of a tuple.
    """
    if count == 0:
        return lambda array, rows, n, j: ()
    rest = inline(reader(count - 1))
    return lambda array, rows, n, j: (array[rows[0], n, j], *rest(array, rows[1:], n, j))


def writer(count: int) -> Any:
    """Return a function that writes a tuple of ``count`` numbers, as :func:`reader` reads them."""
    if count == 0:
        return lambda array, rows, n, j, numbers: None
    rest = inline(writer(count - 1))

    def write(array: Any, rows: Any, n: Any, j: Any, numbers: Any) -> None:
        array[rows[0], n, j] = numbers[0]
        rest(array, rows[1:], n, j, numbers[1:])

    return write


IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {
    "exp": _exp,
    "tanh": _tanh,
    "log1p": _log1p,
    "maximum": _maximum,
    "minimum": _minimum,
    "modulus": _modulus,
    "where": _where,
    "entries": lambda array, rows, n, j: reader(len(rows)),
    "set_entries": lambda array, rows, n, j, numbers: writer(len(rows)),
    **tiles.IMPLEMENTATIONS,
}
"""By the name in :mod:`~numpy_xlstm.kernels.functions`: a function of the types of the arguments,
which returns the function to compile for them."""
