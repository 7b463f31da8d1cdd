"""What an implementation offers of a case: all of it, a part, or nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from numpy_xlstm.conformance import Case
from numpy_xlstm.conformance.bounds import bounds, in_dtype, truth
from numpy_xlstm.conformance.case import Content
from numpy_xlstm.conformance.subjects import Arrays

Port = Callable[[Case], Mapping[str, Any]]


class NotOfferedError(Exception):
    """An implementation has nothing for this case: says what is missing."""


@dataclass(frozen=True)
class Implementation:
    """One implementation of one subject.

    Attributes
    ----------
    package, name : str
        The distribution, and what of it.
    subject : str
        A subject of the kit.
    port : Port
        Gives the results, or raises :class:`NotOfferedError`.
    final, gradients : bool
        Whether it returns the final state, and whether it has a backward.
    dtype : str
        In which it is run.
    """

    package: str
    name: str
    subject: str
    port: Port
    final: bool = True
    gradients: bool = True
    dtype: str = "float64"

    def case(self, case: Case) -> Case:
        """The case, of what is offered alone; without a final state there is no cotangent of it."""
        given = any(name.startswith("state.") for name in case.inputs)

        def kept(name: str) -> bool:
            if name == "y" or name.startswith("final."):
                return name == "y" or self.final
            return self.gradients and (given or not name.startswith("dstate0."))

        def content() -> Content:
            inputs = dict(case.inputs)
            expected, allowed = case.expected, case.bounds
            if not self.final:
                inputs |= {n: 0 * a for n, a in inputs.items() if n.startswith("dstate.")}
                exact = truth(case.subject, case.options, inputs)
                rng = np.random.default_rng(0)
                allowed = bounds(case.subject, case.options, inputs, exact, set(), rng)
                expected = in_dtype(exact, case.dtype)
            chosen = [name for name in expected if kept(name)]
            return Content(inputs, _only(expected, chosen), _only(allowed, chosen))

        return replace(case, content=content)


def _only(arrays: Arrays, names: list[str]) -> Arrays:
    return {name: arrays[name] for name in names}


def no_lengths(case: Case) -> None:
    """Raise unless all rows are of one length."""
    if "lengths" in case.inputs:
        raise NotOfferedError("lengths")


def some_steps(case: Case) -> None:
    """Raise if there is no step."""
    x = next(case.inputs[n] for n in ("x", "Wx", "i") if n in case.inputs)
    if x.shape[-1 if "i" in case.inputs else 1] == 0:
        raise NotOfferedError("no step")


def sigmoid_forget(case: Case) -> None:
    """Raise if the forget gate is exponential."""
    if case.options.get("forget_gate") == "exp":
        raise NotOfferedError("forget gate exp")
