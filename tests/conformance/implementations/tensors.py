"""A forward in PyTorch as a port, differentiated by autograd."""

from collections.abc import Callable, Mapping
from typing import Any

from numpy_xlstm import conformance
from numpy_xlstm.conformance import Case
from numpy_xlstm.gradcheck import from_torch
from numpy_xlstm.numerics import Array

Tensors = dict[str, Any]


def autograd(forward: Callable[[Case, Tensors], Tensors]) -> Callable[[Case], Mapping[str, Array]]:
    """Make a port from a forward of (case, inputs), which knows the empty state itself."""

    def without_empty_state(case: Case, given: Tensors) -> Tensors:
        return forward(case, {name: given[name] for name in given if name in case.inputs})

    def port(case: Case) -> dict[str, Array]:
        results = conformance.from_forward(from_torch, without_empty_state)(case)
        given = {name.partition(".")[2] for name in case.inputs if name.startswith("state.")}
        return {n: a for n, a in results.items() if "dstate0." not in n or n[8:] in given}

    return port
