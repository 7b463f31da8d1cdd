"""The backward as a whole: the adjoint of the forward's derivative, and linear."""

from dataclasses import replace
from typing import Any

import numpy as np

from numpy_xlstm.gradcheck.compare import Probe, distance, relative, settle, stencil_noise
from numpy_xlstm.gradcheck.point import Point
from numpy_xlstm.gradcheck.reference import complex_step, stencil
from numpy_xlstm.gradcheck.report import Row, Status


def adjoint_rows(point: Point, directions: int, tolerances: dict[str, float]) -> list[Row]:
    """⟨ȳ, J v⟩ = ⟨g, v⟩ for random v over all tensors at once, and g linear in ȳ."""
    return [_identity(point, directions, tolerances), _linearity(point, tolerances["adjoint"])]


def _identity(point: Point, directions: int, tolerances: dict[str, float]) -> Row:
    by_differences = bool(point.why_no_complex)
    rtol = tolerances["difference" if by_differences else "adjoint"]
    errors, kinks = [], 0
    for _ in range(directions):
        probe, scale = _probe(point, by_differences, rtol)
        probe, kink = settle(point, probe, rtol * scale) if by_differences else (probe, False)
        if kink:
            kinks += 1
        else:
            errors.append(relative(distance(probe), scale))
    row = _row("⟨ȳ,Jv⟩ = ⟨Jᵀȳ,v⟩", f"{directions} directions", _largest(errors), rtol)
    if kinks:
        status: Status = row.status if errors else "kink"
        row = replace(row, status=status, note=f"{kinks} of {directions} at a kink")
    return row


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
        return Probe("v", float(terms.sum()), seen.slope, f, seen.smooth), scale
    return Probe("v", float(terms.sum()), complex_step(f), f), scale


def _linearity(point: Point, rtol: float) -> Row:
    """Backward of 2ȳ − 3ȳ′ is twice that of ȳ less three times that of ȳ′."""
    other = point.random_cotangents()
    mixed = {name: 2 * c - 3 * other[name] for name, c in point.cotangents.items()}
    found = point.problem.backward(mixed)
    second = point.problem.backward(other)
    scale = _largest([np.abs(g).max(initial=0) for g in found.values()])
    error = _largest(
        [
            np.abs(2 * g - 3 * second[name] - found[name]).max(initial=0)
            for name, g in point.gradients.items()
        ]
    )
    return _row("linear in ȳ", "all entries", relative(error, scale), 8 * rtol)


def _largest(sizes: list[Any]) -> float:
    """The largest of some sizes, 0 of none, NaN if any is."""
    return float(np.max(sizes, initial=0))


def _row(what: str, checked: str, error: float, rtol: float) -> Row:
    return Row(what, (), "adjoint", checked, error, rtol, "ok" if error <= rtol else "FAIL")
