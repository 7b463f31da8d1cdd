"""Run an implementation by other authors on the cases."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from packaging.requirements import Requirement

from numpy_xlstm import conformance
from numpy_xlstm.conformance import Case
from numpy_xlstm.conformance.subjects import cotangent_of, gradient_of
from numpy_xlstm.gradcheck import from_jax, from_torch
from numpy_xlstm.numerics import Array, Arrays
from tests.conformance.implementations.offers import Implementation
from tests.conformance.implementations.onnx_operators import reordered

Tensor = Any  # of any framework
NODE = Path(sys.prefix) / "node_modules"
OURS = {1: "h", 3: "rzn", 4: "ifzo"}
"""Order of the gates in this package, by their number."""


def outside(
    requires: str,
    port: Callable[[str, Case], Mapping[str, Any]],
    functions: str,
    lacks: str = "lengths, no step",
    **more: Any,
) -> list[Implementation]:
    """Make an implementation of each function: "NAME family", or "NAME subject", by commas.

    The package is the first one that is required; one of npm is name@version.
    """
    first = requires.split()[0]
    package = first.rpartition("@")[0] or Requirement(first).name
    options: dict[str, Any] = {"requires": requires, "absent": True} | more
    options["lacks"], made = tuple(filter(None, lacks.split(", "))), []
    for function in functions.split(", "):
        name, subject = function.split()
        subject = subject if "." in subject else f"{subject}.sequence"
        made.append(Implementation(package, name, subject, partial(port, name), **options))
    return made


def installed(requirement: str) -> str:
    """Return the version that is installed and permitted; empty if there is none."""
    package, of_npm, _ = requirement.rpartition("@")
    about = NODE / package / "package.json"
    if of_npm:
        return str(json.loads(about.read_text("utf-8"))["version"]) if about.exists() else ""
    parsed = Requirement(requirement)
    with suppress(PackageNotFoundError):
        found = version(parsed.name).partition("+")[0]
        return found if parsed.specifier.contains(found) else ""
    return ""


def rows(array: Tensor, count: int) -> Tensor:
    """Split the rows of gates of an array of any framework."""
    return array.reshape(count, -1, *array.shape[1:])


def weights(case: Case, order: str) -> list[Array]:
    """Return W, R, b and, if there is one, b_h, with the gates in this order."""
    names = [name for name in case.inputs if name.startswith("params.")]
    return [reordered(case.inputs[name], OURS[len(order)], order) for name in names]


def gradients(order: str, *arrays: Array) -> Arrays:
    """Name the gradients of W, R and b, whose gates have this order."""
    ours = [reordered(array, order, OURS[len(order)]) for array in arrays]
    return dict(zip(("grads.W", "grads.R", "grads.b"), ours, strict=True))


def one_bias(b: Tensor, *b_h: Tensor) -> list[Tensor]:
    """Return b with b_h of r and z added and, if there is one, b_h of n, which r multiplies."""
    size = b.shape[0] // 3
    r_z = np.repeat(np.array([1, 1, 0], "f"), size)
    return [b + b_h[0] * r_z, b_h[0][2 * size :]] if b_h else [b]


Forward = Callable[..., Sequence[Tensor]]
"""From the name, the case, x, the state as a tuple, W, R and one or two b to y and the state."""


def called(
    forward: Forward, name: str, case: Case, given: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the results of a forward under their names."""
    params = [given[n] for n in case.given if n.startswith("params.")]
    state = tuple(given[n] for n in case.given if n.startswith("state."))
    y, *last = forward(name, case, given["x"], state, *params)
    finals = [n for n in case.expected if n.startswith("final.")]
    return {"y": y} | dict(zip(finals, last, strict=True))


def forwarded(wrap: Callable[..., Any], forward: Forward) -> Callable[[str, Case], Any]:
    """Make a port from a forward in PyTorch or JAX."""
    return lambda name, case: conformance.from_forward(wrap, partial(called, forward, name))(case)


def scanned(cell: Callable[..., Tensor]) -> Callable[[str, Case], Any]:
    """Make a port from a cell in JAX: (name, case, W, R, b) to a step (state, x) → (state, y).

    The state is h, or h and c.
    """

    def forward(name: str, case: Case, x: Tensor, state: Tensor, *params: Tensor) -> Tensor:
        import jax

        start = state if len(state) > 1 else state[0]
        last, y = jax.lax.scan(cell(name, case, *params), start, x.swapaxes(0, 1))
        return y.swapaxes(0, 1), *(last if len(state) > 1 else [last])

    return forwarded(from_jax, forward)


def differentiated(vjp: Callable[..., Any], forward: Forward) -> Callable[[str, Case], Arrays]:
    """Make a port from a forward in another framework.

    ``vjp(function, arrays, cotangents)`` returns the outputs of a function and the gradients.
    """

    def port(name: str, case: Case) -> Arrays:
        leaves = [n for n in case.given if not n.startswith(("d", "lengths"))]
        results = ["y", *(n for n in case.expected if n.startswith("final."))]

        def function(*tensors: Tensor) -> list[Tensor]:
            return [*called(forward, name, case, dict(zip(leaves, tensors, strict=True))).values()]

        cotangents = [case.inputs[cotangent_of(n)] for n in results]
        outputs, back = vjp(function, [case.given[n] for n in leaves], cotangents)
        names = [*results, *map(gradient_of, leaves)]
        return dict(zip(names, map(np.array, [*outputs, *back]), strict=True))

    return port
