"""Gradients against references: tensor by tensor, and of all tensors together."""

from typing import NamedTuple

import numpy as np

from numpy_xlstm.gradcheck.problem import Point
from numpy_xlstm.gradcheck.reference import Scalar, complex_step, noise, settle, stencil
from numpy_xlstm.gradcheck.report import Index, Row, Status
from numpy_xlstm.gradcheck.target import Arrays

NEGLIGIBLE, ROUNDINGS = 1e-3, 16
"""A gradient smaller than this times the largest of all tensors is measured as if it were so large,
and so many roundings of the largest are accepted in any entry: they are left where terms cancel."""


class Probe(NamedTuple):
    """A claimed derivative along one line, its reference, and the scale of their distance."""

    place: Index | None
    """The index of an entry; none of a direction."""
    claimed: float
    reference: float
    scale: float
    f: Scalar | None = None
    """The function along the line, where the reference is a difference: one may look closer."""
    smooth: bool = True
    """Whether the difference saw no kink."""

    @property
    def distance(self) -> float:
        """|g − ĝ|, infinite if that is NaN."""
        distance = abs(self.claimed - self.reference)
        return float(np.inf if np.isnan(distance) else distance)

    @property
    def error(self) -> float:
        """The distance in units of the scale."""
        return relative(self.distance, self.scale)


def relative(size: float, scale: float) -> float:
    """Size in units of scale; anything is infinitely larger than nothing."""
    return size / scale if scale else np.inf * size if size else 0.0


def tensor_rows(point: Point, method: str, rtol: float) -> list[Row]:
    """One row per tensor."""
    probes = {
        name: [_probe(point, {name: line}, method, place) for place, line in point.lines(name)]
        for name in point.tensors
    }
    largest = max((abs(p.reference) for found in probes.values() for p in found), default=0.0)
    rounding = ROUNDINGS * float(np.finfo(point.problem.dtype).eps)
    floor = max(NEGLIGIBLE, rounding / rtol) * largest
    if method == "difference":
        floor += 16 * noise(point.rounding) / rtol
    rows = []
    for name, found in probes.items():
        scale = max([floor, *(abs(p.reference) for p in found)])
        rows.append(_row(point, name, method, [p._replace(scale=scale) for p in found], rtol))
    return rows


def adjoint_rows(point: Point, tolerances: dict[str, float]) -> list[Row]:
    """⟨ȳ, J v⟩ = ⟨g, v⟩ for random v over all tensors at once, and g linear in ȳ."""
    by_differences = bool(point.why_no_complex)
    rtol = tolerances["difference" if by_differences else "adjoint"]
    least = 16 * noise(point.rounding) / rtol if by_differences else 0.0
    probes = []
    for _ in range(point.directions):
        v = {
            name: np.where(np.isfinite(array), point.rng.standard_normal(array.shape), 0)
            for name, array in point.tensors.items()
        }
        probe = _probe(point, v, "difference" if by_differences else "complex")
        probes.append(probe._replace(scale=probe.scale + least))
    identity = _row(point, "⟨ȳ,Jv⟩ = ⟨Jᵀȳ,v⟩", "adjoint", probes, rtol)
    return [identity, _linearity(point, tolerances["adjoint"])]


def _probe(point: Point, line: Arrays, method: str, place: Index | None = None) -> Probe:
    """What is claimed and what is found along a line, on the scale of the terms summed."""
    f = point.along(line)
    terms = np.concatenate([(point.gradients[name] * part).ravel() for name, part in line.items()])
    claimed, scale = float(terms.sum()), float(np.abs(terms).sum())
    if method == "complex":
        return Probe(place, claimed, complex_step(f), scale)
    seen = stencil(f, point.rounding)
    return Probe(place, claimed, seen.slope, scale, f, seen.smooth)


def _row(point: Point, tensor: str, method: str, probes: list[Probe], rtol: float) -> Row:
    """Judge one tensor, or all together."""
    judged = []
    for probe in probes:
        reference, kink, tolerance = probe.reference, False, rtol * probe.scale
        if probe.f and not (probe.smooth and probe.distance <= tolerance):
            exact = not point.why_no_complex
            reference, kink = settle(probe.f, probe.claimed, tolerance, point.rounding, exact)
        if not kink:
            judged.append(probe._replace(reference=reference))
    failing = [p for p in judged if not p.error <= rtol]
    status: Status = "FAIL" if failing else "ok"
    if probes and not judged:
        status = "kink"
    elif judged and not failing and method != "adjoint" and _vacuous(judged, rtol):
        status = "vacuous"
    what = "directions" if probes and probes[0].place is None else "entries"
    checked = f"{len(probes)} {what}"
    kinks = len(probes) - len(judged)
    notes = [f"{kinks} of {len(probes)} at a kink"] if kinks else []
    if failing:
        notes.append(f"{len(failing)} of {checked}{_located(point, tensor, failing)}")
    shape = point.tensors[tensor].shape if tensor in point.tensors else ()
    error = max((p.error for p in judged), default=0.0)
    note, state = "; ".join(notes), point.problem.state
    return Row(tensor, shape, method, checked, error, rtol, status, note, state)


def _vacuous(judged: list[Probe], rtol: float) -> bool:
    """Whether the references are too small for the scale, and not right on their own scale."""
    largest = max(abs(p.reference) for p in judged)
    right = largest > 0 and max(p.distance for p in judged) <= rtol * largest
    return not right and all(abs(p.reference) <= rtol * p.scale for p in judged)


def _located(point: Point, tensor: str, failing: list[Probe]) -> str:
    """What the failing entries have in common, and the worst probe with both numbers."""
    worst = max(failing, key=lambda probe: (probe.error, probe.distance))
    both = f"backward {worst.claimed:.9g}, reference {worst.reference:.9g}"
    if worst.place is None:
        return f"; worst: {both}"
    places = point.problem.places[tensor]
    common = places.in_common([p.place for p in failing if p.place is not None])
    return f"{common}; worst at {places.describe(worst.place)}: {both}"


def _linearity(point: Point, rtol: float) -> Row:
    """Backward of 2ȳ − 3ȳ′ is twice that of ȳ less three times that of ȳ′."""
    other = point.random_cotangents()
    mixed = {name: 2 * c - 3 * other[name] for name, c in point.cotangents.items()}
    backward = point.problem.backward
    of_mixed, of_other, of_first = (
        np.concatenate([gradients[name].ravel() for name in point.gradients])
        for gradients in (backward(mixed), backward(other), point.gradients)
    )
    error = np.abs(2 * of_first - 3 * of_other - of_mixed).max(initial=0)
    error = float(relative(error, np.abs(of_mixed).max(initial=0)))
    status: Status = "ok" if error <= 8 * rtol else "FAIL"
    checked, state = "all entries", point.problem.state
    return Row("linear in ȳ", (), "adjoint", checked, error, 8 * rtol, status, state=state)
