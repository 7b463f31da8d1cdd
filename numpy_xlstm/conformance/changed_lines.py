"""Search for changed lines of the specification that give the numbers of a port."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain

import numpy as np

from numpy_xlstm.conformance.bugs import BUGS, Bug
from numpy_xlstm.conformance.bugs.bug import MATRIX
from numpy_xlstm.conformance.bugs.changes import Changes, instrumented
from numpy_xlstm.conformance.case_data import CaseData
from numpy_xlstm.conformance.contrast import Difference
from numpy_xlstm.conformance.evidence import Evidence, Made, differing, moved


def with_changes(port: Evidence, made: Made) -> Made:
    """Add changes of lines as long as they explain more.

    If a case contradicts each change that gives the wrong numbers of one result, the first of them
    is added, because a second mistake may be the reason.
    """
    while port.open(made) and (first := next(giving := _giving(port, made), None)):
        every = chain([first], giving)
        right = (bug for bug in every if not port.contradicted(bug, (*made, bug)))
        made = (*made, next(right, first))
    return made


def _giving(port: Evidence, made: Made) -> Iterator[Bug]:
    """Yield the changes that give one wrong output or, if there are none, one wrong gradient.

    The case is the simplest one. The result that the fewest lines can change comes first, so that a
    second mistake elsewhere does not hide the first.
    """
    wrong = min(port.open(made), key=lambda difference: difference.simplicity)
    targets = []
    for changes in _changes(wrong.case, made):
        reach = {lines: _reach(port, wrong, changes, lines) for lines in changes.lines}
        for name in wrong.sources:
            own = [lines for lines, names in reach.items() if name in names]
            targets.append((name, changes, sorted(own, key=lambda lines: len(reach[lines]))))
    for name, changes, lines in sorted(targets, key=lambda target: len(target[2])):
        before = {name: wrong.expected[name]} if name in wrong.expected else {}
        for number in (n for numbers in lines for n in numbers[1:]):
            if port.runs.left <= 0:
                return
            results = port.runs.with_change(changes, number, wrong.searched)
            numbers = moved(wrong.case, {n: a for n, a in results.items() if n == name})
            if differing(before, numbers) and not differing({name: wrong.got[name]}, numbers):
                yield changes.bug(number)


def _reach(port: Evidence, wrong: Difference, changes: Changes, lines: range) -> set[str]:
    """Return the results all of whose wrong entries depend on a line."""
    backward = changes.all[lines[0]].function.endswith("backward")
    if port.runs.left <= 0 or (wrong.forward and backward):
        return set()  # no line of a backward changes a result of the forward
    results = port.runs.with_change(changes, lines[0], wrong.searched)
    affected = differing(results, (wrong.expected, wrong.case.bounds))
    wrong_alone = {n: mask & ~affected.get(n, np.False_) for n, mask in wrong.unexplained.items()}
    return {name for name, mask in wrong_alone.items() if not mask.any()}


def _changes(case: CaseData, made: Made) -> list[Changes]:
    """Return the changes of the kernel of an mLSTM, if any, and of the specification."""
    specification = case.subject.specification
    kinds = specification if isinstance(specification, tuple) else (specification,)
    known = [p for bug in BUGS if bug.concerns(case.subject.name) for p in bug.code]
    code, changes = dict.fromkeys([*kinds, *known]), []
    for kernel in (True, False):
        own = tuple(p for p in code if p.__module__.startswith(MATRIX) == kernel)
        with suppress(ValueError):  # the source is missing
            changes += [instrumented(own, made)] if own else []
    return changes
