"""Check whether a gradient is that of a forward with mistakes, by a complex step."""

from types import SimpleNamespace

import numpy as np

from numpy_xlstm.conformance.bounds import FORMATS
from numpy_xlstm.conformance.bugs import Bug, results
from numpy_xlstm.conformance.case_data import CaseData
from numpy_xlstm.conformance.contrast import is_gradient
from numpy_xlstm.conformance.subjects import cotangent_of
from numpy_xlstm.numerics import Array

STEP = 1e-20
"""Step of a complex derivative."""


def is_derivative(case: CaseData, made: tuple[Bug, ...], name: str, gradient: Array) -> bool:
    """Return whether a gradient is that of the forward with these mistakes.

    The derivative of the forward in a random direction of an input, by a complex step, is the
    product of the gradient with this direction.
    """
    given = case.given if name.startswith("dstate0") else case.inputs
    varied = name.replace("grads.", "params.").replace("dstate0", "state")
    varied = varied if varied in given else name.removeprefix("d")
    if varied not in given:
        return False
    wide = {n: a.astype(complex) if a.dtype.kind == "f" else a for n, a in given.items()}
    direction = np.random.default_rng(0).standard_normal(wide[varied].shape)
    direction *= np.isfinite(given[varied])
    inputs = wide | {varied: wide[varied] + 1j * STEP * direction}
    moved = SimpleNamespace(subject=case.subject, options=case.options, inputs=inputs)
    outputs = {n: a for n, a in results(moved, *made).items() if not is_gradient(n)}
    if not outputs or not {cotangent_of(n) for n in outputs} <= case.inputs.keys():
        return False  # such as clipping, whose results have no cotangents
    with np.errstate(all="ignore"):
        slope = sum(
            (a.imag / STEP * case.inputs[cotangent_of(n)]).sum() for n, a in outputs.items()
        )
        terms = gradient * direction
        rounding = 64 * FORMATS[case.dtype].eps * np.abs(terms)
        allowed = 4 * case.bounds[name] * np.abs(direction) + rounding
        # a forward that overflows has no derivative that the gradient could contradict
        return not np.isfinite(slope) or bool(abs(terms.sum() - slope) <= allowed.sum())
