"""Functions of compiled kernels against 50 digits."""

import importlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mpmath
import numpy as np
import pytest

from numpy_xlstm.kernels import functions
from numpy_xlstm.kernels.functions import (
    compiled,
    exp,
    kernel,
    log1p,
    log_sigmoid,
    maximum,
    minimum,
    modulus,
    sigmoid,
    sigmoid_and_slope,
    tanh,
    tanh_slope,
    where,
)
from numpy_xlstm.numerics import Array, activations

mpmath.mp.dps = 50
DTYPES = [np.float32, np.float64]
WIDER = {np.float32: np.float64, np.float64: np.longdouble}

with_numba = pytest.mark.skipif(
    not compiled(), reason="kernels are not compiled: numba is missing or turned off"
)


def _loop(function: Any) -> Any:
    """Return a kernel that applies a function to each number."""

    @kernel
    def loop(x: Array, y: Array) -> None:
        for i in range(len(x)):
            y[i] = function(x[i])

    return loop


_exp, _tanh, _log1p = (_loop(function) for function in (exp, tanh, log1p))


@kernel
def _gates(x: Array, y: Array) -> None:
    for i in range(len(x)):
        y[i, 0] = sigmoid(x[i])
        y[i, 1], y[i, 2] = sigmoid_and_slope(x[i])
        y[i, 3] = tanh_slope(x[i])
        y[i, 4] = log_sigmoid(x[i])


def _values(loop: Any, x: Array) -> Array:
    y = np.empty_like(x)
    loop(x, y)
    return y


# The loop, its largest error in units in the last place, the function, and where it is interesting.
FUNCTIONS: dict[str, tuple[Any, float, Any, list[tuple[float, float]]]] = {
    "exp": (_exp, 1.1, mpmath.exp, [(-110, 90), (-746, 710), (-746, -707), (-0.4, 0.4)]),
    "tanh": (_tanh, 1.6, mpmath.tanh, [(-22, 22), (-1, 1), (0.2, 0.6), (0, 0.1)]),
    "log1p": (_log1p, 1.5, mpmath.log1p, [(0, 1), (-1, 1), (0.3, 0.5), (0, 1e4)]),
}


def _points(dtype: Any, intervals: list[tuple[float, float]]) -> Array:
    """Return over 250,000 numbers: of every sign and exponent, small, and evenly spaced."""
    rng, unsigned, n = np.random.default_rng(0), f"u{np.dtype(dtype).itemsize}", 2**16
    anything = rng.integers(0, np.iinfo(unsigned).max, n, unsigned).view(dtype)
    parts = [anything, rng.choice([-1, 1], n) * np.exp2(rng.uniform(-30, 10, n))]
    parts += [rng.uniform(a, b, n) for a, b in intervals]
    return np.concatenate(parts, dtype=dtype, casting="same_kind")


def _unit(dtype: Any, exact: Any) -> Any:
    """The unit in the last place of a number of 50 digits."""
    info = np.finfo(dtype)
    return mpmath.mpf(2) ** (max(mpmath.frexp(exact)[1] - 1, info.minexp) - info.nmant)


def _largest_error(function: Any, x: Array, got: Array, wide: Array) -> float:
    """Return the errors against 50 digits, in units in the last place, of the worst numbers."""
    finite = np.isfinite(got) & np.isfinite(wide) & (x != 0)
    x, got, wide = x[finite], got[finite], wide[finite]
    unit = np.spacing(np.maximum(np.abs(wide).astype(x.dtype), np.finfo(x.dtype).tiny))
    worst = np.argsort(np.abs(got - wide) / unit)[-50:]
    exact = [function(mpmath.mpf(v.item())) for v in x[worst]]
    found = zip(got[worst], exact, strict=True)
    return float(max(abs(mpmath.mpf(g.item()) - e) / _unit(x.dtype, e) for g, e in found))


@with_numba
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_are_a_unit_or_two_in_the_last_place(name: str, dtype: Any) -> None:
    loop, bound, function, intervals = FUNCTIONS[name]
    x = _points(dtype, intervals)
    assert len(x) > 250_000
    with np.errstate(all="ignore"):
        got, wide = _values(loop, x), getattr(np, name)(x.astype(WIDER[dtype]))
        rounded = wide.astype(dtype)
    assert np.array_equal(np.isnan(got), np.isnan(wide))
    assert np.array_equal(got[np.isinf(rounded)], rounded[np.isinf(rounded)])
    assert _largest_error(function, x, got, wide) <= bound


@with_numba
@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_overflows_and_vanishes_where_it_must(dtype: Any) -> None:
    """e^x is inf from half a unit above the largest number, and 0 up to half the smallest."""
    info = np.finfo(dtype)
    inf_from = mpmath.mpf(2) ** info.maxexp - mpmath.mpf(2) ** (info.maxexp - info.nmant - 2)
    zero_up_to = mpmath.mpf(2) ** (info.minexp - info.nmant - 1)
    for limit in (inf_from, zero_up_to):
        bits = np.array(float(mpmath.log(limit)), dtype).view(f"i{info.dtype.itemsize}")
        x = (bits + np.arange(-20, 21, dtype=bits.dtype)).view(dtype)
        got, exact = _values(_exp, x), [mpmath.exp(mpmath.mpf(v.item())) for v in x]
        assert len({e > limit for e in exact}) == 2
        assert np.isinf(got).tolist() == [e >= inf_from for e in exact]
        assert (got == 0).tolist() == [e <= zero_up_to for e in exact]


@with_numba
@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_infinities_nan_and_the_ends_of_the_domain(dtype: Any) -> None:
    info = np.finfo(dtype)
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, info.max, -info.max], dtype)
    expected = np.array([1, 1, np.inf, 0, np.nan, np.inf, 0], dtype)
    np.testing.assert_array_equal(_values(_exp, x), expected)
    expected = np.array([0, -0.0, 1, -1, np.nan, 1, -1], dtype)
    np.testing.assert_array_equal(got := _values(_tanh, x), expected)
    np.testing.assert_array_equal(np.signbit(got[:2]), [False, True])
    x = np.array([0.0, -0.0, np.inf, np.nan, -1, np.nextafter(dtype(-1), dtype(-2)), -np.inf])
    expected = np.array([0, -0.0, np.inf, np.nan, -np.inf, np.nan, np.nan])
    np.testing.assert_array_equal(got := _values(_log1p, x.astype(dtype)), expected)
    np.testing.assert_array_equal(np.signbit(got[:2]), [False, True])


def _sigma(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


GATES: list[Callable[[Any], Any]] = [
    _sigma,
    _sigma,
    lambda x: _sigma(x) * _sigma(-x),
    lambda x: mpmath.sech(x) ** 2,
    lambda x: -mpmath.log1p(mpmath.exp(-x)),
]


@with_numba
@pytest.mark.parametrize("dtype", DTYPES)
def test_gates_are_accurate_in_both_tails(dtype: Any) -> None:
    """So far as the results are at all, the last digits of the smallest ones included."""
    x = np.concatenate([np.linspace(-750, 750, 301), np.linspace(-105, 105, 301)]).astype(dtype)
    y = np.empty((len(x), len(GATES)), dtype)
    _gates(x, y)
    for got, function in zip(y.T, GATES, strict=True):
        exact = [function(mpmath.mpf(v.item())) for v in x]
        errors = [
            abs(mpmath.mpf(g.item()) - e) / _unit(dtype, e) for g, e in zip(got, exact, strict=True)
        ]
        assert max(errors) <= 4


@kernel
def _literals(x: Array, y: Array) -> None:
    for i in range(len(x)):
        y[i, 0] = 1 / (1 + x[i])
        y[i, 1] = 0.5 / (3 * (x[i] if x[i] > 1 else 1 - x[i]))
        y[i, 2] = 1 / (maximum(x[i], 0) + minimum(x[i], 1) - 2 * where(x[i] > 0.5, x[i], 0))
        y[i, 3] = x[i]
        y[i, 3] /= 3


@with_numba
@pytest.mark.parametrize("dtype", DTYPES)
def test_literals_do_not_widen_numbers(dtype: Any) -> None:
    """As in NumPy, which rounds each result to the dtype; in float64 all four would differ."""
    x = np.random.default_rng(0).uniform(1.5, 2, 1000).astype(dtype)
    y = np.empty((len(x), 4), dtype)
    _literals(x, y)
    as_in_numpy = [1 / (1 + x), 0.5 / (3 * x), 1 / (x + 1 - 2 * x), x / 3]
    np.testing.assert_array_equal(y, np.stack(as_in_numpy, axis=1), strict=True)


@kernel
def _choices(a: Array, b: Array, y: Array) -> None:
    for i in range(len(a)):
        y[i, 0], y[i, 1] = maximum(a[i], b[i]), minimum(a[i], b[i])
        y[i, 2], y[i, 3] = modulus(a[i]), where(a[i] < b[i], a[i], 7)


@with_numba
@pytest.mark.parametrize("dtype", DTYPES)
def test_choices_are_those_of_numpy(dtype: Any) -> None:
    values = np.array([-np.inf, -2, -0.0, 1, 3, np.inf, np.nan], dtype)
    a, b = (grid.ravel() for grid in np.meshgrid(values, values))
    y = np.empty((len(a), 4), dtype)
    _choices(a, b, y)
    expected = [np.maximum(a, b), np.minimum(a, b), np.abs(a), np.where(a < b, a, 7)]
    np.testing.assert_array_equal(y, np.stack(expected, axis=1))


COMPLEX = np.array([-3 + 1j, 2 - 1j, 5 + 2j, -0.5j, 1.5 + 0j])


@pytest.mark.parametrize("dtype", [np.float32, np.longdouble, np.complex128])
def test_over_arrays_they_are_functions_of_arrays(dtype: Any) -> None:
    """Real parts are compared, so that functions are analytic where they are smooth."""
    x = COMPLEX.astype(dtype) if dtype == np.complex128 else COMPLEX.real.astype(dtype)
    got = [exp(x), tanh(x), log1p(x * x), maximum(x, x[::-1]), minimum(x, 0), modulus(x)]
    greater = np.where(x.real >= x[::-1].real, x, x[::-1])
    expected = [np.exp(x), np.tanh(x), np.log1p(x * x), greater, np.where(x.real < 0, x, 0)]
    expected += [np.where(x.real < 0, -x, x)]
    for y, z in zip(got, expected, strict=True):
        np.testing.assert_array_equal(y, z, strict=True)
    y, slope = sigmoid_and_slope(x)
    near = [(sigmoid(x), y), (y, activations.sigmoid(x)), (slope, activations.sigmoid_slope(x))]
    near += [
        (tanh_slope(x), activations.tanh_slope(x)),
        (log_sigmoid(x), activations.log_sigmoid(x)),
    ]
    for y, z in near:
        assert y.dtype == dtype
        np.testing.assert_allclose(y, z, rtol=8 * np.finfo(dtype).eps)


@with_numba
def test_a_thread_waits_until_another_has_registered_all_functions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise it would compile a kernel that calls a function unknown to numba."""
    compiler = importlib.import_module("numpy_xlstm.kernels.compiler")
    registering, register, came = [], compiler.register, threading.Event()

    def slowly(*args: Any) -> None:
        registering.append(args)
        came.wait(timeout=0.3)
        register(*args)
        registering.pop()

    def compile_kernel(function: Any, options: Any) -> Any:
        came.set()
        assert not registering
        return function

    monkeypatch.setattr(functions, "_marked", [])
    monkeypatch.setattr(compiler, "register", slowly)
    monkeypatch.setattr(compiler, "dispatcher", compile_kernel)
    kernels = [kernel(lambda x: x), kernel(lambda x: -x)]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda run: run(2), kernels)) == [2, -2]
