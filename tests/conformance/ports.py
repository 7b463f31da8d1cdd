"""Correct ports made of what users of the package call: layers with a kernel, and functions."""

from typing import Any

from numpy_xlstm import conformance
from numpy_xlstm.conformance import Case
from numpy_xlstm.conformance.catalogue import OVER_GIVEN

KERNELS = [f"{name}.{form}" for name, pairs in OVER_GIVEN.items() for form in ("sequence", *pairs)]
"""Subjects whose kernel is tried."""


def _public(case: Case) -> Any:
    make = case.subject.public
    assert make is not None
    target = make(case.options)
    if case.subject.family != "mlstmsig" or not isinstance(target, tuple):
        return target
    forward, backward = target

    def of_memory_alone(*given: Any, **lengths: Any) -> Any:
        *arrays, state = given
        return forward(*arrays, None if state is None else (*state, None, None), **lengths)

    return of_memory_alone, backward


kernel = conformance.from_layer(_public)
"""The kernel as a port."""
