"""Comparison of gradients with references, for each tensor and for all tensors together."""

import numpy as np

from numpy_xlstm.gradcheck.axes import Index
from numpy_xlstm.gradcheck.reference import Point, Probe, differences, noise, relative, settled
from numpy_xlstm.gradcheck.report import Row, Status
from numpy_xlstm.numerics import Arrays

NEGLIGIBLE, ROUNDINGS = 1e-3, 16
"""Two limits. The error of a tensor is relative to its largest gradient, but at least to NEGLIGIBLE
times the largest gradient of all tensors. In any entry, ROUNDINGS rounding errors of
that largest gradient are accepted, because such errors remain where terms cancel."""

SECOND_OPINION = 1e-6
"""Largest error of a backward that agrees with finite differences."""

UNCHECKED = "not checked: no step from there keeps the forward finite"
VACUOUS = (
    "the true gradient is zero here; unless another row decides, pass a state, inputs and "
    "parameters where it is not"
)


def tensor_rows(point: Point, rtol: float) -> list[Row]:
    """Return one row per tensor."""
    probes = {
        name: [_probe(point, {name: line}, index) for index, line in point.lines(name)]
        for name in point.tensors
    }
    sizes = {
        name: max((abs(p.reference) for p in lines if np.isfinite(p.reference)), default=0.0)
        for name, lines in probes.items()
    }
    rounding = ROUNDINGS * float(np.finfo(point.problem.dtype).eps)
    floor = max(NEGLIGIBLE, rounding / rtol) * max(sizes.values()) + _least(point, rtol)
    method = "finite differences" if point.why_no_complex else "complex step"
    rows = []
    for name, lines in probes.items():
        scaled = [probe._replace(scale=max(floor, sizes[name])) for probe in lines]
        rows.append(_row(point, name, method, scaled, rtol))
    return rows


def adjoint_rows(point: Point, rtol: float, linear: float) -> list[Row]:
    """Check ⟨ȳ, J v⟩ = ⟨g, v⟩ for random v over all tensors at once, and that g is linear in ȳ."""
    probes = []
    for _ in range(point.directions):
        v = {
            name: np.where(np.isfinite(array), point.random_direction(array.shape), 0)
            for name, array in point.tensors.items()
        }
        probe = _probe(point, v)
        probes.append(probe._replace(scale=probe.scale + _least(point, rtol)))
    identity = _row(point, "⟨ȳ,Jv⟩ = ⟨Jᵀȳ,v⟩", "adjoint", probes, rtol)
    return [identity, _linearity(point, linear)]


def differences_agree(point: Point, name: str) -> bool:
    """Return whether finite differences along a direction agree with the gradient of a tensor."""
    probe = _probe(point, {name: point.random_direction(point.tensors[name].shape)})
    slopes = (seen.slope for seen in differences(probe.f, point.rounding))
    try:
        return any(probe._replace(reference=s).error <= SECOND_OPINION for s in slopes)
    except ValueError:  # the forward refuses points near this one
        return False


def _least(point: Point, rtol: float) -> float:
    """Return the scale below which rounding errors of a difference exceed the tolerance."""
    return noise(point.rounding) / rtol if point.why_no_complex else 0.0


def _probe(point: Point, line: Arrays, index: Index | None = None) -> Probe:
    """Return claim and reference along a line, with the sum of absolute terms as the scale."""
    f = point.along(line)
    terms = np.concatenate([(point.gradients[name] * part).ravel() for name, part in line.items()])
    return Probe(index, float(terms.sum()), point.slope(f), float(np.abs(terms).sum()), f)


def _row(point: Point, tensor: str, method: str, probes: list[Probe], rtol: float) -> Row:
    """Return the row of one tensor, or of all together.

    A probe has no finite reference, or is at a kink, or is judged: then it agrees or fails.
    """
    usable = [probe for probe in probes if np.isfinite(probe.reference)]
    slopes = [settled(point, probe, rtol) for probe in usable]  # None at a kink
    pairs = zip(usable, slopes, strict=True)
    judged = [probe._replace(reference=slope) for probe, slope in pairs if slope is not None]
    along_directions = bool(probes) and probes[0].entry is None
    failing = [p for p in judged if not p.error <= rtol]
    if along_directions and None in slopes:  # a kink on one line: another may agree, not disagree
        judged, failing = [p for p in judged if p.error <= rtol], []
    status: Status = "FAIL" if failing else "ok"
    notes: list[str] = []
    if probes and not judged:
        status = "kink"
    elif judged and not failing and method != "adjoint" and _vacuous(judged, rtol):
        status, notes = "vacuous", [VACUOUS]
    checked = f"{len(probes)} {'directions' if along_directions else 'entries'}"
    if kinks := len(usable) - len(judged):
        notes.append(f"{kinks} of {len(probes)} at a kink")
    if unusable := [probe for probe in probes if not np.isfinite(probe.reference)]:
        indices = [list(p.entry) for p in unusable if p.entry is not None]
        where = f", the first at {indices[0]}" if indices else ""
        notes.append(f"{len(unusable)} of {checked} {UNCHECKED}{where}")
    if failing:
        notes.append(f"{len(failing)} of {checked}{_located(point, tensor, failing)}")
    shape = point.tensors[tensor].shape if tensor in point.tensors else ()
    error = max((p.error for p in judged), default=0.0)
    note, state = "; ".join(notes), point.problem.state
    return Row(tensor, shape, method, checked, error, rtol, status, note, state)


def _vacuous(judged: list[Probe], rtol: float) -> bool:
    """Return whether the references are too small to show whether the gradients are right."""
    largest = max(abs(p.reference) for p in judged)
    right = largest > 0 and max(p.distance for p in judged) <= rtol * largest
    return not right and all(abs(p.reference) <= rtol * p.scale for p in judged)


def _located(point: Point, tensor: str, failing: list[Probe]) -> str:
    """Describe what the failing entries have in common, and the worst one with both numbers."""
    worst = max(failing, key=lambda probe: (probe.error, probe.distance))
    both = f"backward {worst.claimed:.9g}, reference {worst.reference:.9g}"
    if worst.entry is None:
        return f"; worst: {both}"
    axes = point.problem.axes[tensor]
    common = axes.in_common([p.entry for p in failing if p.entry is not None])
    return f"{common}; worst at {axes.describe(worst.entry)}: {both}"


def _linearity(point: Point, rtol: float) -> Row:
    """Check that the backward is linear in ȳ: for huge and tiny multiples, and for 2ȳ − 3ȳ′."""
    backward, gradients, other = point.problem.backward, point.gradients, point.random_cotangents()
    of_other, notes, every = backward(other), list[str](), list[float]()
    n = min(40, np.finfo(point.problem.dtype).maxexp // 4)
    for power in (n, -n):
        scaled = backward({name: 2.0**power * c for name, c in point.cotangents.items()})
        got = {name: gradient / 2.0**power for name, gradient in scaled.items()}
        errors = _errors(got, gradients, NEGLIGIBLE)
        every += errors.values()
        if wrong := _wrong(errors, rtol):
            notes.append(
                "the backward is not linear in the size of the cotangent: "
                f"2^{power} ȳ does not give 2^{power} times the gradient of {wrong}"
            )
    got = backward({name: 2 * c - 3 * other[name] for name, c in point.cotangents.items()})
    expected = {name: 2 * gradient - 3 * of_other[name] for name, gradient in gradients.items()}
    errors = _errors(got, expected, least=1.0)  # of the largest tensor: terms may cancel
    every += errors.values()
    if (wrong := _wrong(errors, rtol)) and not notes:
        notes.append(f"2ȳ − 3ȳ′ does not give this sum of the gradients of {wrong}")
    return _row_of_all(point, "linear in ȳ", "adjoint", every, rtol, "; ".join(notes))


def specification_rows(point: Point, rtol: float) -> list[Row]:
    """Compare outputs and gradients with those of the target's specification, if it has one."""
    if (other := point.problem.from_specification()) is None:
        return []
    gradients = _errors(point.gradients, other.backward(point.cotangents), NEGLIGIBLE)
    errors = _errors(point.problem.outputs, other.outputs, NEGLIGIBLE)
    errors |= {f"the gradient of {name}": error for name, error in gradients.items()}
    wrong = _wrong(errors, rtol)
    note = f"another result than that of the specification: {wrong}" if wrong else ""
    every = [*errors.values()]
    return [_row_of_all(point, "outputs, gradients", "specification", every, rtol, note)]


def _row_of_all(
    point: Point, checked: str, method: str, errors: list[float], rtol: float, note: str
) -> Row:
    """Return the row of a requirement on all tensors, which fails if there is a note."""
    status: Status = "FAIL" if note else "ok"
    error, state = float(np.max(errors)), point.problem.state
    return Row(checked, (), method, "all entries", error, 8 * rtol, status, note, state)


def _wrong(errors: dict[str, float], rtol: float) -> str:
    """Return the names of the arrays whose error is too large, or NaN."""
    return ", ".join(name for name, error in errors.items() if not error <= 8 * rtol)


def _errors(got: Arrays, expected: Arrays, least: float) -> dict[str, float]:
    """Return the largest error of each array, infinity for one that is missing.

    It is relative to the largest entry of the array, but at least to ``least`` times that of all.
    """
    sizes = {name: np.abs(a[np.isfinite(a)]).max(initial=0) for name, a in expected.items()}
    errors, largest = dict.fromkeys(expected, np.inf), max(sizes.values())
    for name, right in expected.items():
        array = np.asarray(got.get(name, np.empty(0)))
        if array.shape == right.shape:
            different = array != right  # −inf equals −inf
            distance = np.abs(array[different] - right[different]).max(initial=0)
            errors[name] = relative(distance, max(sizes[name], least * largest))
    return errors
