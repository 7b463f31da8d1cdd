"""Every tensor's gradient against a reference: entry by entry, or along random directions."""

from typing import NamedTuple

import numpy as np

from numpy_xlstm.gradcheck.point import Point
from numpy_xlstm.gradcheck.reference import (
    Scalar,
    at_kink,
    best_slope,
    closer_look,
    complex_step,
    stencil,
)
from numpy_xlstm.gradcheck.report import Row, Status

NEGLIGIBLE = 1e-3
"""A gradient smaller than this times the largest of all tensors is measured as if it were so large.

Where terms of that size cancel, their rounding is left: see ROUNDINGS.
"""

ROUNDINGS = 16
"""How many roundings of a term of the largest size are accepted in any entry."""


class Probe(NamedTuple):
    """A claimed derivative along one line, and its reference."""

    place: str
    claimed: float
    reference: float
    f: Scalar
    smooth: bool = True
    """Whether differences gave no reason to suspect a kink."""


def tensor_rows(
    point: Point, method: str, rtol: float, max_entries: int, directions: int
) -> list[Row]:
    """One row per tensor."""
    probes = {name: _probes(point, name, method, max_entries, directions) for name in point.tensors}
    largest = max((abs(p.reference) for ps in probes.values() for p in ps), default=0.0)
    rounding = ROUNDINGS * float(np.finfo(point.dtype).eps)
    floor = max(NEGLIGIBLE, rounding / rtol) * largest
    if method == "difference":
        floor += 16 * stencil_noise(point) / rtol
    return [_row(point, name, method, ps, rtol, floor) for name, ps in probes.items()]


def stencil_noise(point: Point) -> float:
    """What rounding does to a difference with the usual step."""
    return stencil(lambda step: 0.0, point.rounding).noise


def _probes(point: Point, name: str, method: str, max_entries: int, directions: int) -> list[Probe]:
    probes = []
    for place, line in point.lines(name, max_entries, directions):
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
    shape = point.tensors[name].shape
    scale = max([floor, *(abs(p.reference) for p in probes)])
    kinks = []
    if method == "difference":
        settled = [settle(point, probe, rtol * scale) for probe in probes]
        probes = [probe for probe, _ in settled]
        kinks = [probe for probe, kink in settled if kink]
    judged = [p for p in probes if p not in kinks]
    worst = max(judged, key=distance, default=None)
    error = 0.0 if worst is None else relative(distance(worst), scale)
    status: Status = "ok" if error <= rtol else "FAIL"
    if probes and not judged:
        status = "kink"
    notes = [f"{len(kinks)} of {len(probes)} at a kink"] if kinks else []
    if status == "FAIL" and worst is not None:
        notes.append(f"worst at {worst.place}: {worst.claimed:.9g}, not {worst.reference:.9g}")
    what = "directions" if probes and probes[0].place.startswith("direction") else "entries"
    return Row(name, shape, method, f"{len(probes)} {what}", error, rtol, status, "; ".join(notes))


def settle(point: Point, probe: Probe, tolerance: float) -> tuple[Probe, bool]:
    """Look closer where a difference contradicts the claim: a better reference, or a kink."""
    if distance(probe) <= tolerance and probe.smooth:
        return probe, False
    seen = closer_look(probe.f, point.rounding)
    probe = probe._replace(reference=best_slope(seen))
    agrees = distance(probe) <= tolerance and seen[-1].smooth
    return probe, not agrees and at_kink(seen, probe.claimed, tolerance)


def distance(probe: Probe) -> float:
    """|g − ĝ|, infinite if that is NaN."""
    distance = abs(probe.claimed - probe.reference)
    return float(np.inf if np.isnan(distance) else distance)


def relative(size: float, scale: float) -> float:
    """Size in units of scale; anything is infinitely larger than nothing."""
    if scale:
        return size / scale
    return float("inf") if size else 0.0
