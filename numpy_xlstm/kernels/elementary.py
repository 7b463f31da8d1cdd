"""Functions of one number for compiled loops: exp, tanh, log1p, maximum, minimum, modulus, where.

They are arithmetic without calls and branches, so that a loop over them becomes vector code. The
errors of exp, tanh and log1p are below 1.1, 1.5 and 1.4 units in the last place, for all arguments.
Coefficients are those of polynomials whose largest error is smallest (Remez), highest power first.
"""

import math
from typing import Any, NamedTuple

import numba
import numpy as np
from numba.core import types

from numpy_xlstm.kernels import functions
from numpy_xlstm.kernels.compiler import INLINE, implements


class Format(NamedTuple):
    """What the functions must know of float32 or float64."""

    number: Any
    bits: Any  # unsigned integer of the same size
    digits: int  # bits of the significand, below those of the exponent
    bias: int  # exponent of 1, as it is in the bits
    vanishes: float  # where e^x is 0
    overflows: float  # where e^x is inf
    ln2: tuple[float, float]  # the first times any exponent is exact
    exp: tuple[float, ...]  # (e^r − 1 − r) / r², |r| ≤ ln 2 / 2
    tanh: tuple[float, ...]  # (tanh(x) / x − 1) / x² of x², |x| ≤ 0.27
    log: tuple[float, ...]  # (2 artanh(t) / t − 2) / t² of t², |t| ≤ 3 − 2 √2


SINGLE = Format(
    number=np.float32,
    bits=np.uint32,
    digits=23,
    bias=127,
    vanishes=-104.0,
    overflows=89.0,
    ln2=(0.693145751953125, 1.4286068203094173e-06),
    exp=(
        0.0013950491674133258,
        0.008368889284450627,
        0.041666205794452925,
        0.16666518840425965,
        0.5000000095186973,
    ),
    tanh=(0.020313762474075462,-0.05387104245723479,0.13333092031910942, -0.33333331466325766),
    log=(0.2366875309141543, 0.28532072301336325,0.4000043369833369,  0.6666666508679875),
)
DOUBLE = Format(
    number=np.float64,
    bits=np.uint64,
    digits=52,
    bias=1023,
    vanishes=-746.0,
    overflows=710.0,
    ln2=(0.6931471805598903, 5.497923018708371e-14),
    exp=(
        2.5117862209452576e-08,
        2.763128005932482e-07,
        2.7557216297168217e-06,
        2.4801489943045365e-05,
        0.00019841269917387773,
        0.0013888888947015047,
        0.008333333333307203,
        0.041666666666515424,
        0.166666666666667,
        0.5000000000000012,
    ),
    tanh=(
        -0.0012912000296815245,
        0.0035726278436661557,
        -0.008862024078705167,
        0.021869446979616354,
        -0.05396825320414425,
        0.13333333332666444,
        -0.3333333333333136,
    ),
    log=(
        0.1486767623049324,
        0.15306379836918815,
        0.18183888893309838,
        0.22222191703524435,
        0.2857142881776045,
        0.39999999999018837,
        0.6666666666666808,
    ),
)
FORMATS = {
    numba.float32: SINGLE,
    numba.uint32: SINGLE,
    numba.float64: DOUBLE,
    numba.uint64: DOUBLE,
}


@numba.njit(**INLINE)  # type: ignore[untyped-decorator]
def horner(coefficients: Any, x: Any) -> Any:
    y = coefficients[0]
    for c in coefficients[1:]:
        y = y * x + c
    return y


@numba.njit(**INLINE)  # type: ignore[untyped-decorator]
def polynomial(coefficients: Any, x: Any) -> Any:
    """Return the value of a polynomial."""
    q = x * x
    if len(coefficients) % 2:
        return horner(coefficients[::2], q) + x * horner(coefficients[1::2], q)
    return horner(coefficients[1::2], q) + x * horner(coefficients[::2], q)


def power_of_two(k: Any) -> Any:
    """Return 2^k, for k in the last bits of a whole number."""


@implements(power_of_two)
def _power_of_two(k: Any) -> Any:
    F = FORMATS[k]
    number, bits, digits = F.number, F.bits, F.digits
    one = bits(F.bias << digits)
    return lambda k: bits(bits(k << digits) + one).view(number)


def reduced(x: Any) -> Any:
    """Return k, in the last bits of a whole number, and e^r − 1, for x = k ln 2 + r."""


@implements(reduced)
def _reduced(x: Any) -> Any:
    F = FORMATS[x]
    number, bits = F.number, F.bits
    per_ln2, (high, low) = number(1 / math.log(2)), map(number, F.ln2)
    shift = number(1.5 * 2**F.digits)  # numbers of this size are whole
    coefficients = tuple(map(number, F.exp))

    def reduced(x: Any) -> Any:
        shifted = x * per_ln2 + shift
        k = shifted - shift
        r = (x - k * high) - k * low
        return number(shifted).view(bits), r + r * r * polynomial(coefficients, r)

    return reduced


@implements(functions.exp)
def _exp(x: Any) -> Any:
    F = FORMATS[x]
    bits, vanishes, overflows = F.bits, F.number(F.vanishes), F.number(F.overflows)

    def exp(x: Any) -> Any:
        x = vanishes if x < vanishes else x
        x = overflows if x > overflows else x
        k, t = reduced(x)
        half = bits(k >> 1)  # 2^k itself may be too small or too large a number
        return (1 + t) * power_of_two(half) * power_of_two(bits(k - half))

    return exp


@implements(functions.tanh)
def _tanh(x: Any) -> Any:
    F = FORMATS[x]
    small, one = F.number(0.27), F.number(20)  # tanh(20) is 1
    coefficients = tuple(map(F.number, F.tanh))

    def tanh(x: Any) -> Any:
        y = abs(x)
        k, t = reduced(2 * (one if y > one else y))
        s = power_of_two(k)
        u = t * s + (s - 1)  # e^2|x| − 1, with which tanh(x) for small x has two roundings too many
        q = x * x
        near_0 = x + x * (q * polynomial(coefficients, q))
        return near_0 if y < small else math.copysign(u / (u + 2), x)

    return tanh


@implements(functions.log1p)
def _log1p(x: Any) -> Any:
    F = FORMATS[x]
    number, bits, digits = F.number, F.bits, F.digits
    bias, one, top = bits(F.bias), bits(F.bias << digits), bits(2 * F.bias)
    to_significand = bits(one - number(math.sqrt(0.5)).view(bits))
    whole, whole_bias = bits((F.bias + digits) << digits), number(2**digits + F.bias)
    high, low = map(number, F.ln2)
    coefficients = tuple(map(number, F.log))
    infinity, nan = number(np.inf), number(np.nan)

    def log1p(x: Any) -> Any:
        # 1 + x = 2^k (1 + f), where 1 + f is in [√½, √2), and e is k plus the bias
        u = 1 + x
        n = number(u).view(bits)
        e = bits(bits(n + to_significand) >> digits)
        k = bits(e | whole).view(number) - whole_bias
        f = bits(n - bits(bits(e - bias) << digits)).view(number) - 1
        f += (x - (u - 1)) * bits(bits(top - min(e, top)) << digits).view(number)  # u is rounded
        half_square = f * f / 2
        t = f / (2 + f)
        q = t * t
        rest = t * (half_square + q * polynomial(coefficients, q))
        y = k * high + (f - (half_square - (rest + k * low)))
        y = math.copysign(y if x < infinity else x, x)
        return y if x > -1 else (-infinity if x == -1 else nan)

    return log1p


def wider(a: Any, b: Any) -> Any:
    """Return the type of ``a`` or ``b`` that the other one is converted to."""
    return max(a, b, key=lambda kind: (isinstance(kind, types.Float), kind.bitwidth))


@implements(functions.maximum)
def _maximum(a: Any, b: Any) -> Any:
    kind = wider(a, b)
    return lambda a, b: kind(a) if a >= b or a != a else kind(b)  # noqa: PLR0124


@implements(functions.minimum)
def _minimum(a: Any, b: Any) -> Any:
    kind = wider(a, b)
    return lambda a, b: kind(a) if a < b or a != a else kind(b)  # noqa: PLR0124


@implements(functions.modulus)
def _modulus(x: Any) -> Any:
    return lambda x: abs(x)


@implements(functions.where)
def _where(condition: Any, a: Any, b: Any) -> Any:
    kind = wider(a, b)
    return lambda condition, a, b: kind(a) if condition else kind(b)
