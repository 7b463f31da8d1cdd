"""The backward as a whole: the adjoint of the forward's derivative, and linear."""

import numpy as np

from numpy_xlstm.gradcheck.compare import Probe, both, distance, relative, settle, stencil_noise
from numpy_xlstm.gradcheck.point import Point
from numpy_xlstm.gradcheck.reference import complex_step, stencil
from numpy_xlstm.gradcheck.report import Row, Status
from numpy_xlstm.gradcheck.target import copies


def adjoint_rows(point: Point, directions: int, tolerances: dict[str, float]) -> list[Row]:
    """⟨ȳ, J v⟩ = ⟨g, v⟩ for random v over all tensors at once, and g linear in ȳ."""
    return [_identity(point, directions, tolerances), _linearity(point, tolerances["adjoint"])]


def _identity(point: Point, directions: int, tolerances: dict[str, float]) -> Row:
    by_differences = bool(point.why_no_complex)
    rtol = tolerances["difference" if by_differences else "adjoint"]
    judged, kinks = [], 0
    for _ in range(directions):
        probe, scale = _probe(point, by_differences, rtol)
        probe, kink = settle(point, probe, rtol * scale) if by_differences else (probe, False)
        if kink:
            kinks += 1
        else:
            judged.append((relative(distance(probe), scale), probe))
    error, worst = max(judged, key=lambda pair: pair[0], default=(0.0, None))
    status: Status = "kink" if not judged else "ok" if error <= rtol else "FAIL"
    notes = [f"{kinks} of {directions} at a kink"] if kinks else []
    if worst is not None and status == "FAIL":
        notes.append(f"worst: {both(worst)}")
    checked, note = f"{directions} directions", "; ".join(notes)
    return Row("⟨ȳ,Jv⟩ = ⟨Jᵀȳ,v⟩", (), "adjoint", checked, error, rtol, status, note)


def _probe(point: Point, by_differences: bool, rtol: float) -> tuple[Probe, float]:
    """Both sides of the identity along one random v, and the size of the terms summed."""
    v = {
        name: np.where(np.isfinite(array), point.rng.standard_normal(array.shape), 0)
        for name, array in point.tensors.items()
    }
    terms = np.concatenate([(point.gradients[name] * v[name]).ravel() for name in v])
    f = point.along(v)
    scale = float(np.abs(terms).sum())
    if by_differences:
        seen = stencil(f, point.rounding)
        scale += 16 * stencil_noise(point) / rtol
        return Probe(None, float(terms.sum()), seen.slope, f, seen.smooth), scale
    return Probe(None, float(terms.sum()), complex_step(f), f), scale


def _linearity(point: Point, rtol: float) -> Row:
    """Backward of 2ȳ − 3ȳ′ is twice that of ȳ less three times that of ȳ′."""
    other = point.random_cotangents()
    mixed = {name: 2 * c - 3 * other[name] for name, c in point.cotangents.items()}
    found = copies(point.problem.backward(mixed))
    second = copies(point.problem.backward(other))
    of_mixed, of_other, of_first = (
        np.concatenate([gradients[name].ravel() for name in point.gradients])
        for gradients in (found, second, point.gradients)
    )
    error = np.abs(2 * of_first - 3 * of_other - of_mixed).max(initial=0)
    size = float(relative(error, np.abs(of_mixed).max(initial=0)))
    status: Status = "ok" if size <= 8 * rtol else "FAIL"
    return Row("linear in ȳ", (), "adjoint", "all entries", size, 8 * rtol, status)
