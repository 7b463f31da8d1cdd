"""Evidence for the mistakes of a port: its results, compared with those of each mistake."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from numpy_xlstm.conformance.bounds import SAFETY, distance, in_dtype, scales, shaken
from numpy_xlstm.conformance.bugs import Bug, results
from numpy_xlstm.conformance.bugs.bug import halves
from numpy_xlstm.conformance.bugs.changes import Changes
from numpy_xlstm.conformance.case_data import CaseData
from numpy_xlstm.conformance.contrast import Wrong, comparable, is_gradient
from numpy_xlstm.numerics import Array

RUNS = 1000
"""Largest number of runs of changed lines in a report, and number of runs of known mistakes after
which no further search begins."""
ROUNDINGS = 64
"""Accepted difference of a port from a mistake, in units of ε times the row's largest number."""
CLOSE = 1e4
"""Largest error, as a multiple of the tolerance, that may be a rounding error of a mistake."""
SHAKES = 4
"""Number of runs of a mistake in float64, with perturbed inputs, to measure its errors."""
RULES = {"tie", "near-tie", "kink"}
"""Flags of cases whose inputs must not be perturbed, but may be converted to float64."""

Checked = tuple[CaseData, Mapping[str, Any]]
"""Case and results of a port."""
Numbers = tuple[Mapping[str, Array], Mapping[str, Array]]
"""Results and tolerances."""
Made = tuple[Bug, ...]


@dataclass
class Runs:
    """Runs of the specification with mistakes, each done once in a report, and their limits."""

    known: dict[tuple[Any, ...], Numbers] = field(default_factory=dict)
    changed: dict[tuple[str, Changes, int], dict[str, Any]] = field(default_factory=dict)
    left: int = RUNS
    """Number of runs of a changed line that are left in this report."""
    left_known: int = RUNS
    """Number of runs of known mistakes that are left; a search that has begun is finished."""

    def numbers(self, made: Made, case: CaseData) -> Numbers:
        """Return the results of the specification with these mistakes, and their tolerances.

        Without mistakes the tolerances are the bounds of the case.
        """
        if not made:
            return case.expected, case.bounds
        key = (case.id, *made)
        if key not in self.known:
            self.left_known -= 1
            found = results(case, *made)
            numbers = {n: a for n, a in found.items() if n in case.expected}
            self.known[key] = numbers, tolerances(case, numbers)
        return self.known[key]

    def measured(self, made: Made, case: CaseData) -> Numbers:
        """Return the same, with tolerances that contain the rounding errors of the mistakes.

        A mistake may be worse conditioned than the specification, such as a division by a number
        near 0. Where it has no finite result, the tolerance is infinite.
        """
        key = (case.id, *made, SHAKES)
        if key not in self.known:
            (now, allowed), rng = self.numbers(made, case), np.random.default_rng(0)
            allowed = {n: np.where(np.isfinite(now[n]), a, np.inf) for n, a in allowed.items()}
            for _ in range(SHAKES):
                moved = SimpleNamespace(subject=case.subject, options=case.options)
                exact = set() if RULES.isdisjoint(case.flags) else set(case.inputs)
                moved.inputs = in_dtype(shaken(case.inputs, exact, rng), np.float64)
                found = results(moved, *made)
                for n, tolerance in allowed.items():
                    off = distance(found[n], now[n]) if n in found else np.inf
                    allowed[n] = np.maximum(tolerance, SAFETY * off)
            self.known[key] = now, allowed
        return self.known[key]

    def with_change(self, changes: Changes, number: int, case: CaseData) -> dict[str, Any]:
        """Return the results of a case with the change of a line."""
        key = (case.id, changes, number)
        if key not in self.changed:
            self.left -= 1
            self.changed[key] = changes.results(number, case)
        return self.changed[key]


class Evidence:
    """The results of a port in the cases of one subject.

    Parameters
    ----------
    runs : Runs
        Runs of the specification with mistakes.
    failed, passed : list
        Cases, and the results of the port; for a case that passed, the expected ones.

    Attributes
    ----------
    one_of_each : list
        The first failed and the first passed case for each combination of flags.
    """

    def __init__(self, runs: Runs, failed: list[Checked], passed: list[Checked]) -> None:
        self.runs, self.numbers, self.passed = runs, runs.numbers, passed
        self.failed = [each for each in failed if any(map(comparable, *pairs(each)))]
        self.one_of_each = one_of_each(self.failed) + one_of_each(passed)

    def open(self, made: Made) -> list[Checked]:
        """Return the failed cases, one per set of flags, that these mistakes do not explain."""
        return [each for each in one_of_each(self.failed) if self.unexplained(made, each)]

    def wrong(self, each: Checked, made: Made) -> Wrong:
        """Return the entries of a case that these mistakes do not explain."""
        now, _ = self.numbers(made, each[0])
        return Wrong(*each, now, self.off(made, each))

    def off(self, made: Made, each: Checked) -> dict[str, Array]:
        """Return where the results of a port are not those of the specification with mistakes.

        A result that is close is compared again, with the measured rounding errors of the mistakes.
        """
        case, got = each
        now, allowed = self.numbers(made, case)
        there = [name for name in allowed if comparable(got.get(name), now[name])]
        off = {n: far(got[n], now[n], allowed[n]) for n in there}
        if made and got is not case.expected and any(mask.any() for mask in off.values()):
            close = [far(got[n], now[n], CLOSE * allowed[n]) & np.isfinite(now[n]) for n in there]
            if not any(map(np.any, close)):
                _, allowed = self.runs.measured(made, case)
                off = {n: ~(distance(got[n], now[n]) <= allowed[n]) for n in there}
        return {name: mask for name, mask in off.items() if mask.any()}

    def unexplained(self, made: Made, each: Checked) -> set[str]:
        """Return the names of the results of a case that these mistakes do not explain."""
        case, got = each
        there = {name for name, a in case.expected.items() if comparable(got.get(name), a)}
        now, _ = self.numbers(made, case)
        return (there - now.keys()) | self.off(made, each).keys()

    def number(self, made: Made) -> int:
        """Return the number of results that these mistakes explain."""
        return len(self.explained(made))

    def rank(self, made: Made, evidence: Iterable[Checked]) -> tuple[int, float]:
        """Return the number of results that mistakes explain, and the port's distance from them."""
        explained, off = 0, 0.0
        for case, got in evidence:
            now, allowed = self.numbers(made, case)
            for _, name in self.explained(made, [(case, got)]):
                explained += 1
                if got is not case.expected:  # the results of a case that passed are not kept
                    error = distance(got[name], now[name]) / allowed[name]
                    off += float(error[np.isfinite(error)].sum())
        return explained, off

    def uncontradicted(self, made: Made) -> Made:
        """Return the mistakes that no case contradicts."""
        for bug in reversed(made):
            without = tuple(other for other in made if other is not bug)
            cases = self.failed + self.passed
            if any(self.contradicts(each, bug, made, without) for each in cases):
                return self.uncontradicted(without)
        return made

    def contradicts(self, each: Checked, bug: Bug, made: Made, without: Made) -> bool:
        """Return whether the port lacks a number that a mistake changes in a case.

        The gradients do not contradict a mistake in the forward alone: the backward may be right
        for this forward, or have other mistakes.
        """
        (now, allowed), (before, _) = self.numbers(made, each[0]), self.numbers(without, each[0])
        changed = [n for n in allowed if n in before and not same(before[n], now[n], allowed[n])]
        forward = [] if halves(bug) else [name for name in changed if not is_gradient(name)]
        return not allowed or not self.off(made, each).keys().isdisjoint(forward or changed)

    def explained(
        self, made: Made, evidence: Iterable[Checked] | None = None
    ) -> set[tuple[str, str]]:
        """Return case and name of each result that the specification with these mistakes gives.

        By default there is one case for each combination of flags.
        """
        found = set()
        for case, got in self.one_of_each if evidence is None else evidence:
            results, allowed = self.numbers(made, case)
            found |= {(case.id, n) for n in allowed if same(got.get(n), results[n], allowed[n])}
        return found


def pairs(each: Checked) -> tuple[list[Any], list[Array]]:
    """Return the results of a port and the expected ones, in the same order."""
    case, got = each
    return [got.get(name) for name in case.expected], list(case.expected.values())


def one_of_each(cases: Iterable[Checked]) -> list[Checked]:
    """Return the first case for each combination of flags."""
    first: dict[tuple[str, ...], Checked] = {}
    for each in cases:
        first.setdefault(each[0].flags, each)
    return list(first.values())


def tolerances(case: CaseData, results: Mapping[str, Array]) -> dict[str, Array]:
    """Return the tolerances for a port with the same computation as ``results``."""
    right = {n: a for n, a in results.items() if a.shape == case.expected[n].shape}
    return {
        name: 2 * case.bounds[name] + ROUNDINGS * np.finfo(right[name].dtype).eps * scale
        for name, scale in scales(case.subject, case.inputs, right).items()
    }


def blank(array: Any) -> bool:
    """Return whether all entries are 0 or NaN, or there are several, all the same number."""
    if np.asarray(array).dtype.kind != "f":
        return True
    numbers = np.nan_to_num(array).ravel()
    return not numbers.any() or (numbers.size > 1 and bool((numbers == numbers[0]).all()))


def same(got: Any, expected: Array, tolerance: Array) -> bool:
    """Return whether the numbers of a port are within the tolerance."""
    return comparable(got, expected) and not far(got, expected, tolerance).any()


def far(got: Any, expected: Array, tolerance: Array) -> Array:
    """Return where numbers differ by more than the tolerance, unless neither is finite."""
    neither: Array = ~np.isfinite(got) & ~np.isfinite(expected)
    return ~(distance(got, expected) <= tolerance) & ~neither
