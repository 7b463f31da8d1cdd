"""Diagnosis of wrong ports: the mistakes that reproduce their numbers, or else where to look.

The specification is run with each known mistake on a case that failed, and, if none of them gives
the numbers of the port, with each small change of one of its lines. The mistake that reproduces the
most tensors is kept in place, and the search is repeated, because a port may have several. A
mistake is named only if no case contradicts it: wherever it changes a result, the port has the
changed number. What remains is described by :mod:`numpy_xlstm.conformance.contrast`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from numpy_xlstm.conformance.bugs import BUGS, Bug
from numpy_xlstm.conformance.bugs.bug import edits, halves
from numpy_xlstm.conformance.case_data import CaseData
from numpy_xlstm.conformance.changed_lines import ChangedLines
from numpy_xlstm.conformance.compare import listed
from numpy_xlstm.conformance.contrast import (
    MOST_NAMES,
    SEVEN_DIGITS,
    Wrong,
    clues,
    fits,
    seven_digits,
)
from numpy_xlstm.conformance.evidence import RUNS, Checked, Evidence, Made, Runs, blank

SHORTLIST = 8
"""Number of mistakes that are tried on a case for each combination of flags: those that best
explain the first case."""
STARTS = 3
"""Number of mistakes with each of which a search is started."""
MOST = 6
"""Largest number of mistakes found in one subject."""
CLOSER = 1.25
"""Smallest ratio of the errors of two mistakes at which the closer one is preferred."""
NOT_SEARCHED = (
    "not searched for known mistakes, because this report has reached its limit; correct other "
    "subjects first, and run again"
)


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
    """The diagnosis of a report.

    Attributes
    ----------
    runs : Runs
        Runs of the specification with mistakes.
    found : list[Bug]
        Mistakes found in previous subjects of this report, which are tried first in the next.
    """

    runs: Runs = field(default_factory=Runs)
    found: list[Bug] = field(default_factory=list)

    def findings(self, failed: Iterable[Checked], passed: Iterable[CaseData] = ()) -> list[Finding]:
        """Return the mistakes of a port in each subject, from its results in failed cases."""
        every = self.by_subject(failed, passed)
        return [finding for search in every for finding in search.findings()]

    def by_subject(
        self, failed: Iterable[Checked], passed: Iterable[CaseData] = ()
    ) -> list["Search"]:
        """Return the outcome of the search in each subject that failed."""
        self.runs.left, self.runs.left_known, self.found = RUNS, RUNS, []
        right = [(case, case.expected) for case in passed]
        by_name = sorted(failed, key=lambda each: (each[0].subject.steps, each[0].subject.name))
        return [
            Search(
                self, name, list(group), [each for each in right if each[0].subject.name == name]
            )
            for name, group in groupby(by_name, key=lambda each: each[0].subject.name)
        ]


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
        self.port, self.subject = Evidence(diagnosis.runs, failed, passed), subject
        self.likely: Made = ()
        found = [bug for bug in diagnosis.found if bug.concerns(subject) or not bug.subjects]
        self.bugs = [*found, *(bug for bug in BUGS if bug.concerns(subject) and bug not in found)]
        self.changed = ChangedLines(self.port, self.bugs)
        wrong = [self.port.wrong(each, ()) for each in self.port.failed]
        self.narrow = bool(wrong) and seven_digits(wrong, [case for case, _ in passed])
        nothing = len(self.port.failed) > len(passed) and all(
            blank(a) for _, got in self.port.failed for a in got.values()
        )
        self.made: Made = () if nothing or self.narrow else self._as_before(found)
        self.searched = diagnosis.runs.left_known > 0
        if not nothing and not self.narrow and not self.made and self.searched:
            self.made = self._searched()
        diagnosis.found += [bug for bug in self.made if bug not in found]

    def findings(self) -> list[Finding]:
        """Return each mistake with the results that it explains."""
        found = []
        for n, bug in enumerate(self.made):
            failed = self.port.failed
            after, before = (self.port.explained(self.made[:k], failed) for k in (n + 1, n))
            gained = {name for _, name in after - before}
            names = [name for name in failed[0][0].expected if name in gained]
            found.append(Finding(self.subject, bug, tuple(names)))
        return found

    def sentences(self) -> list[str]:
        """Return the diagnosis as lines of text."""
        if self.narrow:
            return [f"{self.subject}: {SEVEN_DIGITS}"]
        found = [str(finding) for finding in self.findings()]
        each_wrong = (self.port.wrong(each, self.made) for each in self.port.failed)
        wrong = [each for each in each_wrong if each.tensors]
        if self.made and (fitting := self._fitting(wrong)):
            are = "are the correct gradients" if fitting[1:] else "is the correct gradient"
            names = listed(fitting, MOST_NAMES)
            found.append(f"{self.subject}: {names} {are} of this wrong forward")
            wrong = [each for each in (w.without(fitting) for w in wrong) if each.tensors]
        if not wrong:
            return found
        said = "no known mistake gives these numbers" if self.searched else NOT_SEARCHED
        if self.made:
            done, of = len(self.port.failed) - len(wrong), len(self.port.failed)
            tensors = list(dict.fromkeys(name for each in wrong for name in each.tensors))
            cases = listed([each.situation for each in wrong], MOST_NAMES)
            said = f"this explains {done} of {of} failed cases; {listed(tensors, MOST_NAMES)} "
            said += f"{'are' if tensors[1:] else 'is'} not explained in {cases}"
        open_ = {each.case.id for each in wrong}
        others = [
            case for case, _ in [*self.port.failed, *self.port.passed] if case.id not in open_
        ]
        more = clues(wrong, others)
        if self.changed.lines:
            more += [
                "the wrong numbers depend on each of these lines; a mistake may be in one of them",
                *("    " + n for n in self.changed.lines),
            ]
        return [*found, "\n    ".join([f"{self.subject}: {said}", *more])]

    def _as_before(self, found: list[Bug]) -> Made:
        """Return the mistakes of previous subjects if they explain all results, and else none."""
        made: Made = ()
        for bug in found:
            made = (*made, bug) if self._better((*made, bug), made) else made
        right = made == self.port.uncontradicted(made) and not self.port.open(made)
        return made if right else ()

    def _searched(self) -> Made:
        port, changed = self.port, self.changed
        made = self._of_these((), self.bugs)
        if port.open(made):
            made = self._of_these(made, [*self.bugs, *self._halves()])
        for start in dict.fromkeys((made, self.likely)):
            if port.open(made) and port.open(start):
                lines, then = changed.lines, changed.with_changes(start)
                if then == port.uncontradicted(then) and port.number(then) > port.number(made):
                    made = then
                elif start != made:
                    changed.lines = lines
        gave = [
            each[1][name]
            for each in port.failed
            for _, name in port.explained(made, [each]) - port.explained((), [each])
        ]
        # Many mistakes give zeros or NaN; if they explain nothing else, there is another reason.
        return () if port.open(made) and all(map(blank, gave)) else made

    def _of_these(self, made: Made, candidates: list[Bug]) -> Made:
        """Return the mistakes that explain the most and that no case contradicts."""
        for bug in self._best((), candidates)[:STARTS]:
            grown = self._grown((bug,), candidates)
            self.likely = self.likely or grown
            then = self.port.uncontradicted(grown)
            if self.port.number(then) > self.port.number(made):
                made = then
            if not self.port.open(made):
                break
        return made

    def _halves(self) -> list[Bug]:
        """Return forward parts of known mistakes or, if the forward is right, backward parts."""
        part = "forward" if self.port.wrong(self.port.failed[0], ()).forward else "backward"
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
        """Return whether the last mistake explains more than twice as many results as it spoils."""
        then, now = (self.port.explained(each) for each in (after, before))
        return after != before and len(then - now) > 2 * len(now - then)

    def _best(self, made: Made, candidates: list[Bug]) -> list[Bug]:
        """Return the best candidates to add to ``made``, first the one that explains the most."""
        first = self.port.open(made)[:1]
        others = [bug for bug in candidates if bug not in made] if first else []
        scores = {bug: self.port.rank((*made, bug), first) for bug in others}
        before = len(self.port.explained(made, first))
        helpful = [bug for bug in others if scores[bug][0] > before]
        best = sorted(helpful, key=lambda bug: (-scores[bug][0], scores[bug][1]))[:SHORTLIST]
        likely = [bug for bug in helpful if bug in best]
        ranks = {bug: self.port.rank((*made, bug), self.port.one_of_each) for bug in likely}
        closest: dict[int, float] = {}
        for count, off in ranks.values():
            closest[count] = min(off, closest.get(count, off))
        # If mistakes explain the same results, those that are not clearly worse keep their order.
        return sorted(
            likely,
            key=lambda bug: (-ranks[bug][0], ranks[bug][1] > CLOSER * closest[ranks[bug][0]]),
        )

    def _fitting(self, wrong: list[Wrong]) -> list[str]:
        """Return the gradients that are right for the forward that the port has."""
        found = [fits(each, self.made) for each in wrong[:4] if not each.forward]
        names = {name for each in found for name in each}
        return sorted(name for name in names if all(each.get(name, True) for each in found))


def diagnose(failed: Sequence[Checked], passed: Sequence[CaseData] = ()) -> list[str]:
    """Return the diagnosis of failed cases and their results, as lines of text."""
    searches = Diagnosis().by_subject(failed, passed)
    found = {search.subject: search.sentences() for search in searches}
    names = dict.fromkeys(case.subject.name for case, _ in failed)
    return [line for name in names for line in found[name]]
