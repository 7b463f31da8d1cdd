"""Parts of cases that an implementation supports."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from numpy_xlstm.conformance import Case
from numpy_xlstm.conformance.bounds import bounds, in_dtype, truth
from numpy_xlstm.conformance.case_data import Content
from numpy_xlstm.numerics import Arrays

Port = Callable[[Case], Mapping[str, Any]]

WANTED: dict[str, Callable[[Case], bool]] = {
    "exponential forget gate": lambda case: case.options.get("forget_gate") == "exp",
    "relu": lambda case: case.options.get("nonlinearity") == "relu",
    "tanh": lambda case: case.options.get("nonlinearity") == "tanh",
    "heads": lambda case: case.options["num_heads"] > 1,
    "keys unlike values": lambda case: case.options["qk_dim"] != case.options["hidden_size"],
    "lengths": lambda case: "padding" in case.flags,
    "no step": lambda case: "no-step" in case.flags,
    "initial state": lambda case: bool({"zero-state", "zero-memory", "far-memory"} & {*case.flags}),
}
"""Return whether a case needs a feature that an implementation may lack."""


@dataclass(frozen=True)
class Implementation:
    """One implementation of one subject.

    Attributes
    ----------
    package, name : str
        The distribution, and the name of the function or class.
    subject : str
        A subject of the kit.
    port : Port
        Port that computes the results. Its exceptions are failures.
    lacks : tuple[str, ...]
        Missing features: keys of ``WANTED``.
    gradients : bool
        Whether it has a backward.
    dtype : str
        Dtype in which it is run.
    absent : bool
        Whether an absent state has a gradient.
    requires : str
        Requirements that are not in the extra ``peers``, first that of the package.
    """

    package: str
    name: str
    subject: str
    port: Port
    lacks: tuple[str, ...] = ()
    gradients: bool = True
    dtype: str = "float64"
    absent: bool = False
    requires: str = ""

    def missing(self, case: Case) -> str:
        """Return the missing feature that a case needs; empty if there is none."""
        return next((name for name in self.lacks if WANTED[name](case)), "")

    def case(self, case: Case) -> Case:
        """Return the case restricted to the supported parts.

        Without support of an initial state, the case starts from the empty state and has no
        cotangent of the final state.
        """
        stateless = "initial state" in self.lacks
        given = any(name.startswith("state.") for name in case.inputs) or self.absent

        def kept(name: str) -> bool:
            if name == "y" or name.startswith("final."):
                return name == "y" or not stateless
            return self.gradients and (not name.startswith("dstate0.") or (given and not stateless))

        def content() -> Content:
            inputs, expected, allowed = case.inputs, case.expected, case.bounds
            if stateless:
                inputs = {n: a for n, a in inputs.items() if not n.startswith("state.")}
                inputs |= {n: 0 * a for n, a in inputs.items() if n.startswith("dstate.")}
                exact = truth(case.subject, case.options, inputs)
                fixed = {"q", "k", "i"} if "kink" in case.flags else set[str]()
                rng = np.random.default_rng(0)
                allowed = bounds(case.subject, case.options, inputs, exact, fixed, case.dtype, rng)
                expected = in_dtype(exact, case.dtype)
            chosen = [name for name in expected if kept(name)]
            return Content(inputs, _only(expected, chosen), _only(allowed, chosen))

        return replace(case, content=content)


def _only(arrays: Arrays, names: list[str]) -> Arrays:
    return {name: arrays[name] for name in names}
