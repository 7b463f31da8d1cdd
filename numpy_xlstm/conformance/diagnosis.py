"""Diagnosis of wrong ports: the mistakes that reproduce their numbers, or else where to look.

The specification is run with each known mistake on a case that failed: first the mistakes at the
interface, such as another order of the gates, then changes of its lines. If none of them gives the
numbers of the port, each small change of a line is tried. The mistake that explains the most
results is kept in place, and the search is repeated, because a port may have several. A mistake is
named only if no case contradicts it: wherever it changes a result, the port has the changed number.
Edge cases are searched last, with the mistakes of the ordinary cases in place. What remains is
described by :mod:`numpy_xlstm.conformance.contrast`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, groupby

import numpy as np

from numpy_xlstm.conformance.bounds import is_gradient
from numpy_xlstm.conformance.bugs import BUGS, Bug, in_one_chunk, known
from numpy_xlstm.conformance.bugs.bug import MATRIX, edits
from numpy_xlstm.conformance.bugs.changes import Changes, instrumented
from numpy_xlstm.conformance.bugs.fitted import fitted
from numpy_xlstm.conformance.case_data import CaseData
from numpy_xlstm.conformance.compare import listed
from numpy_xlstm.conformance.contrast import Difference, clues, fewer_digits, summed
from numpy_xlstm.conformance.evidence import (
    RUNS,
    Checked,
    Evidence,
    Made,
    Runs,
    blank,
    comparable,
    differing,
    with_tolerances,
)
from numpy_xlstm.conformance.flags import EDGES
from numpy_xlstm.numerics import Array

SHORTLIST = 8
"""Number of mistakes that are tried on a case for each combination of flags: those that best
explain the first case."""
STARTS = 3
"""Number of mistakes with each of which a search is started."""
MOST = 6
"""Largest number of mistakes found in one subject."""
FAR = 1e7
"""A port with a mistake is nearer to its numbers, in units of ε times the largest of them."""
MOST_LINES = 8
"""Largest number of lines that are shown as possible places of a mistake."""
NOT_SEARCHED = (
    "not searched for known mistakes, because this report has reached its limit; correct other "
    "subjects first, and run again"
)


def searches(
    failed: Iterable[Checked], passed: Iterable[CaseData] = (), runs: Runs | None = None
) -> list["Search"]:
    """Search for the mistakes of a port in each subject that failed, single steps before sequences.

    ``runs`` may be those of another report, so that a known mistake is not run again.
    """
    runs = Runs() if runs is None else runs
    runs.left, runs.later, runs.left_known = 0, 5 * RUNS, 2 * RUNS
    right: list[Checked] = [(case, case.expected) for case in passed]
    by_name = sorted(failed, key=lambda pair: (pair[0].subject.steps, pair[0].subject.name))
    done: list[Search] = []
    subjects = len({case.subject.name for case, _ in by_name})
    for name, group in groupby(by_name, key=lambda pair: pair[0].subject.name):
        own = [pair for pair in right if pair[0].subject.name == name]
        before = {bug.name: bug for search in done for bug in search.made}
        runs.share(subjects - len(done))
        done.append(Search(runs, list(group), own, before))
    return done


class Search:
    """The search for the mistakes of a port in one subject, after those in other subjects.

    ``made`` has the mistakes; those that only edge cases show come last.
    """

    def __init__(
        self, runs: Runs, failed: list[Checked], passed: list[Checked], before: Mapping[str, Bug]
    ) -> None:
        self.subject, self.port = failed[0][0].subject.name, Evidence(runs, failed, passed)
        usual = [pair for pair in self.port.failed if not is_edge(pair[0])]
        self.ordinary = Evidence(runs, usual, [pair for pair in passed if not is_edge(pair[0])])
        self.edges = [pair for pair in self.port.failed if is_edge(pair[0])]
        self.compared = all(
            comparable(case, got).keys() == case.expected.keys()
            for case, got in failed
            if not is_edge(case)
        )
        self.made: Made = ()
        every = [self.port.difference((), checked) for checked in self.port.failed]
        wrong = [each for each in every if each.unexplained]
        cause = fewer_digits(wrong, [case for case, _ in passed])
        self.cause = cause or summed(wrong, self.port.failed + passed)
        nothing = len(self.port.failed) > len(passed) and all(
            blank(array) for _, got in self.port.failed for array in got.values()
        )
        self.searched = runs.left_known > 0
        if nothing or not wrong or (self.cause and not cause):
            return
        # first the changes of lines that are mistakes in other subjects
        case = max((case for case, _ in self.port.failed), key=lambda case: len(case.inputs))
        self.bugs = [bug for bug in before.values() if not bug.subjects and not bug.around]
        self.bugs += [*known(case), *fitted(case, self.port.few_failed)]
        if cause:  # unless a known mistake has so small an effect
            self.made = self._of_these(self.port, (), self.bugs)
            self.cause, self.made = (cause, ()) if self.port.open(self.made) else ("", self.made)
            return
        again = [bug for bug in self.bugs if bug.name in before]
        made = self._of_these(self.port, (), again)
        self.made = () if self.port.open(made) else made
        if self.searched and not self.made:
            self.made = self._searched(self.ordinary, ())
            if not self.ordinary.open(self.made):
                # the ordinary cases may contradict a mistake in the edge cases
                self.made = self._searched(Evidence(runs, self.edges, passed + usual), self.made)

    def _searched(self, port: Evidence, kept: Made) -> Made:
        """Return mistakes that explain the results in some cases, in addition to those in kept."""
        made = self._of_these(port, kept, self.bugs)
        for start in dict.fromkeys((kept, made)):  # one changed line, or lines besides mistakes
            if not port.open(made) and len(made) < len(kept) + 2:
                break
            then = with_changes(port, start)
            if then == port.uncontradicted(then, kept):
                then = self._of_these(port, then, self.bugs) if port.open(then) else then
                made = min(made, then, key=lambda made: (port.score(made), len(made)))
        pairs = [(port.difference((), c), port.difference(made, c)) for c in port.failed]
        explained = [
            a.got[n] for a, b in pairs for n in a.unexplained.keys() - b.unexplained.keys()
        ]
        # Many mistakes give zeros or NaN; if they explain nothing else, there is another reason.
        return kept if port.open(made) and all(map(blank, explained)) else made

    def _of_these(self, port: Evidence, kept: Made, bugs: list[Bug]) -> Made:
        """Return the mistakes of a list that explain the most and that no case contradicts."""
        made = kept
        for bug in self._best(port, kept, bugs)[:STARTS]:
            grown = (*kept, bug)
            while len(grown) < MOST and port.runs.left_known > 0:
                best = self._best(port, grown, bugs)
                if not best:
                    break
                grown = (*grown, best[0])
            right = port.uncontradicted(port.needed(grown, kept), kept)
            if (port.score(right), len(right)) < (port.score(made), len(made)):
                made = right
            if not port.open(made):
                break
        return made

    def _best(self, port: Evidence, made: Made, bugs: list[Bug]) -> list[Bug]:
        """Return the mistakes that explain more, first the one that explains the most.

        Those that no case contradicts come before all others.
        """
        helpful = [bug for bug in bugs if bug not in made]
        first = min(port.open(made), key=lambda each: each.cost, default=None)
        if first is not None:
            for case in (first.case.forward, first.case):  # the forward first, to save time
                helpful = _ranked(port, made, helpful, (case, first.got))
        scores = {bug: port.score((*made, bug)) for bug in helpful[:SHORTLIST]}
        better = [bug for bug, score in scores.items() if score < port.score(made)]

        def order(bug: Bug) -> tuple[bool, int, int]:
            grown = (*made, bug)
            # the edge cases tell some mistakes apart
            return port.contradicted(bug, grown, port.few), scores[bug], self.port.score(grown)

        return sorted(better, key=order)

    def findings(self) -> Iterator[str]:
        """Describe each mistake and the results that it explains."""
        difference = self.port.difference
        open_ = {n for c in self.port.failed for n in difference(self.made, c).unexplained}
        wrong = {n for c in self.port.failed for n in difference((), c).names}
        for n, bug in enumerate(self.made):
            before, after = self.made[:n], self.made[: n + 1]
            names = {
                name
                for checked in self.port.failed
                for name in self.port.changed(after, before, checked[0])
                & (difference(before, checked).names - difference(after, checked).names)
            }
            ordered = [name for name in self.port.failed[0][0].expected if name in names & wrong]
            closed = [name for name in ordered if name not in open_]
            # a change may undo what another one does to results that the port has right
            tensors = closed or ordered or ["all others"]
            are = "is that" if len(closed or ordered) == 1 else "are those"
            does = "do this" if bug.seen_in[1:] else "does this"
            seen = f"; {', '.join(bug.seen_in)} {does}" if bug.seen_in else ""
            head = f"{self.subject}: {', '.join(tensors)} {are} of {bug.description}"
            lines = [f"{head} ({bug.name}){seen}"]
            for *_, old, new in edits(bug, {}):
                lines += [f"- {line}" for line in old] + [f"+ {line}" for line in new]
            yield "\n    ".join(lines)

    def sentences(self) -> list[str]:
        """Return the diagnosis as lines of text."""
        if self.cause:
            return [f"{self.subject}: {self.cause}"]
        sentences = [*self.findings()]
        wrong = [self.port.difference(self.made, checked) for checked in self.port.failed]
        fitting = set[str]().union(*(each.right_for_the_wrong_forward for each in wrong))
        if right := sorted(fitting.difference(*(each.unexplained for each in wrong))):
            are = "are the correct gradients" if right[1:] else "is the correct gradient"
            names = listed(right)
            sentences.append(f"{self.subject}: {names} {are} of this wrong forward")
        open_ = [each for each in wrong if each.unexplained]
        main = self.ordinary.needed(self.made)
        unusual = [c[0] for c in self.edges if self.port.difference(main, c).unexplained]
        unusual += [case for case in self.port.without if is_edge(case)]
        if unusual and self.compared and all(is_edge(each.case) for each in open_):
            sentences.append(self._edge(unusual))
        if open_:
            sentences.append(self._unexplained(open_))
        return sentences

    def _edge(self, cases: list[CaseData]) -> str:
        """Return what edge cases are, when they matter, and how they are excused."""
        flags = [flag for flag in EDGES if any(flag in case.flags for case in cases)]
        when = "; ".join(f"{flag}: {EDGES[flag]}" for flag in flags)
        excuse = " ".join(f"--expect-fail {flag}" for flag in flags)
        are = "are edge cases" if cases[1:] else "is an edge case"
        return (
            f"{self.subject}: {len(cases)} of {self.port.count} failed cases {are}; such a "
            f"case matters only where it occurs ({when}); {excuse} excuses it"
        )

    def _unexplained(self, wrong: list[Difference]) -> str:
        """Describe results that no mistake explains."""
        head = "no known mistake gives these numbers" if self.searched else NOT_SEARCHED
        if self.made:
            done, count = len(self.port.failed) - len(wrong), self.port.count
            tensors = list(dict.fromkeys(name for each in wrong for name in each.unexplained))
            cases = listed([case.situation for case in wrong])
            head = f"this explains {done} of {count} failed cases; {listed(tensors)} "
            head += f"{'are' if tensors[1:] else 'is'} not explained in {cases}"
        ids = {case.case.id for case in wrong}
        others = [case for case, _ in self.port.failed + self.port.passed if case.id not in ids]
        right = all(
            "dy" in case.inputs
            and case.forward.expected.keys() <= got.keys()
            and all(map(is_gradient, self.port.difference((), (case, got)).names))
            for case, got in self.port.failed
        )
        without, rest = self.port.without, bool(self.made)
        lines = dict.fromkeys(() if rest or not self.searched else alone(self.port))
        more = clues(wrong, without, others, right_forward=right, rest=rest)
        if 0 < len(lines) <= MOST_LINES:
            listing = "".join(f"\n        {line}" for line in lines)
            where = _simplest(self.port, ()).situation
            said = "each of these lines changes all of these results, and no right one"
            more.insert(1, f"in {where} {said}:{listing}")
        return "\n    ".join([f"{self.subject}: {head}", *more])


def _ranked(port: Evidence, made: Made, bugs: list[Bug], checked: Checked) -> list[Bug]:
    """Return the mistakes that explain results of a case, first the one that explains the most.

    All are returned if nothing is left to explain.
    """
    wrong = port.difference(made, checked).unexplained
    if not wrong:
        return bugs
    left = {bug: len(port.difference((*made, bug), checked).unexplained) for bug in bugs}
    return [
        bug
        for bug in sorted(bugs, key=left.__getitem__)
        if left[bug] < len(wrong)
        and not port.changed((*made, bug), made, checked[0]).isdisjoint(wrong)
    ]


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

    The case is the one that takes least time. The result that the fewest lines can change comes
    first, so that a second mistake elsewhere does not hide the first.
    """
    wrong = min(port.open(made), key=lambda each: each.cost)
    # the wrong outputs or, if the forward is right, the wrong gradients
    names = [name for name in wrong.unexplained if wrong.forward != is_gradient(name)]
    targets = []
    for changes in _changes(wrong.case, made):
        reach = {
            lines: _reach(wrong, _affected(port, wrong, changes, lines)) for lines in changes.lines
        }
        for name in names:
            own = [lines for lines, names in reach.items() if name in names]
            targets.append((name, changes, sorted(own, key=lambda lines: len(reach[lines]))))
    for name, changes, lines in sorted(targets, key=lambda target: len(target[2])):
        before = {name: wrong.expected[name]} if name in wrong.expected else {}
        for number in (n for numbers in lines for n in numbers[1:]):
            if port.runs.left <= 0:
                return
            results = port.runs.with_change(changes, number, wrong.searched)
            if name not in results or _far(wrong, name, results[name]):
                continue
            numbers = with_tolerances(wrong.case, {name: results[name]})
            if differing(before, numbers) and not differing({name: wrong.got[name]}, numbers):
                yield changes.bug(number)


def _far(wrong: Difference, name: str, array: Array) -> bool:
    """Return whether an array is too far from a result of the port for any tolerance.

    This takes less time than to compute the tolerances.
    """
    with np.errstate(all="ignore"):
        off = np.nanmax(abs(array - wrong.got[name]) - 2 * wrong.case.bounds[name], initial=0)
        largest = np.nanmax(abs(array), initial=0)
    return bool(np.isfinite(off) and off > FAR * np.finfo(array.dtype).eps * largest)


def _affected(
    port: Evidence, wrong: Difference, changes: Changes, lines: range
) -> dict[str, Array]:
    """Return the entries of results that depend on a line."""
    backward = changes.all[lines[0]].function.endswith("backward")
    if wrong.forward and backward:
        return {}  # no line of a backward changes a result of the forward
    results = port.runs.with_change(changes, lines[0], wrong.searched)
    return differing(results, (wrong.expected, wrong.case.bounds))


def _reach(wrong: Difference, affected: Mapping[str, Array]) -> set[str]:
    """Return the results all of whose wrong entries are affected."""
    wrong_alone = {n: mask & ~affected.get(n, np.False_) for n, mask in wrong.unexplained.items()}
    return {name for name, mask in wrong_alone.items() if not mask.any()}


def alone(port: Evidence) -> Iterator[str]:
    """Yield the lines on which all wrong results of the simplest case depend, and no right one."""
    wrong = _simplest(port, ())
    names = {n for n in wrong.unexplained if wrong.forward != is_gradient(n)}
    for changes in _changes(wrong.case, ())[-1:]:  # the specification
        for lines in reversed(changes.lines):
            affected = _affected(port, wrong, changes, lines)
            line = changes.all[lines[0]].old
            only = affected.keys() <= wrong.unexplained.keys() and not line.startswith("return")
            if only and names <= _reach(wrong, affected):
                yield line


def _simplest(port: Evidence, made: Made) -> Difference:
    return min(port.open(made), key=lambda each: (len(each.case.flags), each.simplicity))


def _changes(case: CaseData, made: Made) -> list[Changes]:
    """Return the changes of the kernel of an mLSTM, if any, and of the specification."""
    specification = case.subject.specification
    kinds = specification if isinstance(specification, tuple) else (specification,)
    others = [p for bug in BUGS if bug.concerns(case.subject.name) for p in bug.code]
    code, changes = dict.fromkeys([*kinds, *others]), []
    for kernel in (True, False):
        own = tuple(p for p in code if p.__module__.startswith(MATRIX) == kernel)
        arounds = (None, in_one_chunk) if kernel and "chunk_size" in case.options else (None,)
        with suppress(ValueError):  # the source is missing
            changes += [instrumented(own, made, around) for around in arounds if own]
    return changes


def is_edge(case: CaseData) -> bool:
    """Return whether a case is an edge case."""
    return not EDGES.keys().isdisjoint(case.flags)


def diagnose(failed: Sequence[Checked], passed: Sequence[CaseData] = ()) -> list[str]:
    """Return the diagnosis of failed cases and their results, as lines of text."""
    sentences = {search.subject: search.sentences() for search in searches(failed, passed)}
    names = dict.fromkeys(case.subject.name for case, _ in failed)
    return [line for name in names for line in sentences[name]]
