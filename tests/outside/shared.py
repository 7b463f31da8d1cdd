"""Run an implementation by other authors on the cases, and compare with its known differences."""

import json
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from numpy_xlstm import conformance
from numpy_xlstm.conformance import Case
from numpy_xlstm.gradcheck import from_jax
from numpy_xlstm.numerics import Array
from tests.conformance.implementations.offers import Implementation, Port

Given = dict[str, Any]
NODE = Path(sys.prefix) / "node_modules"


@dataclass(frozen=True)
class Outside(Implementation):
    """An implementation, and where it is known to differ.

    Attributes
    ----------
    differs : Mapping[str, str]
        Each difference, with its number on the page, and the cases that fail due to it: the middle
        parts of their ids, or "*" for all.
    absent : bool
        Whether an absent state is an argument all the same, so that it has a gradient.
    """

    differs: Mapping[str, str] = field(default_factory=dict)
    absent: bool = False

    def case(self, case: Case) -> Case:
        """Return the case restricted to the supported parts."""
        return case if self.absent and self.gradients else super().case(case)

    def fails(self, case: Case) -> bool:
        """Return whether a case is known to fail."""
        return any(
            names == "*" or _middle(case) in names.split() for names in self.differs.values()
        )


def outside(
    package: str,
    name: str,
    subject: str,
    port: Port,
    lacks: str = "lengths",
    differs: Mapping[str, str] | None = None,
    dtype: str = "float64",
    **more: bool,
) -> Outside:
    """Make an implementation; what it lacks is separated by commas."""
    missing = tuple(filter(None, lacks.split(", ")))
    return Outside(
        package, name, subject, port, missing, dtype=dtype, differs=differs or {}, **more
    )


def _middle(case: Case) -> str:
    return case.id.removeprefix(f"{case.subject.name}.").rpartition(".")[0]


def installed(package: str) -> str:
    """Return the version of a package of Python, or of npm in this environment; empty if none."""
    with suppress(PackageNotFoundError):
        return version(package).partition("+")[0]
    about = NODE / package / "package.json"
    return str(json.loads(about.read_text("utf-8"))["version"]) if about.exists() else ""


def why_not(requirement: str) -> str:
    """Return why a package cannot be run here; empty if it can."""
    wanted = Requirement(requirement.replace("@", ""))
    if found := installed(wanted.name):
        return "" if wanted.specifier.contains(found) else f"{found} is not {wanted}"
    return f"{wanted.name} is not installed: python -m tests.outside"


def rows(array: Any, count: int) -> list[Any]:
    """Split the rows of gates of an array of any framework."""
    size = array.shape[0] // count
    return [array[k * size : (k + 1) * size] for k in range(count)]


def states(case: Case) -> list[str]:
    """Return the names of the parts of the state, such as h and c."""
    return [name[6:] for name in case.expected if name.startswith("final.")]


def scanned(
    cell: Callable[[Case, Given], Callable[..., Any]],
) -> Callable[[Case], Mapping[str, Array]]:
    """Make a port from a cell in JAX: (state, x) → (state, y), with the state a tuple."""

    def forward(case: Case, given: Given) -> Given:
        import jax

        names, step = states(case), cell(case, given)
        state = tuple(given[f"state.{name}"] for name in names)
        state, y = jax.lax.scan(step, state, given["x"].swapaxes(0, 1))
        finals = dict(zip((f"final.{name}" for name in names), state, strict=True))
        return {"y": y.swapaxes(0, 1), **finals}

    return conformance.from_forward(from_jax, forward)
