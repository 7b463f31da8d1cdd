"""Bounds on the errors of results, from the measured conditioning of a case.

Derived in ``docs/bounds.md``.
"""

from collections.abc import Callable
from contextvars import copy_context
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.cells.gates import log_gate
from numpy_xlstm.checkpoints.safetensors import numpy_dtype
from numpy_xlstm.conformance.copies import Copy
from numpy_xlstm.conformance.subjects import Options, Subject
from numpy_xlstm.errors import DTypeError
from numpy_xlstm.kernels.mlstm.forms import EXPONENTS
from numpy_xlstm.layers.base import RunOptions
from numpy_xlstm.numerics import Array, Arrays
from numpy_xlstm.trees import tree_map

CELLS = "numpy_xlstm.cells."
"""Modules in which a log of a gate is rounded."""
SAMPLES = 16
"""Number of runs of the specification in the dtype of the case, each with perturbed inputs."""

LARGE = 2**20
"""Size from which the numbers of a row of a matrix are perturbed alike."""


class Format(NamedTuple):
    """A format of numbers, and the errors that are accepted in it."""

    eps: float
    tiny: float
    """Smallest normal number."""
    largest: float
    """Largest finite number."""
    shake: int
    """Largest perturbation of an input, in units of the last place."""
    safety: int
    """Largest accepted error, as a multiple of the typical error of the specification."""
    roundings: int
    """Accepted error of an entry, in units of ε times the largest number of its kind and row."""
    ill: float
    """Largest useful bound, relative to the numbers of the same kind and row."""


FORMATS = {
    "float64": Format(2.0**-52, 2.0**-1022, float(np.finfo(np.float64).max), 4, 16, 16, 0.01),
    "float32": Format(2.0**-23, 2.0**-126, float(np.finfo(np.float32).max), 4, 16, 16, 0.01),
    "bfloat16": Format(2.0**-7, 2.0**-126, (2 - 2.0**-7) * 2.0**127, 1, 4, 2, 0.5),
    "float16": Format(2.0**-10, 2.0**-14, 65504.0, 1, 4, 2, 0.1),
}
"""Formats of cases. In 16 bits a port computes in float32, and what it stores is rounded."""

SIXTEEN_BITS = ("bfloat16", "float16")
"""Dtypes in which a port stores numbers that it computes in float32."""

TRUTH = np.dtype(np.longdouble)
"""Dtype of exact results, with 64 bits of mantissa on platforms that have such a format."""


def in_dtype(arrays: Arrays, dtype: Any) -> Arrays:
    """Round the arrays of real numbers to another dtype; those in 16 bits stay float32 arrays."""
    into, held = (numpy_dtype(dtype), np.float32) if dtype in SIXTEEN_BITS else (dtype, dtype)
    return {
        name: array.astype(into).astype(held, copy=False) if array.dtype.kind == "f" else array
        for name, array in arrays.items()
    }


def truth(subject: Subject, options: Options, inputs: Arrays) -> Arrays:
    """Compute all results in the widest dtype; gelu supports at most float64."""
    try:
        return subject.run(options, in_dtype(inputs, TRUTH))
    except DTypeError:
        return subject.run(options, in_dtype(inputs, np.float64))


def bounds(
    subject: Subject,
    options: Options,
    inputs: Arrays,
    expected: Arrays,
    exact: set[str],
    dtype: str,
    rng: np.random.Generator,
    steps: int = 0,
) -> Arrays:
    """Return the bound on the error of every entry of every result, of a port in ``dtype``.

    ``steps`` is the number of steps at which a port may round its state alike.
    """
    off = {name: np.zeros(array.shape) for name, array in expected.items()}
    noise, numbers = RoundedLogGate(rng), FORMATS[dtype]
    specification = subject.specification
    if not exact and getattr(specification, "__module__", "").startswith(CELLS):
        specification = Copy({}, functions={f"{CELLS}gates:log_gate": noise}).of(specification)
    if dtype in SIXTEEN_BITS:
        specification = stored(specification, lambda array: shaken(array, numbers, rng))
    as_a_port = copy_context()
    as_a_port.run(EXPONENTS.set, np.float32)
    for _ in range(SAMPLES):
        noise.total = np.zeros(())
        moved = {
            name: shaken(array, numbers, rng) if name not in exact else array
            for name, array in inputs.items()
        }
        results = as_a_port.run(subject.run, options, moved, specification)
        for name, array in results.items():
            off[name] = np.hypot(off[name], distance(array, expected[name]))
    typical = of_kind_and_row(subject, {name: total / SAMPLES**0.5 for name, total in off.items()})
    near = scales(subject, inputs, expected)
    alike = steps * min(numbers.eps, FORMATS["float32"].eps)  # 16 bits add in float32
    return {
        name: numbers.safety * typical[name]
        + numbers.roundings * (numbers.eps * near[name] + numbers.tiny)
        + alike * near[name]
        for name in expected
    }


def shaken(array: Array, numbers: Format, rng: np.random.Generator) -> Array:
    """Perturb real numbers by a few units of the last place of a format.

    The numbers of a row of a large matrix share their factor, to save time.
    """
    if array.dtype.kind != "f":
        return array
    shape = array.shape if array.size < LARGE else (len(array), *[1] * (array.ndim - 1))
    factors = 1 + numbers.shake * numbers.eps * (2 * rng.random(shape) - 1)
    moved: Array = (array * factors).astype(array.dtype)
    return moved


def scales(subject: Subject, inputs: Arrays, expected: Arrays) -> Arrays:
    """Return for each entry the largest number of its kind and row.

    For gradients of inputs, which are products with parameters, it is multiplied by the largest
    parameter, if that is above 1.
    """
    params = [magnitude(a).max(initial=1) for n, a in inputs.items() if is_parameter(n)]
    found = of_kind_and_row(subject, {name: magnitude(array) for name, array in expected.items()})
    return {n: a * max(params, default=1) if kind(n) == "inputs" else a for n, a in found.items()}


def of_kind_and_row(subject: Subject, arrays: Arrays) -> Arrays:
    """Return for each entry the largest entry of its kind and row.

    An initial m is the log of a weight, as the gates' pre-activations are. For its gradient, the
    maximum therefore includes the gradients of inputs.
    """
    patterns = {name: subject.pattern(name, array.ndim) for name, array in arrays.items()}
    by_row = {name for name, pattern in patterns.items() if pattern.startswith("row")}
    rows: dict[str, Array] = {}  # for each kind one number, or one for each row
    for name, array in arrays.items():
        axes = range(1, array.ndim) if name in by_row else range(array.ndim)
        largest = array.max(axis=tuple(axes), initial=0)
        rows[kind(name)] = np.maximum(rows.get(kind(name), 0.0), largest)
    spread = {}
    for name, array in arrays.items():
        largest = rows[kind(name)]
        if kind(name) == "dstate0" and name.endswith(".m"):
            largest = np.maximum(largest, rows.get("inputs", 0.0))
        if name in by_row:
            largest = largest.reshape(-1, *[1] * (array.ndim - 1))
        else:
            largest = largest.max(initial=0)
        spread[name] = np.broadcast_to(largest, array.shape)
    return spread


def is_parameter(name: str) -> bool:
    """Return whether an input is a parameter, or the R that a function takes as an argument."""
    return name.startswith("params.") or name == "R"


def kind(name: str) -> str:
    """Return the kind of a gradient (parameters, state, inputs), or the name of another result."""
    first = name.split(".")[0]
    if first in ("grads", "dstate0"):
        return first
    if is_parameter(name.removeprefix("d")):
        return "grads"
    return "inputs" if first.startswith("d") else name


def is_gradient(name: str) -> bool:
    """Return whether a result is a gradient."""
    return kind(name) != name or name == "dstate0"


def magnitude(array: Array) -> Array:
    """Return |a| of finite entries, and 0 for the others."""
    return np.abs(np.where(np.isfinite(array), array, 0)).astype(np.float64)


def distance(found: Array, expected: Array) -> Array:
    """Return |a − b|: 0 where both are −inf, infinite where one is −inf or NaN."""
    with np.errstate(invalid="ignore", over="ignore"):
        apart: Array = np.abs(found.astype(expected.dtype) - expected).astype(np.float64)
    if not (unknown := np.isnan(apart)).any():
        return apart
    same = np.isneginf(found) & np.isneginf(expected)
    return np.where(unknown, np.where(same, 0, np.inf), apart)


class RoundedLogGate:
    """Log of a gate, with an error of up to ε times ``total``, the sum of all logs up to this step.

    The exponents of a memory are sums of logs of gates. A port that sums them over a chunk and
    takes differences rounds numbers as large as the sum.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.total = rng, np.zeros(())

    def __call__(self, pre: Array, gate: str) -> Array:
        """Return :func:`log_gate` with the error."""
        exact = log_gate(pre, gate)
        self.total = self.total + np.abs(exact)
        off = np.finfo(exact.dtype).eps * self.total * (2 * self.rng.random(exact.shape) - 1)
        rounded: Array = (exact + off).astype(exact.dtype)
        return rounded


def stored(specification: Any, rounded: Callable[[Array], Array]) -> Any:
    """Return a subclass of a cell or module that rounds the state and its cotangents at each step.

    A class without a state is returned as it is.
    """
    if not hasattr(specification, "init_state"):
        return specification

    class Step(specification):  # type: ignore[misc]
        def forward(self, x: Array, state: Any = None) -> Any:
            return super().forward(x, tree_map(rounded, state))

        def backward(self, dy: Array, cache: Any, dstate: Any = None) -> Any:
            return super().backward(dy, cache, tree_map(rounded, dstate))

    class Sequence(specification):  # type: ignore[misc]
        def compute(self, x: Array, state: Any, options: RunOptions) -> Any:
            ys, caches = [], []
            for t in range(max(1, x.shape[1])):
                before = tree_map(rounded, state)
                y, state, cache = super().compute(x[:, t : t + 1], before, options)
                ys.append(y)
                caches.append(cache)
            return np.concatenate(ys, axis=1), state, caches

        def compute_backward(self, dy: Array, caches: Any, dstate: Any) -> Any:
            dxs, total = [], dict.fromkeys(self.params, 0)
            for t in reversed(range(len(caches))):
                after, dy_t = tree_map(rounded, dstate), dy[:, t : t + 1]
                dx, dstate, grads = super().compute_backward(dy_t, caches[t], after)
                dxs.append(dx)
                total = {name: total[name] + gradient for name, gradient in grads.items()}
            return None if dxs[0] is None else np.concatenate(dxs[::-1], axis=1), dstate, total

    return Sequence if hasattr(specification, "compute") else Step
