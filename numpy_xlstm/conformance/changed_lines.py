"""Search for a changed line of the specification that gives the numbers of a port."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from numpy_xlstm.conformance.bugs import BUGS, Bug
from numpy_xlstm.conformance.bugs.bug import MATRIX
from numpy_xlstm.conformance.bugs.changes import Changes, instrumented
from numpy_xlstm.conformance.case_data import CaseData
from numpy_xlstm.conformance.contrast import Wrong, traits
from numpy_xlstm.conformance.evidence import Evidence, Made, Runs, differing, moved

COVERED = 0.9
"""Least share of the wrong entries that must depend on a line for a change of it to be tried."""
MOST_LINES = 12
"""Largest number of lines whose changes are tried."""
LINES = 3
"""Largest number of lines that are shown as possible places of a mistake."""


def with_changes(port: Evidence, made: Made) -> tuple[Made, list[list[str]]]:
    """Add changes of lines as long as they explain more; also return lines that may be wrong.

    There are such lines for the mistakes given, and for those after each addition.
    """
    then, lines = with_change(port, made)
    if then == made or not port.open(then):
        return then, [lines]
    after, later = with_changes(port, then)
    return after, [lines, *later]


def with_change(port: Evidence, made: Made) -> tuple[Made, list[str]]:
    """Add the change of a line that explains the rest; also return lines that may be wrong.

    If a case contradicts each change that gives the wrong numbers of one result, the first of them
    is added, because a second mistake may be the reason.
    """
    leads: list[str] = []
    if port.runs.left <= 0:
        return made, leads
    wrong = [port.wrong(each, made) for each in port.open(made)]
    simplest, targets = min(wrong, key=lambda case: case.simplicity), []
    two = [simplest, *(each for each in wrong[:1] if each is not simplest)]
    for changes in _changes(simplest.case, made):
        lines = _lines(port, two, made, changes)
        old = dict.fromkeys(changes.all[numbers[0]].old for numbers in lines)
        leads += [line for line in old if not line.startswith("return ")]
        for name in wrong[0].sources:
            one = replace(wrong[0], tensors={name: wrong[0].tensors[name]})
            own = _lines(port, [one], made, changes)
            whole = [numbers for numbers in lines if numbers in own]
            both = dict.fromkeys([*own[: MOST_LINES // 2], *whole, *own])
            targets.append((one, changes, [*both]))
    contradicted: Made = ()
    for target in sorted(targets, key=lambda target: len(target[2])):
        for bug in _giving(port.runs, *target):
            if not port.contradicted(bug, (*made, bug)):
                return (*made, bug), leads[:LINES]
            contradicted = contradicted or (*made, bug)
        if contradicted:
            return contradicted, leads[:LINES]
    return made, leads[:LINES]


def _changes(case: CaseData, made: Made) -> list[Changes]:
    """Return the changes of the kernel of an mLSTM, if any, and of the specification."""
    specification = case.subject.specification
    kinds = specification if isinstance(specification, tuple) else (specification,)
    known = [p for bug in BUGS if bug.concerns(case.subject.name) for p in bug.places]
    places, changes = dict.fromkeys([*kinds, *known]), []
    for kernel in (True, False):
        own = tuple(p for p in places if p.__module__.startswith(MATRIX) == kernel)
        with suppress(ValueError):  # the source is missing
            changes += [instrumented(own, made)] if own else []
    return changes


def _giving(runs: Runs, wrong: Wrong, changes: Changes, lines: list[range]) -> Iterator[Bug]:
    """Yield the changes that give the wrong outputs or, if there are none, the wrong gradients."""
    old = {numbers: changes.all[numbers[0]].old for numbers in lines}
    tried = [*dict.fromkeys(old.values())][:MOST_LINES]
    names = wrong.sources
    for number in (n for numbers in lines if old[numbers] in tried for n in numbers[1:]):
        if runs.left <= 0:
            return
        results = runs.with_change(changes, number, wrong.searched)
        numbers = moved(wrong.case, {name: results[name] for name in names if name in results})
        before, got = (
            {name: arrays[name] for name in names if name in arrays}
            for arrays in (wrong.expected, wrong.got)
        )
        if differing(before, numbers) and not differing(got, numbers):
            yield changes.bug(number)


def _lines(port: Evidence, wrong: list[Wrong], made: Made, changes: Changes) -> list[range]:
    """Return the changes of each line on which most wrong entries depend, the likeliest first.

    Lines with what only failed cases have come first, an option or padding; then those of a
    backward if only gradients are wrong; among equals, those on which the fewest other entries
    depend; among these, the later ones.
    """
    lines, only = [], _only_failed(port)
    options = [trait.partition(" = ")[0] for trait in only if " = " in trait]
    for numbers in changes.lines:
        change, likely = changes.all[numbers[0]], 0.0
        if wrong[0].forward and change.function.endswith("backward"):
            continue  # no line of a backward changes a result of the forward
        for case in wrong:
            if port.runs.left <= 0:
                return []
            results = port.runs.with_change(changes, numbers[0], case.searched)
            affected = differing(results, port.numbers(made, case.case))
            share, common = case.overlap(affected)
            likely += common
            if share < COVERED:
                break
        else:
            reads = any(f"self.{name}" in change.old for name in options)
            padding = "the flag padding" in only and change.function.startswith("unroll")
            far = not (wrong[0].forward or change.function.endswith("backward"))
            lines.append((not (reads or padding), far, -likely, numbers[0], numbers))
    return [numbers for *_, numbers in sorted(lines)]


def _only_failed(port: Evidence) -> set[str]:
    """Return the traits of all failed cases that no passed case has."""
    if not port.passed:
        return set()
    failed, passed = ([{*traits(c)} for c, _ in cases] for cases in (port.failed, port.passed))
    return set.intersection(*failed).difference(*passed)
