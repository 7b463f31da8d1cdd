"""Run an implementation by other authors on the cases, and compare with its known differences."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from packaging.requirements import Requirement

from numpy_xlstm import conformance
from numpy_xlstm.conformance import Case
from numpy_xlstm.gradcheck import from_jax
from numpy_xlstm.numerics import Arrays
from tests.conformance.implementations import onnx_operators
from tests.conformance.implementations.offers import Implementation
from tests.conformance.implementations.onnx_operators import Operator

Given = dict[str, Any]
NODE = Path(sys.prefix) / "node_modules"
FLOAT32: dict[str, Any] = {"dtype": "float32", "absent": True}
EMPTY_ROW = {"empty row (29)": "lengths tanh.lengths relu.lengths"}


@dataclass(frozen=True)
class Outside(Implementation):
    """An implementation, and where it is known to differ.

    ``differs`` has each difference, with its number on the page, and the cases that fail due to it:
    the middle parts of their ids, or "*" for all. With ``absent``, an absent state is an argument
    all the same, and has a gradient.
    """

    differs: Mapping[str, str] = field(default_factory=dict)
    absent: bool = False

    def case(self, case: Case) -> Case:
        """Return the case restricted to the supported parts."""
        return case if self.absent and self.gradients else super().case(case)

    def fails(self, case: Case, *, raising: bool = False) -> bool:
        """Return whether a case is known to fail; by an exception if one says so."""
        middle = case.id.removeprefix(f"{case.subject.name}.").rpartition(".")[0]
        texts = [text for text, ids in self.differs.items() if ids == "*" or middle in ids.split()]
        return any("raises" in text for text in texts) if raising else bool(texts)


def outside(
    package: str,
    port: Callable[[str, Case], Mapping[str, Any]],
    functions: str,
    lacks: str = "lengths",
    differs: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    **more: Any,
) -> list[Outside]:
    """Make an implementation of each function: "NAME family", or "NAME subject", by commas.

    The port also gets the name. ``differs`` has the differences of a function, or of all as "".
    """
    made, missing = [], tuple(filter(None, lacks.split(", ")))
    for function in functions.split(", "):
        name, subject = function.split()
        subject = subject if "." in subject else f"{subject}.sequence"
        where = {**differs.get("", {}), **differs.get(function, {})}
        one = partial(port, name)
        made.append(Outside(package, name, subject, one, missing, differs=where, **more))
    return made


def installed(package: str) -> str:
    """Return the version of a package of Python, or of npm in this environment; empty if none."""
    with suppress(PackageNotFoundError):
        return version(package).partition("+")[0]
    about = NODE / package / "package.json"
    return str(json.loads(about.read_text("utf-8"))["version"]) if about.exists() else ""


def why_not(requirement: str) -> str:
    """Return why a package, of Python or as name@version of npm, is not run; empty if it is."""
    name, at, start = requirement.rpartition("@")
    parsed = None if at else Requirement(requirement)
    found = installed(parsed.name if parsed else name)
    if parsed.specifier.contains(found or "0") if parsed else found.startswith(start or "-"):
        return ""
    return f"needs {requirement}, not {found or 'nothing'}: python -m tests.outside"


def rows(array: Any, count: int) -> list[Any]:
    """Split the rows of gates of an array of any framework."""
    size = array.shape[0] // count
    return [array[k * size : (k + 1) * size] for k in range(count)]


def params(given: Mapping[str, Any]) -> list[Any]:
    """Return W, R, b and, if there is one, b_h."""
    names = (f"params.{name}" for name in ("W", "R", "b", "b_h"))
    return [given[name] for name in names if name in given]


def states(case: Case) -> list[str]:
    """Return the names of the parts of the state, such as h and c."""
    return [name[6:] for name in case.expected if name.startswith("final.")]


def forwarded(wrap: Callable[..., Any], forward: Callable[..., Given]) -> Callable[..., Any]:
    """Make a port of a name and a case from a forward of name, case and tensors."""
    return lambda name, case: conformance.from_forward(wrap, partial(forward, name))(case)


def scanned(cell: Callable[[str, Case, Given], Callable[..., Any]]) -> Callable[..., Any]:
    """Make a port from a cell in JAX: (state, x) → (state, y), with the state a tuple."""

    def forward(name: str, case: Case, given: Given) -> Given:
        import jax

        state, step = (
            tuple(given[f"state.{part}"] for part in states(case)),
            cell(name, case, given),
        )
        state, y = jax.lax.scan(step, state, given["x"].swapaxes(0, 1))
        return {"y": y.swapaxes(0, 1)} | finals(case, state)

    return forwarded(from_jax, forward)


def finals(case: Case, state: Iterable[Any]) -> Given:
    """Name the parts of the final state."""
    return {f"final.{part}": array for part, array in zip(states(case), state, strict=True)}


def operators(package: str, run: Callable[[Operator], Arrays], functions: str, differs: Any) -> Any:
    """Make forwards of operators of ONNX, in float32."""
    more: Given = {"dtype": "float32", "gradients": False}
    port = lambda name, case: onnx_operators.port(run, case)  # noqa: E731
    return outside(package, port, functions, "no step", differs, **more)
