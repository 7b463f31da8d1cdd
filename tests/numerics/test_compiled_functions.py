"""Functions of compiled kernels against 50 digits, and compilation of kernels."""

import importlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from inspect import unwrap
from operator import attrgetter
from pathlib import Path
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
    """Return over a million numbers: of every sign and exponent, small, and evenly spaced."""
    rng, unsigned, n = np.random.default_rng(0), f"u{np.dtype(dtype).itemsize}", 2**18
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
    assert len(x) > 10**6
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


@with_numba
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_below_the_smallest_normal_number_keeps_its_digits(dtype: Any) -> None:
    info = np.finfo(dtype)
    small = np.array([1, 2, 3, 12345, 2**info.nmant - 1, 2**info.nmant + 1], dtype)
    x = np.concatenate([small, -small]) * info.smallest_subnormal
    np.testing.assert_array_equal(_values(_tanh, x), x)
    np.testing.assert_array_equal(_values(_log1p, x), x)
    np.testing.assert_array_equal(_values(_exp, x), np.ones_like(x))


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
    x = np.concatenate([np.linspace(-750, 750, 600), np.linspace(-105, 105, 600)]).astype(dtype)
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

    def compile_kernel(function: Any) -> Any:
        came.set()
        assert not registering
        return function

    monkeypatch.setattr(functions, "_marked", [])
    monkeypatch.setattr(compiler, "register", slowly)
    monkeypatch.setattr(compiler, "dispatcher", compile_kernel)
    kernels = [kernel(lambda x: x), kernel(lambda x: -x)]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda run: run(2), kernels)) == [2, -2]


PROGRAM = """
import sys
import numpy as np
import numpy_xlstm
from numpy_xlstm.kernels import functions
from numpy_xlstm.kernels.functions import kernel, pointwise

@pointwise
def twice(x):
    return 2 * (1 + x)

@kernel
def outer(x):
    inner(x)
    return x.sum()

@kernel
def inner(x):
    for i in range(len(x)):
        x[i] = twice(x[i])

assert "numba" not in sys.modules
if "--changed" in sys.argv:
    from numpy_xlstm.kernels import compiler
    compiler.source_hash = lambda module: b"other"
print(outer(np.zeros(3, np.float32)), functions.compiled(), functions.compiled(np.longdouble))
found = functions._dispatcher(outer.__wrapped__)
stats = getattr(found, "stats", [None])
print([sum(counts.values()) for counts in stats[1:]], "numba" in sys.modules)
"""


def _run(*command: str, **environment: str) -> list[str]:
    inherited = {k: v for k, v in os.environ.items() if k != "NUMPY_XLSTM_COMPILED"}
    line = [sys.executable, "-W", "error", *command]
    return subprocess.check_output(line, text=True, env=inherited | environment).splitlines()


RIGHT = "6.0 True False"


@with_numba
def test_the_second_process_compiles_nothing(tmp_path: Path) -> None:
    """A kernel is loaded from disk unless a file with one of its functions has changed."""
    (program := tmp_path / "program.py").write_text(PROGRAM)
    for arguments, hits, misses in (((), 0, 1), ((), 1, 0), (("--changed",), 0, 1)):
        found = _run(str(program), *arguments, NUMBA_CACHE_DIR=str(tmp_path))
        assert found == [RIGHT, f"[{hits}, {misses}] True"]


def _damaged(code: bytes) -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    variants = {"empty": b"", "cut": code[: len(code) // 2], "other": b"x" * len(code)}
    for n in rng.integers(0, 8 * len(code), 3).tolist():
        bits = bytearray(code)
        bits[n // 8] ^= 1 << n % 8
        variants[f"bit {n}"] = bytes(bits)
    return variants


@pytest.fixture
def misses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Run a kernel as a new process does; return how many signatures it has compiled."""
    pytest.importorskip("numpy_xlstm.kernels.elementary")
    compiler = importlib.import_module("numpy_xlstm.kernels.compiler")
    path = str(tmp_path / "code.nbc")
    monkeypatch.setattr(compiler.CheckedFiles, "_data_path", lambda *args: path)

    def run() -> int:
        x, dispatcher = np.array([1.0, 2.0]), compiler.dispatcher(unwrap(_double))
        dispatcher(x)
        assert x.tolist() == [2, 4]
        return sum(dispatcher.stats.cache_misses.values())

    return run


@kernel
def _double(x: Array) -> None:
    for i in range(len(x)):
        x[i] *= 2


@with_numba
def test_damaged_code_is_compiled_again(tmp_path: Path, misses: Callable[[], int]) -> None:
    assert [misses(), misses()] == [1, 0]
    file = tmp_path / "code.nbc"
    code = file.read_bytes()
    for name, damaged in _damaged(code).items():
        file.write_bytes(damaged)
        assert [misses(), misses()] == [1, 0], name


@with_numba
@pytest.mark.parametrize(
    ("function", "files"),
    [
        ("os.replace", []),
        ("os.makedirs", []),
        ("builtins.open", []),
        ("pathlib.Path.read_bytes", ["code.nbc"]),
    ],
)
def test_without_space_or_permission_a_kernel_is_compiled_all_the_same(
    function: str,
    files: list[str],
    tmp_path: Path,
    misses: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(function, fail)
    assert [misses(), misses()] == [1, 1]
    assert [path.name for path in tmp_path.iterdir()] == files


@with_numba
def test_two_processes_compile_a_kernel_once(tmp_path: Path) -> None:
    (program := tmp_path / "program.py").write_text(PROGRAM)
    run = partial(_run, str(program), NUMBA_CACHE_DIR=str(tmp_path))
    with ThreadPoolExecutor() as pool:
        outputs = [future.result() for future in [pool.submit(run) for _ in range(2)]]
    assert sorted(outputs) == [[RIGHT, "[0, 1] True"], [RIGHT, "[1, 0] True"]]


LOOPS = {
    **dict.fromkeys(("lstm", "slstm", "gru", "elman", "peephole"), "CELL.loop"),
    **dict.fromkeys(("norms", "silu", "conv", "adamw"), "loop"),
    "mlstm.chunkwise": "through_chunks",
    "mlstm.recurrent": "through_steps",
    "mlstm.step": "heads_step",
}
"""A compiled loop of each module."""


@with_numba
@pytest.mark.parametrize(
    ("changed", "stale"),
    [
        *((f"{name}.py", {name}) for name in ("lstm", "gru", "elman", "peephole", "slstm")),
        *((f, {"lstm", "slstm", "gru", "elman", "peephole"}) for f in ("scan.py", "loops.py")),
        ("silu.py", {"silu"}),
        ("matrices.py", {"mlstm.chunkwise"}),
        ("step.py", {"mlstm.step", "mlstm.recurrent"}),
        ("norms.py", {"norms"}),
        *((f"{name}.py", None) for name in ("functions", "elementary", "compiler")),
    ],
)
def test_code_depends_on_the_sources_of_its_functions_alone(
    changed: str, stale: set[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = importlib.import_module("numpy_xlstm.kernels.compiler")
    importlib.import_module("numpy_xlstm.kernels.elementary")
    modules = {}
    for name, loop in LOOPS.items():
        module = importlib.import_module(f"numpy_xlstm.kernels.{name}")
        modules[name] = attrgetter(loop)(module).__module__
    hashed = compiler.source_hash.__wrapped__
    before = {name: hashed(module) for name, module in modules.items()}
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda p: read(p) + b"#" * (p.name == changed))
    found = {name for name, module in modules.items() if hashed(module) != before[name]}
    assert found == (stale or {*LOOPS})


@with_numba
def test_a_kernel_that_cannot_be_kept_is_compiled_all_the_same() -> None:
    """Numba has no cache on disk for a program without a file."""
    assert _run("-c", PROGRAM) == [RIGHT, "[0, 1] True"]


# Numba raises ImportError if it does not know this version of NumPy.
NO_NUMBA = "import sys; sys.modules['numba'] = None\n" + PROGRAM.replace("assert", "assert 1 or")


@pytest.mark.parametrize(
    ("program", "environment", "numba"),
    [
        (PROGRAM, {"NUMPY_XLSTM_COMPILED": "0"}, "False"),
        (PROGRAM, {"NUMBA_DISABLE_JIT": "1"}, str(find_spec("numba") is not None)),
        (NO_NUMBA, {}, "True"),
    ],
)
def test_compilation_is_off(program: str, environment: dict[str, str], numba: str) -> None:
    """``numba`` is whether the module is in ``sys.modules``."""
    assert _run("-c", program, **environment) == ["6.0 False False", f"[] {numba}"]
