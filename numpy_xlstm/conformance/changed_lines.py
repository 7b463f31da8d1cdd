"""Search for a changed line of the specification that gives the numbers of a port."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import zip_longest
from typing import Any

from numpy_xlstm.conformance.bugs import BUGS, Bug
from numpy_xlstm.conformance.bugs.changes import Changes, instrumented
from numpy_xlstm.conformance.case_data import CaseData
from numpy_xlstm.conformance.contrast import Wrong, comparable, traits
from numpy_xlstm.conformance.evidence import Evidence, Made, same, tolerances

COVERED = 0.9
"""Least share of the wrong entries that must depend on a line for a change of it to be tried."""
MOST_LINES = 12
"""Largest number of lines whose changes are tried."""
LINES = 3
"""Largest number of lines that are shown as possible places of a mistake."""


class ChangedLines:
    """Search for changes of lines in one subject; ``lines`` may be wrong, by the last search."""

    def __init__(self, port: Evidence) -> None:
        self.port, self.runs = port, port.runs
        self.lines: list[str] = []

    def with_changes(self, made: Made) -> Made:
        """Add changes of lines as long as they explain more."""
        then = self.with_change(made)
        return self.with_changes(then) if then != made and self.port.open(then) else then

    def with_change(self, made: Made) -> Made:
        """Add the change of a line that explains the rest, or note the lines that may be wrong.

        If a case contradicts each change that gives the wrong numbers of one result, the first of
        them is added, because a second mistake may be the reason.
        """
        self.lines, wrong = [], [self.port.wrong(each, made) for each in self.port.open(made)]
        if self.runs.left <= 0:
            return made
        simplest = min(wrong, key=lambda case: case.simplicity)
        two = [simplest, *(each for each in wrong[:1] if each is not simplest)]
        every, targets = self._changes(simplest.case, made), []
        for changes in every:
            lines = self._lines(two, made, changes)
            old = (changes.all[numbers[0]].old for numbers in lines)
            leads = [line for line in dict.fromkeys(old) if not line.startswith("return ")]
            self.lines = [*self.lines, *leads][:LINES]
            for one in map(wrong[0].only, wrong[0].sources):
                own = self._lines([one], made, changes)
                whole = [numbers for numbers in lines if numbers in own]
                # The mistake may be one of several, or the only one.
                pairs = zip_longest(own, whole)
                both = dict.fromkeys(numbers for pair in pairs for numbers in pair if numbers)
                targets.append((one, changes, [*both]))
        contradicted: Made = ()
        for target in sorted(targets, key=lambda target: len(target[2])):
            for bug in self._giving(*target):
                if not self.port.contradicted(bug, (*made, bug)):
                    return (*made, bug)
                contradicted = contradicted or (*made, bug)
            if contradicted:
                return contradicted
        return made

    def _changes(self, case: CaseData, made: Made) -> list[Changes]:
        """Return the changes of the specification, and of the ports of known mistakes."""
        specification = case.subject.specification
        kinds = specification if isinstance(specification, tuple) else (specification,)
        places: dict[Any, dict[Any, None]] = {None: dict.fromkeys(kinds)}
        for bug in BUGS:
            if bug.concerns(case.subject.name):
                places.setdefault(bug.port, {}).update(dict.fromkeys(bug.places))
        changes = []
        for port, own in reversed(places.items()):
            with suppress(ValueError):  # the source is missing
                changes.append(instrumented(tuple(own), made, port))
        return changes

    def _giving(self, wrong: Wrong, changes: Changes, lines: list[range]) -> Iterator[Bug]:
        """Yield the changes of lines that give the wrong results."""
        old = {numbers: changes.all[numbers[0]].old for numbers in lines}
        tried = [*dict.fromkeys(old.values())][:MOST_LINES]
        for number in (n for numbers in lines if old[numbers] in tried for n in numbers[1:]):
            if self.runs.left <= 0:
                return
            if self._gives(wrong, self.runs.with_change(changes, number, wrong.searched)):
                yield changes.bug(number)

    def _lines(self, wrong: list[Wrong], made: Made, changes: Changes) -> list[range]:
        """Return the changes of each line on which most wrong entries depend, the likeliest first.

        Lines with what only failed cases have come first, an option or padding; then those of a
        backward if only gradients are wrong; among equals, those on which the fewest other entries
        depend; among these, the later ones.
        """
        lines, only = [], self._only_failed()
        options = [trait.partition(" = ")[0] for trait in only if " = " in trait]
        for numbers in changes.lines():
            if wrong[0].forward and changes.all[numbers[0]].function.endswith("backward"):
                continue  # no line of a backward changes a result of the forward
            likely = 0.0
            for case in wrong:
                if self.runs.left <= 0:
                    return []
                got = self.runs.with_change(changes, numbers[0], case.searched)
                affected = self.port.compare(made, (case.case, got))
                share, common = case.overlap(affected)
                likely += common
                if share < COVERED:
                    break
            else:
                change = changes.all[numbers[0]]
                reads = any(f"self.{name}" in change.old for name in options)
                padding = "the flag padding" in only and change.function.startswith("unroll")
                far = not (wrong[0].forward or change.function.endswith("backward"))
                lines.append((not (reads or padding), far, -likely, numbers[0], numbers))
        return [numbers for *_, numbers in sorted(lines)]

    def _only_failed(self) -> set[str]:
        """Return the traits of all failed cases that no passed case has."""
        if not self.port.passed:
            return set()
        failed, passed = (
            [{*traits(case)} for case, _ in cases] for cases in (self.port.failed, self.port.passed)
        )
        return set.intersection(*failed).difference(*passed)

    def _gives(self, wrong: Wrong, got: Mapping[str, Any]) -> bool:
        """Return whether a change gives the wrong outputs or, if there are none, the gradients."""
        names = wrong.sources
        given = {n: got[n] for n in names if comparable(got.get(n), wrong.expected[n])}
        allowed = tolerances(wrong.case, given)
        return len(given) == len(names) and all(
            same(wrong.got[n], given[n], allowed[n]) for n in names
        )
