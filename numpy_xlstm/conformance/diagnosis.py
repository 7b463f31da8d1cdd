"""Diagnosis of wrong ports: the known mistakes that reproduce their numbers.

The specification is run with each known mistake on a case that failed. The mistake that reproduces
the most tensors of the port is a finding. The search is then repeated with that mistake in place,
because a port may have several. A case that passed counts against a mistake that would change it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from numpy_xlstm.conformance.bounds import distance, kind, scales
from numpy_xlstm.conformance.bugs import BUGS, Bug, results
from numpy_xlstm.conformance.compare import listed
from numpy_xlstm.numerics import Array

if TYPE_CHECKING:
    from numpy_xlstm.conformance.case import Case

SHORTLIST = 8
"""Number of mistakes that are tried on all cases, those that best explain the first case."""
MOST = 6
"""Largest number of mistakes found in one subject."""
LEAST = 2
"""Least number of results that a second mistake must explain; one result may be chance."""
SHARE = 0.1
"""Least share of the wrong results that a mistake must explain; results it spoils count twice."""
ROUNDINGS = 64
"""Accepted difference between a port and a mistake, in roundings of the row's largest number."""

MOST_NAMES = 60
"""Number of characters for names of wrong tensors if no known mistake is found."""
HALF = 2.0**29
"""Quotient of the roundings of float32 and of float64."""
TINY = 16 * float(np.finfo(np.float32).tiny)
"""Error of a port in float32 for numbers near 0."""
SEVEN_DIGITS = "float64 is right to seven digits only: something is computed in float32"

Checked = tuple["Case", Mapping[str, Any]]
"""Case and results of a port."""
Numbers = tuple[Mapping[str, Array], Mapping[str, Array]]
"""Results and tolerances."""


@dataclass(frozen=True)
class Finding:
    """A mistake that a port has made.

    Attributes
    ----------
    subject : str
        Name of the subject.
    bug : Bug
        The mistake.
    tensors : tuple[str, ...]
        Names of the results that the mistake explains.
    """

    subject: str
    bug: Bug
    tensors: tuple[str, ...]

    def __str__(self) -> str:
        are = "are those" if len(self.tensors) > 1 else "is that"
        does = "do this" if len(self.bug.seen_in) > 1 else "does this"
        known = f"; {', '.join(self.bug.seen_in)} {does}" if self.bug.seen_in else ""
        head = f"{self.subject}: {', '.join(self.tensors)} {are} of {self.bug.description}"
        lines = (line.strip() for line in self.bug.change.strip().splitlines())
        return "\n    ".join([f"{head} ({self.bug.name}){known}", *filter(None, lines)])


@dataclass
class Diagnosis:
    """Search for mistakes, with a cache of the results of each mistake in each case."""

    known: dict[tuple[str, ...], Numbers] = field(default_factory=dict)

    def findings(self, failed: Iterable[Checked], passed: Iterable["Case"] = ()) -> list[Finding]:
        """Return the mistakes of a port in each subject, from its results in failed cases."""
        found: list[Finding] = []
        beside = list(passed)
        by_subject = sorted(failed, key=lambda each: each[0].subject.name)
        for subject, group in groupby(by_subject, key=lambda each: each[0].subject.name):
            right = [(case, case.expected) for case in beside if case.subject.name == subject]
            found += self._of_subject(subject, one_of_each(group), one_of_each(right))
        return found

    def _of_subject(
        self, subject: str, failed: list[Checked], passed: list[Checked]
    ) -> list[Finding]:
        candidates = [bug for bug in BUGS if bug.concerns(subject)]
        made: tuple[Bug, ...] = ()
        found: list[Finding] = []
        now = right = self._explained(made, failed + passed)
        while len(made) < MOST:
            wrong = [len(self._unexplained(made, each)) for each in failed]
            open_cases = [each for each, number in zip(failed, wrong, strict=True) if number]
            best = self._best(made, candidates, open_cases, failed + passed) if open_cases else None
            then = self._explained((*made, best), failed + passed) if best else set()
            least = max(LEAST if made and failed[1:] else 1, SHARE * sum(wrong))
            if best is None or len(then - now) < least + 2 * len(now - then):
                break
            gained = {name for _, name in then - now}
            tensors = tuple(name for name in failed[0][0].expected if name in gained)
            found.append(Finding(subject, best, tensors))
            made, now = (*made, best), then
        # Many mistakes give zeros or NaN; a port that gives nothing else has another reason.
        gave = [got[name] for case, got in failed for at, name in now - right if at == case.id]
        whole = not any(self._unexplained(made, each) for each in failed)
        return found if whole or not all(map(empty, gave)) else []

    def _best(
        self,
        made: tuple[Bug, ...],
        candidates: list[Bug],
        open_cases: list[Checked],
        evidence: list[Checked],
    ) -> Bug | None:
        """Return the mistake that, together with those made, explains the most evidence."""
        first = open_cases[:1]
        others = [bug for bug in candidates if bug not in made]
        scores = {bug.name: len(self._explained((*made, bug), first)) for bug in others}
        likely = sorted(others, key=lambda bug: -scores[bug.name])[:SHORTLIST]
        return max(
            likely, key=lambda bug: len(self._explained((*made, bug), evidence)), default=None
        )

    def _unexplained(self, made: tuple[Bug, ...], each: Checked) -> set[str]:
        case, got = each
        there = {name for name, a in case.expected.items() if comparable(got.get(name), a)}
        return there - {name for _, name in self._explained(made, [each])}

    def _explained(
        self, made: tuple[Bug, ...], evidence: Iterable[Checked]
    ) -> set[tuple[str, str]]:
        """Return case and name of each result that the specification with these mistakes gives."""
        found = set()
        for case, got in evidence:
            results, allowed = self._numbers(made, case)
            found |= {(case.id, n) for n in allowed if same(got.get(n), results[n], allowed[n])}
        return found

    def _numbers(self, made: tuple[Bug, ...], case: "Case") -> Numbers:
        """Return the results of the specification with these mistakes, and their tolerances."""
        key = (case.id, *(bug.name for bug in made))
        if key not in self.known:
            found = results(case, *made) if made else case.expected
            numbers = {n: a for n, a in found.items() if n in case.expected}
            self.known[key] = numbers, tolerances(case, numbers)
        return self.known[key]


def one_of_each(cases: Iterable[Checked]) -> list[Checked]:
    """Return the first case for each combination of flags."""
    first: dict[tuple[str, ...], Checked] = {}
    for each in cases:
        first.setdefault(each[0].flags, each)
    return list(first.values())


def tolerances(case: "Case", results: Mapping[str, Array]) -> dict[str, Array]:
    """Return the tolerances for a port with the same computation as ``results``."""
    right = {n: a for n, a in results.items() if a.shape == case.expected[n].shape}
    return {
        name: 2 * case.bounds[name] + ROUNDINGS * np.finfo(right[name].dtype).eps * scale
        for name, scale in scales(case.subject, case.inputs, right).items()
    }


def comparable(got: Any, expected: Array) -> bool:
    """Return whether a result of a port is an array of real numbers in the right shape."""
    array = isinstance(got, np.ndarray) and got.dtype.kind == "f"
    return array and got.shape == expected.shape


def empty(array: Array) -> bool:
    """Return whether all entries are 0 or NaN."""
    return not np.nan_to_num(array).any()


def same(got: Any, expected: Array, tolerance: Array) -> bool:
    """Return whether the numbers of a port are within the tolerance, with NaN equal to NaN."""
    if not comparable(got, expected):
        return False
    far = ~(distance(got, expected) <= tolerance)
    return not far.any() or bool(np.array_equal(got[far], expected[far], equal_nan=True))


def diagnose(failed: Sequence[Checked], passed: Sequence["Case"] = ()) -> list[str]:
    """Return the diagnosis of failed cases and their results, as lines of text.

    If no known mistake is found in a subject, the line lists the results that are wrong.
    """
    found = Diagnosis().findings(failed, passed)
    lines, named = [str(finding) for finding in found], {finding.subject for finding in found}
    for subject in dict.fromkeys(case.subject.name for case, _ in failed):
        if subject not in named:
            of = [each for each in failed if each[0].subject.name == subject]
            beside = [case for case in passed if case.subject.name == subject]
            said = SEVEN_DIGITS if seven_digits(of, beside) else what_is_wrong(of)
            lines += [f"{subject}: {said}"] if said else []
    return lines


def seven_digits(failed: Sequence[Checked], passed: Sequence["Case"]) -> bool:
    """Return whether float32 passes and float64 mostly fails, with errors as small as in float32.

    Near ties are ignored: in float32 they become ties.
    """
    right = [case.dtype for case in passed]
    return (
        "float32" in right
        and all(case.dtype == "float64" for case, _ in failed)
        and len(failed) > right.count("float64")
        and all(
            near(case, got, name, HALF, TINY)
            for case, got in failed
            if "near-tie" not in case.flags
            for name in case.expected
        )
    )


def what_is_wrong(failed: Sequence[Checked]) -> str:
    """Describe which results are wrong, and whether the forward is right; "" if none is wrong."""
    wrong = {
        name: None
        for case, got in failed
        for name, array in case.expected.items()
        if comparable(got.get(name), array) and not near(case, got, name)
    }
    forward = [name for name in wrong if not is_gradient(name)]
    first = forward or [*wrong]
    where = "" if forward else "the forward is right, and of the backward "
    said = f"{where}{listed(first, MOST_NAMES)} {'are' if first[1:] else 'is'} wrong"
    return f"no known mistake gives these numbers; {said}" if wrong else ""


def near(
    case: "Case", got: Mapping[str, Any], name: str, times: float = 1, least: float = 0
) -> bool:
    """Return whether the error of a result is at most ``times`` its bound plus ``least``."""
    found: Any = got.get(name)
    expected, bound = case.expected[name], times * case.bounds[name] + least
    return comparable(found, expected) and not (distance(found, expected) > bound).any()


def is_gradient(name: str) -> bool:
    """Return whether a result is a gradient."""
    return kind(name) != name
