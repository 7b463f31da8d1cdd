"""Diagnosis of wrong ports: the mistakes that reproduce their numbers, or else where to look.

The specification is run with each known mistake on a case that failed, and, if none of them gives
the numbers of the port, with each small change of one of its lines. The mistake that reproduces the
most tensors is kept in place, and the search is repeated, because a port may have several. A
mistake is named only if no case contradicts it: wherever it changes a result, the port has the
changed number. What remains is described by :mod:`numpy_xlstm.conformance.contrast`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from numpy_xlstm.conformance.bounds import SAFETY, distance, in_dtype, scales, shaken
from numpy_xlstm.conformance.bugs import BUGS, Bug, results
from numpy_xlstm.conformance.bugs.bug import edits, halves
from numpy_xlstm.conformance.bugs.changes import Changes, instrumented
from numpy_xlstm.conformance.compare import listed
from numpy_xlstm.conformance.contrast import (
    MOST_NAMES,
    SEVEN_DIGITS,
    Wrong,
    clues,
    comparable,
    fits,
    is_gradient,
    seven_digits,
)
from numpy_xlstm.numerics import Array

if TYPE_CHECKING:
    from numpy_xlstm.conformance.case import Case

SHORTLIST = 8
"""Number of mistakes that are tried on all cases, those that best explain the first case."""
STARTS = 3
"""Number of mistakes with each of which a search is started."""
MOST = 6
"""Largest number of mistakes found in one subject."""
COVERED = 0.9
"""Least share of the wrong entries that must depend on a line for a change of it to be tried."""
MOST_LINES = 10
"""Largest number of lines whose changes are tried."""
RUNS = 1000
"""Largest number of runs of a changed line in a report, and of known mistakes."""
LINES = 3
"""Largest number of lines that are shown as possible places of a mistake."""
ROUNDINGS = 64
"""Accepted difference of a port from a mistake, in units of ε times the row's largest number."""
CLOSE = 1e4
"""Largest error, as a multiple of the tolerance, that may be a rounding error of a mistake."""
CLOSER = 1.25
"""Smallest ratio of the errors of two mistakes at which the closer one is preferred."""
SHAKES = 4
"""Number of runs of a mistake in float64, with perturbed inputs, to measure its errors."""
NOT_SEARCHED = (
    "not searched for known mistakes, because this report has reached its limit; correct other "
    "subjects first, and run again"
)
RULES = {"tie", "near-tie", "kink"}
"""Flags of cases whose inputs must not be perturbed."""

Checked = tuple["Case", Mapping[str, Any]]
"""Case and results of a port."""
Numbers = tuple[Mapping[str, Array], Mapping[str, Array]]
"""Results and tolerances."""
Made = tuple[Bug, ...]


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
        lines = []
        for *_, old, new in edits(self.bug, {}):
            lines += [f"- {line}" for line in old] + [f"+ {line}" for line in new]
        return "\n    ".join([f"{head} ({self.bug.name}){known}", *lines])


@dataclass
class Diagnosis:
    """Search for mistakes, with a cache of the results of each mistake in each case."""

    known: dict[tuple[Any, ...], Numbers] = field(default_factory=dict)
    changed: dict[tuple[str, Changes, int], dict[str, Any]] = field(default_factory=dict)
    found: list[Bug] = field(default_factory=list)
    """Mistakes found in previous subjects of this report, which are tried first in the next."""
    left: int = RUNS
    """Number of runs of a changed line that are left in this report."""
    left_known: int = RUNS
    """Number of runs of known mistakes that are left; a search that has begun is finished."""

    def findings(self, failed: Iterable[Checked], passed: Iterable["Case"] = ()) -> list[Finding]:
        """Return the mistakes of a port in each subject, from its results in failed cases."""
        every = self.by_subject(failed, passed)
        return [finding for search in every for finding in search.findings()]

    def by_subject(
        self, failed: Iterable[Checked], passed: Iterable["Case"] = ()
    ) -> list["Search"]:
        """Return the outcome of the search in each subject that failed."""
        self.left, self.left_known, self.found = RUNS, RUNS, []
        right = [(case, case.expected) for case in passed]
        by_name = sorted(failed, key=lambda each: (each[0].subject.steps, each[0].subject.name))
        return [
            Search(
                self, name, list(group), [each for each in right if each[0].subject.name == name]
            )
            for name, group in groupby(by_name, key=lambda each: each[0].subject.name)
        ]

    def numbers(self, made: Made, case: "Case") -> Numbers:
        """Return the results of the specification with these mistakes, and their tolerances."""
        key = (case.id, *made)
        if key not in self.known:
            self.left_known -= bool(made)
            found = results(case, *made) if made else case.expected
            numbers = {n: a for n, a in found.items() if n in case.expected}
            self.known[key] = numbers, tolerances(case, numbers)
        return self.known[key]

    def measured(self, made: Made, case: "Case") -> Numbers:
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
                moved.inputs = in_dtype(shaken(case.inputs, set(), rng), np.float64)
                found = results(moved, *made)
                for n, tolerance in allowed.items():
                    off = distance(found[n], now[n]) if n in found else np.inf
                    allowed[n] = np.maximum(tolerance, SAFETY * off)
            self.known[key] = now, allowed
        return self.known[key]


class Search:
    """The search for the mistakes of a port in one subject.

    Attributes
    ----------
    made : tuple[Bug, ...]
        The mistakes.
    """

    def __init__(
        self, diagnosis: Diagnosis, subject: str, failed: list[Checked], passed: list[Checked]
    ) -> None:
        self.diagnosis, self.numbers, self.subject = diagnosis, diagnosis.numbers, subject
        self.failed = [each for each in failed if any(map(comparable, *pairs(each)))]
        self.passed = passed
        self.lines: list[str] = []
        self.likely: Made = ()
        self.evidence = one_of_each(self.failed) + one_of_each(passed)
        found = [bug for bug in diagnosis.found if bug.concerns(subject) or not bug.subjects]
        self.bugs = [*found, *(bug for bug in BUGS if bug.concerns(subject) and bug not in found)]
        wrong = [self._wrong(each, ()) for each in self.failed]
        self.narrow = bool(wrong) and seven_digits(wrong, [case for case, _ in passed])
        nothing = all(blank(a) for _, got in self.failed for a in got.values())
        self.searched = diagnosis.left_known > 0
        if nothing or self.narrow or not self.searched:
            self.made: Made = ()
        else:
            self.made = self._as_before(found) or self._searched()
        diagnosis.found += [bug for bug in self.made if bug not in found]

    def findings(self) -> list[Finding]:
        """Return each mistake with the results that it explains."""
        found = []
        for n, bug in enumerate(self.made):
            before = self._explained(self.made[:n], self.failed)
            gained = {name for _, name in self._explained(self.made[: n + 1], self.failed) - before}
            names = [name for name in self.failed[0][0].expected if name in gained]
            found.append(Finding(self.subject, bug, tuple(names)))
        return found

    def sentences(self) -> list[str]:
        """Return the diagnosis as lines of text."""
        if self.narrow:
            return [f"{self.subject}: {SEVEN_DIGITS}"]
        found = [str(finding) for finding in self.findings()]
        wrong = [each for each in map(self._wrong, self.failed) if each.tensors]
        if self.made and (fitting := self._fitting(wrong)):
            are = "are the correct gradients" if fitting[1:] else "is the correct gradient"
            names = listed(fitting, MOST_NAMES)
            found.append(f"{self.subject}: {names} {are} of this wrong forward")
            wrong = [each for each in (w.without(fitting) for w in wrong) if each.tensors]
        if not wrong:
            return found
        said = "no known mistake gives these numbers" if self.searched else NOT_SEARCHED
        if self.made:
            done, of = len(self.failed) - len(wrong), len(self.failed)
            tensors = list(dict.fromkeys(name for each in wrong for name in each.tensors))
            cases = listed([each.situation for each in wrong], MOST_NAMES)
            said = f"this explains {done} of {of} failed cases; {listed(tensors, MOST_NAMES)} "
            said += f"{'are' if tensors[1:] else 'is'} not explained in {cases}"
        open_ = {each.case.id for each in wrong}
        others = [case for case, _ in [*self.failed, *self.passed] if case.id not in open_]
        more = clues(wrong, others)
        if self.lines:
            more += [
                "the wrong numbers depend on each of these lines; a mistake may be in one of them",
                *("    " + n for n in self.lines),
            ]
        return [*found, "\n    ".join([f"{self.subject}: {said}", *more])]

    def _as_before(self, found: list[Bug]) -> Made:
        """Return the mistakes of previous subjects if they explain all results, and else none."""
        made: Made = ()
        for bug in found:
            made = (*made, bug) if self._better((*made, bug), made) else made
        return made if made == self._uncontradicted(made) and not self._open(made) else ()

    def _searched(self) -> Made:
        made = self._of_these((), self.bugs)
        if self._open(made):
            made = self._of_these(made, [*self.bugs, *self._halves()])
        for start in dict.fromkeys((made, self.likely)):
            if self._open(made) and self._open(start):
                lines, then = self.lines, self._with_changes(start)
                if then == self._uncontradicted(then) and self._number(then) > self._number(made):
                    made = then
                elif start != made:
                    self.lines = lines
        gave = [
            each[1][name]
            for each in self.failed
            for _, name in self._explained(made, [each]) - self._explained((), [each])
        ]
        # Many mistakes give zeros or NaN; if they explain nothing else, there is another reason.
        return () if self._open(made) and all(map(blank, gave)) else made

    def _of_these(self, made: Made, candidates: list[Bug]) -> Made:
        """Return the mistakes that explain the most and that no case contradicts."""
        for bug in self._best((), candidates)[:STARTS]:
            grown = self._grown((bug,), candidates)
            self.likely = self.likely or grown
            then = self._uncontradicted(grown)
            if self._number(then) > self._number(made):
                made = then
            if not self._open(made):
                break
        return made

    def _halves(self) -> list[Bug]:
        """Return forward parts of known mistakes or, if the forward is right, backward parts."""
        part = "forward" if self._wrong(self.failed[0], ()).forward else "backward"
        return [half for bug in self.bugs for name, half in halves(bug).items() if name == part]

    def _grown(self, made: Made, candidates: list[Bug]) -> Made:
        """Add mistakes as long as they explain more results."""
        before: Made = ()
        after = made
        while self._better(after, before):
            made = before = after
            best = self._best(made, candidates)
            if len(made) == MOST or not best:
                break
            after = (*made, best[0])
        return made if self._better(made, made[:-1]) else made[:-1]

    def _better(self, after: Made, before: Made) -> bool:
        """Return whether the last mistake explains more results than it spoils."""
        then, now = (self._explained(each, self.evidence) for each in (after, before))
        return after != before and len(then - now) > 2 * len(now - then)

    def _best(self, made: Made, candidates: list[Bug]) -> list[Bug]:
        """Return the best candidates to add to ``made``, first the one that explains the most."""
        first = self._open(made)[:1]
        others = [bug for bug in candidates if bug not in made] if first else []
        scores = {bug: len(self._explained((*made, bug), first)) for bug in others}
        helpful = [bug for bug in others if scores[bug] > len(self._explained(made, first))]
        likely = sorted(helpful, key=lambda bug: -scores[bug])[:SHORTLIST]
        ranks = {bug: self._rank((*made, bug)) for bug in likely}
        closest: dict[int, float] = {}
        for count, off in ranks.values():
            closest[count] = min(off, closest.get(count, off))
        # If mistakes explain the same results, those that are not clearly worse keep their order.
        return sorted(
            likely,
            key=lambda bug: (-ranks[bug][0], ranks[bug][1] > CLOSER * closest[ranks[bug][0]]),
        )

    def _rank(self, made: Made) -> tuple[int, float]:
        """Return the number of results that mistakes explain, and the port's distance from them."""
        explained, off = 0, 0.0
        for case, got in self.evidence:
            now, allowed = self.numbers(made, case)
            for _, name in self._explained(made, [(case, got)]):
                explained += 1
                if got is not case.expected:  # the results of a case that passed are not kept
                    error = distance(got[name], now[name]) / allowed[name]
                    off += float(error[np.isfinite(error)].sum())
        return explained, off

    def _open(self, made: Made) -> list[Checked]:
        """Return the failed cases in which these mistakes do not explain all results."""
        return [each for each in one_of_each(self.failed) if self._unexplained(made, each)]

    def _uncontradicted(self, made: Made) -> Made:
        """Return the mistakes that no case contradicts."""
        for bug in reversed(made):
            without = tuple(other for other in made if other is not bug)
            cases = self.failed + self.passed
            if any(self._contradicts(each, bug, made, without) for each in cases):
                return self._uncontradicted(without)
        return made

    def _contradicts(self, each: Checked, bug: Bug, made: Made, without: Made) -> bool:
        """Return whether the port lacks a number that a mistake changes in a case.

        The gradients do not contradict a mistake in the forward alone: the backward may be right
        for this forward, or have other mistakes.
        """
        (now, allowed), (before, _) = self.numbers(made, each[0]), self.numbers(without, each[0])
        changed = [n for n in allowed if n in before and not same(before[n], now[n], allowed[n])]
        forward = [] if halves(bug) else [name for name in changed if not is_gradient(name)]
        return not allowed or not self._off(made, each).keys().isdisjoint(forward or changed)

    def _with_changes(self, made: Made) -> Made:
        """Add changes of lines as long as they explain more."""
        then = self._with_change(made)
        return made if then == made else self._with_changes(then) if self._open(then) else then

    def _with_change(self, made: Made) -> Made:
        """Add the change of a line that explains the rest, or note the lines that may be wrong."""
        self.lines, wrong = [], [self._wrong(each, made) for each in self._open(made)]
        if self.diagnosis.left <= 0:
            return made
        simplest = min(wrong, key=lambda each: (len(each.tensors), each.size))
        two = [simplest, *(each for each in wrong[:1] if each is not simplest)]
        every, targets = self._changes(simplest.case, made), []
        for changes in every:
            lines = self._lines(two, made, changes)
            self.lines += dict.fromkeys(changes.all[numbers[0]].old for numbers in lines[:LINES])
            self.lines = self.lines[:LINES]
            ones = map(wrong[0].only, wrong[0].sources)
            targets += [(one, changes, self._lines([one], made, changes)) for one in ones]
        found = made
        for target in sorted(targets, key=lambda target: len(target[2])):
            for bug in self._giving(*target):
                if self._uncontradicted((*made, bug)) == (*made, bug):
                    return (*made, bug)
                found = found if found != made else (*made, bug)  # until another one is found
            if found != made:
                break
        return found

    def _changes(self, case: "Case", made: Made) -> list[Changes]:
        """Return the changes of the specification, and of the ports of known mistakes."""
        specification = case.subject.specification
        kinds = specification if isinstance(specification, tuple) else (specification,)
        places: dict[Any, dict[Any, None]] = {bug.port: {} for bug in self.bugs if bug.port}
        places[None] = dict.fromkeys(kinds)
        for bug in self.bugs:
            places[bug.port].update(dict.fromkeys(bug.places))
        found = []
        for port, each in places.items():
            with suppress(ValueError):  # the source is missing
                found.append(instrumented(tuple(each), made, port))
        return found

    def _giving(self, wrong: Wrong, changes: Changes, lines: list[range]) -> Iterator[Bug]:
        """Yield the changes of lines that give the wrong results."""
        for number in (number for numbers in lines[:MOST_LINES] for number in numbers[1:]):
            if self.diagnosis.left <= 0:
                return
            if self._gives(wrong, self._changed(changes, number, wrong.case)):
                yield changes.bug(number)

    def _lines(self, wrong: list[Wrong], made: Made, changes: Changes) -> list[range]:
        """Return the changes of each line on which all wrong entries depend, the likeliest first.

        Lines with an option that only failed cases have come first; among equals, those on which
        the fewest other entries depend; among these, the later ones.
        """
        found, options = [], self._options()
        for numbers in changes.lines():
            likely = 0.0
            for each in wrong:
                if self.diagnosis.left <= 0:
                    return []
                got = self._changed(changes, numbers[0], each.case)
                share, common = each.overlap(self._wrong((each.case, got), made))
                likely += common
                if share < COVERED:
                    break
            else:
                reads = any(f"self.{name}" in changes.all[numbers[0]].old for name in options)
                found.append((not reads, -likely, numbers[0], numbers))
        return [numbers for *_, numbers in sorted(found)]

    def _changed(self, changes: Changes, number: int, case: "Case") -> dict[str, Any]:
        """Return the results of a case with a change, and count the first such run."""
        key = (case.id, changes, number)
        if key not in self.diagnosis.changed:
            self.diagnosis.left -= 1
            self.diagnosis.changed[key] = changes.results(number, case)
        return self.diagnosis.changed[key]

    def _options(self) -> list[str]:
        """Return the options whose values in failed cases occur in no passed case."""
        failed, passed = ([case.options for case, _ in each] for each in (self.failed, self.passed))
        return [
            name
            for name in failed[0]
            if passed and not {each[name] for each in failed} & {each[name] for each in passed}
        ]

    def _gives(self, wrong: Wrong, got: Mapping[str, Any]) -> bool:
        """Return whether a change gives the wrong outputs or, if there are none, the gradients."""
        names = wrong.sources
        found = {n: got[n] for n in names if comparable(got.get(n), wrong.expected[n])}
        allowed = tolerances(wrong.case, found)
        return len(found) == len(names) and all(
            same(wrong.got[n], found[n], allowed[n]) for n in names
        )

    def _wrong(self, each: Checked, made: Made | None = None) -> Wrong:
        """Return the entries of a case that these mistakes do not explain."""
        made = self.made if made is None else made
        now, _ = self.numbers(made, each[0])
        return Wrong(*each, now, self._off(made, each))

    def _off(self, made: Made, each: Checked) -> dict[str, Array]:
        """Return where the results of a port are not those of the specification with mistakes.

        A result that is close is compared again, with the measured rounding errors of the mistakes.
        """
        case, got = each
        now, allowed = self.numbers(made, case)
        there = [name for name in allowed if comparable(got.get(name), now[name])]
        off = {n: far(got[n], now[n], allowed[n]) for n in there}
        failed = got is not case.expected and RULES.isdisjoint(case.flags)
        if made and failed and any(mask.any() for mask in off.values()):
            close = [far(got[n], now[n], CLOSE * allowed[n]) & np.isfinite(now[n]) for n in there]
            if not any(map(np.any, close)):
                _, allowed = self.diagnosis.measured(made, case)
                off = {n: ~(distance(got[n], now[n]) <= allowed[n]) for n in there}
        return {name: mask for name, mask in off.items() if mask.any()}

    def _fitting(self, wrong: list[Wrong]) -> list[str]:
        """Return the gradients that are right for the forward that the port has."""
        found = [fits(each, self.made) for each in wrong[:4] if not each.forward]
        names = {name for each in found for name in each}
        return sorted(name for name in names if all(each.get(name, True) for each in found))

    def _unexplained(self, made: Made, each: Checked) -> set[str]:
        case, got = each
        there = {name for name, a in case.expected.items() if comparable(got.get(name), a)}
        now, _ = self.numbers(made, case)
        return (there - now.keys()) | self._off(made, each).keys()

    def _number(self, made: Made) -> int:
        """Return the number of results that these mistakes explain."""
        return len(self._explained(made, self.evidence))

    def _explained(self, made: Made, evidence: Iterable[Checked]) -> set[tuple[str, str]]:
        """Return case and name of each result that the specification with these mistakes gives."""
        found = set()
        for case, got in evidence:
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


def tolerances(case: "Case", results: Mapping[str, Array]) -> dict[str, Array]:
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


def diagnose(failed: Sequence[Checked], passed: Sequence["Case"] = ()) -> list[str]:
    """Return the diagnosis of failed cases and their results, as lines of text."""
    searches = Diagnosis().by_subject(failed, passed)
    found = {search.subject: search.sentences() for search in searches}
    names = dict.fromkeys(case.subject.name for case, _ in failed)
    return [line for name in names for line in found[name]]
