"""Gradients against references: tensor by tensor, and of all tensors together."""

from typing import NamedTuple

import numpy as np

from numpy_xlstm.gradcheck.places import Index, Places
from numpy_xlstm.gradcheck.point import Point
from numpy_xlstm.gradcheck.reference import (
    DIFFERENCE_STEP,
    SHRINK,
    SHRINKS,
    Scalar,
    at_kink,
    best,
    complex_step,
    stencil,
)
from numpy_xlstm.gradcheck.report import Row, Status
from numpy_xlstm.gradcheck.target import copies

NEGLIGIBLE, ROUNDINGS = 1e-3, 16
"""A gradient smaller than this times the largest of all tensors is measured as if it were so large,
and so many roundings of the largest are accepted in any entry: they are left where terms cancel."""


class Probe(NamedTuple):
    """A claimed derivative along one line, and its reference; not smooth if a kink is suspected."""

    place: Index | None
    """The index of an entry; none of a direction."""
    claimed: float
    reference: float
    f: Scalar
    smooth: bool = True


def tensor_rows(point: Point, method: str, rtol: float) -> list[Row]:
    """One row per tensor."""
    probes = {name: _probes(point, name, method) for name in point.tensors}
    largest = max((abs(p.reference) for ps in probes.values() for p in ps), default=0.0)
    rounding = ROUNDINGS * float(np.finfo(point.dtype).eps)
    floor = max(NEGLIGIBLE, rounding / rtol) * largest
    if method == "difference":
        floor += 16 * stencil_noise(point) / rtol
    return [_row(point, name, method, ps, rtol, floor) for name, ps in probes.items()]


def stencil_noise(point: Point) -> float:
    """What rounding does to a difference with the usual step."""
    return stencil(lambda step: 0.0, point.rounding).noise


def _probes(point: Point, name: str, method: str) -> list[Probe]:
    probes = []
    for place, line in point.lines(name):
        f = point.along({name: line})
        claimed = float((point.gradients[name] * line).sum())
        if method == "complex":
            probes.append(Probe(place, claimed, complex_step(f), f))
        else:
            seen = stencil(f, point.rounding)
            probes.append(Probe(place, claimed, seen.slope, f, seen.smooth))
    return probes


def _row(
    point: Point, name: str, method: str, probes: list[Probe], rtol: float, floor: float
) -> Row:
    """Judge one tensor."""
    scale = max([floor, *(abs(p.reference) for p in probes)])
    kinks = []
    if method == "difference":
        settled = [settle(point, probe, rtol * scale) for probe in probes]
        probes = [probe for probe, _ in settled]
        kinks = [probe for probe, kink in settled if kink]
    judged = [p for p in probes if p not in kinks]
    failing = [p for p in judged if not relative(distance(p), scale) <= rtol]
    error = max((relative(distance(p), scale) for p in judged), default=0.0)
    size = max((abs(p.reference) for p in judged), default=0.0)
    status: Status = "FAIL" if failing else "ok"
    if probes and not judged:
        status = "kink"
    elif judged and not failing and size <= rtol * scale:  # zeros pass, so look more closely
        status = "ok" if size and error * scale <= rtol * size else "vacuous"
    what = "directions" if probes and probes[0].place is None else "entries"
    checked = f"{len(probes)} {what}"
    notes = [f"{len(kinks)} of {len(probes)} at a kink"] if kinks else []
    if failing:
        notes.append(f"{len(failing)} of {checked}{_located(failing, point.problem.places[name])}")
    shape, note = point.tensors[name].shape, "; ".join(notes)
    return Row(name, shape, method, checked, error, rtol, status, note)


def _located(failing: list[Probe], places: Places) -> str:
    """What the failing entries have in common, and the worst probe with both numbers."""
    worst = max(failing, key=distance)
    if worst.place is None:
        return f"; worst: {both(worst)}"
    common = places.in_common([p.place for p in failing if p.place is not None])
    return f"{common}; worst at {places.describe(worst.place)}: {both(worst)}"


def both(probe: Probe) -> str:
    """The two numbers that differ, and which is which."""
    return f"backward {probe.claimed:.9g}, reference {probe.reference:.9g}"


def settle(point: Point, probe: Probe, tolerance: float) -> tuple[Probe, bool]:
    """Look closer where a difference contradicts the claim: a better reference, or a kink.

    Where several kinks lie close by, no difference sees the branch that the forward takes. The
    complex step does: a claim that agrees with it is at a kink, too.
    """
    if distance(probe) <= tolerance and probe.smooth:
        return probe, False
    seen = []
    for n in range(SHRINKS + 1):
        seen.append(stencil(probe.f, point.rounding, DIFFERENCE_STEP / SHRINK**n))
        chosen = best(seen)
        probe = probe._replace(reference=chosen.slope)
        if chosen.smooth and distance(probe) <= tolerance:
            return probe, False
    if all(s.smooth for s in seen):
        return probe, False
    if at_kink(seen, probe.claimed, tolerance):
        return probe, True
    on_branch = np.nan if point.why_no_complex else complex_step(probe.f)
    return probe, abs(probe.claimed - on_branch) <= tolerance


def distance(probe: Probe) -> float:
    """|g − ĝ|, infinite if that is NaN."""
    distance = abs(probe.claimed - probe.reference)
    return float(np.inf if np.isnan(distance) else distance)


def relative(size: float, scale: float) -> float:
    """Size in units of scale; anything is infinitely larger than nothing."""
    return size / scale if scale else np.inf * size if size else 0.0


def adjoint_rows(point: Point, tolerances: dict[str, float]) -> list[Row]:
    """⟨ȳ, J v⟩ = ⟨g, v⟩ for random v over all tensors at once, and g linear in ȳ."""
    return [_identity(point, tolerances), _linearity(point, tolerances["adjoint"])]


def _identity(point: Point, tolerances: dict[str, float]) -> Row:
    by_differences = bool(point.why_no_complex)
    rtol = tolerances["difference" if by_differences else "adjoint"]
    judged, kinks = [], 0
    for _ in range(point.directions):
        probe, scale = _probe(point, by_differences, rtol)
        probe, kink = settle(point, probe, rtol * scale) if by_differences else (probe, False)
        if kink:
            kinks += 1
        else:
            judged.append((relative(distance(probe), scale), probe))
    error, worst = max(judged, key=lambda pair: pair[0], default=(0.0, None))
    status: Status = "kink" if not judged else "ok" if error <= rtol else "FAIL"
    notes = [f"{kinks} of {point.directions} at a kink"] if kinks else []
    if worst is not None and status == "FAIL":
        notes.append(f"worst: {both(worst)}")
    checked, note = f"{point.directions} directions", "; ".join(notes)
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
