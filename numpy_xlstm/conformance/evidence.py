"""Evidence for the mistakes of a port: its results, compared with those of each mistake."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from types import SimpleNamespace
from typing import Any

import numpy as np

from numpy_xlstm.conformance.bounds import FORMATS, SIXTEEN_BITS, distance, is_gradient, scales
from numpy_xlstm.conformance.bugs import BUGS, Bug, known, results
from numpy_xlstm.conformance.bugs.around import ChangedResults
from numpy_xlstm.conformance.bugs.changes import Changes
from numpy_xlstm.conformance.case_data import CaseData, Content
from numpy_xlstm.conformance.contrast import Difference
from numpy_xlstm.conformance.subjects import cotangent_of, gradient_of
from numpy_xlstm.numerics import Array, Arrays

STEP = 1e-20
"""Step of a complex derivative."""
RUNS = 1000
"""A report has five times as many runs of changed lines. After twice as many runs of known
mistakes, it begins no further search, and adds no mistake in the one that has begun."""
ROUNDINGS = 64
"""Accepted difference of a port from a mistake, in units of ε times the row's largest number."""

Checked = tuple[CaseData, Mapping[str, Any]]
"""Case and results of a port."""
WithTolerances = tuple[Mapping[str, Array], Mapping[str, Array]]
"""Results of the specification with mistakes, and their tolerances."""
Made = tuple[Bug, ...]


@dataclass
class Runs:
    """Runs of the specification with mistakes, each done once, and their limits in a report."""

    known: dict[tuple[Any, ...], WithTolerances] = field(default_factory=dict)
    changed: dict[tuple[CaseData, Changes, int], dict[str, Any]] = field(default_factory=dict)
    left: int = RUNS
    """Number of runs of a changed line that are left for a subject."""
    later: int = 0
    """Number of those that the next subjects have."""
    left_known: int = RUNS
    """Number of runs of known mistakes that are left; it may become negative."""

    def share(self, subjects: int) -> None:
        """Divide the runs of changed lines that are left, and give the next subject its share."""
        every = self.left + self.later
        self.left = every // subjects
        self.later = every - self.left

    def with_mistakes(self, made: Made, case: CaseData) -> WithTolerances:
        """Return the results of the specification with these mistakes, and their tolerances.

        Without mistakes the tolerances are the bounds of the case.
        """
        if not made:
            return case.expected, case.bounds
        key = (case, *made)
        if key not in self.known:
            *others, last = made
            if isinstance(last.around, ChangedResults):  # this needs no run
                before, _ = self.with_mistakes(tuple(others), case)
                with np.errstate(all="ignore"):
                    changed = last.around.change(dict(before), case.inputs) if before else {}
                numbers = {**before, **changed}
            else:
                self.left_known -= 1
                numbers = results(case, *made)
            self.known[key] = with_tolerances(case, comparable(case, numbers))
        return self.known[key]

    def with_change(self, changes: Changes, number: int, case: CaseData) -> dict[str, Any]:
        """Return the results of a case with the change ``changes.all[number]``.

        They are {} if no runs are left.
        """
        key = (case, changes, number)
        if key not in self.changed:
            if self.left <= 0:
                return {}
            self.left -= 1
            self.changed[key] = comparable(case, changes.results(number, case))
        return self.changed[key]


class Evidence:
    """The results of a port in the cases of one subject; for those that passed, the expected."""

    def __init__(self, runs: Runs, failed: list[Checked], passed: list[Checked]) -> None:
        self.runs, self.passed = runs, passed
        every: list[Checked] = [(case, comparable(case, got)) for case, got in failed]
        self.failed = [checked for checked in every if checked[1]]
        self.without = [case for case, got in every if not got]  # the port has raised, for example
        self.count = len(every)
        self.few_failed = one_of_each(self.failed)
        self.few = self.few_failed + one_of_each(passed)
        self._differences: dict[tuple[Any, ...], Difference] = {}
        self._derivatives: dict[tuple[Any, ...], bool] = {}

    def difference(self, made: Made, checked: Checked) -> Difference:
        """Return where a port differs in a case from the specification with these mistakes."""
        case, got = checked
        if (case, made) not in self._differences:
            numbers = self.runs.with_mistakes(made, case)
            masks = differing({name: got[name] for name in case.expected if name in got}, numbers)
            forward = self._forward(made, case) if all(map(is_gradient, masks)) else ()
            if forward:  # gradients may be those of the right forward
                wrong = differing(got, (case.expected, case.bounds))
                masks = {name: mask for name, mask in masks.items() if name in wrong}
            fitting = self._derivatives_of(forward, checked, [*masks]) if forward else set()
            left = {name: mask for name, mask in masks.items() if name not in fitting}
            self._differences[case, made] = Difference(case, got, numbers[0], left, fitting)
        return self._differences[case, made]

    def _forward(self, made: Made, case: CaseData) -> Made:
        """Return the mistakes that change results of the forward."""
        return tuple(bug for bug in made if self.changed((bug,), (), case.forward))

    def _derivatives_of(self, forward: Made, checked: Checked, names: list[str]) -> set[str]:
        """Return the gradients among differing results that are right for the wrong forward."""
        case, got = checked
        for key in ((case, forward, name) for name in names):
            if key not in self._derivatives:
                self._derivatives[key] = is_derivative(*key, got[key[2]])
        return {name for name in names if self._derivatives[case, forward, name]}

    def open(self, made: Made) -> list[Difference]:
        """Return what these mistakes do not explain in failed cases, one per set of flags."""
        every = (self.difference(made, checked) for checked in self.few_failed)
        return [each for each in every if each.unexplained]

    def score(self, made: Made) -> int:
        """Return the number of results that these mistakes leave unexplained."""
        return sum(len(self.difference(made, checked).unexplained) for checked in self.few)

    def needed(self, made: Made, kept: Made = ()) -> Made:
        """Return the mistakes without which less is explained, and those in ``kept``."""
        for bug in [bug for bug in made if bug not in kept]:
            without = tuple(other for other in made if other is not bug)
            made = without if self.score(without) <= self.score(made) else made
        return made

    def uncontradicted(self, made: Made, kept: Made = ()) -> Made:
        """Return the mistakes that no case contradicts, and those in ``kept``."""
        for bug in reversed([bug for bug in made if bug not in kept]):
            if self.contradicted(bug, made):
                return self.uncontradicted(tuple(b for b in made if b is not bug), kept)
        return made

    def contradicted(self, bug: Bug, made: Made, cases: Sequence[Checked] | None = None) -> bool:
        """Return whether some cases, by default all, lack a number that one mistake changes.

        That is a result of the forward or, if the mistake changes none, a gradient.
        """
        without = tuple(other for other in made if other is not bug)
        every = self.failed + self.passed if cases is None else cases
        for checked in ([(case.forward, got) for case, got in every], every):
            seen = False
            for case, got in checked:
                if not self.runs.with_mistakes(made, case)[0]:
                    return True
                if changed := self.changed(made, without, case):
                    seen = True
                    if not changed.isdisjoint(self.difference(made, (case, got)).unexplained):
                        return True
            if seen:
                break
        return False

    def changed(self, made: Made, without: Made, case: CaseData) -> set[str]:
        """Return the results that mistakes change."""
        before, _ = self.runs.with_mistakes(without, case)
        lost = case.expected.keys() - before.keys()
        return lost | differing(before, self.runs.with_mistakes(made, case)).keys()


def differing(got: Mapping[str, Array], expected: WithTolerances) -> dict[str, Array]:
    """Return where results differ by more than the tolerances, unless neither is finite."""
    masks, (numbers, tolerances) = {}, expected
    for name, array in got.items():
        wrong = np.ones_like(array, bool)
        if name in numbers:
            neither = ~np.isfinite(array) & ~np.isfinite(numbers[name])
            wrong = ~(distance(array, numbers[name]) <= tolerances[name]) & ~neither
        if wrong.any():
            masks[name] = wrong
    return masks


def comparable(case: CaseData, results: Mapping[str, Any]) -> Arrays:
    """Return the results that are arrays of real numbers in the shapes of the expected ones."""
    return {
        name: results[name]
        for name, expected in case.expected.items()
        if isinstance(array := results.get(name), np.ndarray)
        if array.dtype.kind == "f" and array.shape == expected.shape
    }


def one_of_each(cases: Iterable[Checked]) -> list[Checked]:
    """Return the first case for each combination of flags."""
    first: dict[tuple[str, ...], Checked] = {}
    for checked in cases:
        first.setdefault(checked[0].flags, checked)
    return list(first.values())


def with_tolerances(case: CaseData, results: Mapping[str, Array]) -> WithTolerances:
    """Return results with mistakes, and their tolerances for a port with the same computation.

    A number that is moved by less than half its bound is taken for the expected one, so that a
    change without effect explains nothing. The tolerance of the others is at most half the way.
    """
    now, allowed = {}, {}
    for name, scale in scales(case.subject, case.inputs, dict(results)).items():
        by, bound = distance(results[name], case.expected[name]), case.bounds[name]
        most = 2 * bound + ROUNDINGS * np.finfo(results[name].dtype).eps * scale
        now[name] = np.where(by < bound / 2, case.expected[name], results[name])
        allowed[name] = np.clip(by / 2, bound, most)
    return now, allowed


def blank(array: Array) -> bool:
    """Return whether all entries are 0 or NaN, or there are several, all the same number."""
    numbers = np.nan_to_num(array).ravel()
    return not numbers.any() or (numbers.size > 1 and bool((numbers == numbers[0]).all()))


def is_derivative(case: CaseData, made: tuple[Bug, ...], name: str, gradient: Array) -> bool:
    """Return whether a gradient is that of the forward with these mistakes.

    The derivative of the forward in a random direction of an input, by a complex step, is the
    product of the gradient with this direction.
    """
    given = case.given if name.startswith("dstate0") else case.inputs
    varied = next((each for each in given if gradient_of(each) == name), None)
    if varied is None:
        return False
    wide = {n: a.astype(complex) if a.dtype.kind == "f" else a for n, a in given.items()}
    direction = np.random.default_rng(0).standard_normal(wide[varied].shape)
    direction *= np.isfinite(given[varied])
    inputs = wide | {varied: wide[varied] + 1j * STEP * direction}
    complex_case = SimpleNamespace(subject=case.subject, options=case.options, inputs=inputs)
    outputs = {n: a for n, a in results(complex_case, *made).items() if not is_gradient(n)}
    if not outputs:
        return False
    with np.errstate(all="ignore"):
        slope = sum(
            (a.imag / STEP * case.inputs[cotangent_of(n)]).sum() for n, a in outputs.items()
        )
        terms = gradient * direction
        rounding = 64 * FORMATS[case.dtype].eps * np.abs(terms)
        allowed = 4 * case.bounds[name] * np.abs(direction) + rounding
        # a forward that overflows has no derivative that the gradient could contradict
        return not np.isfinite(slope) or bool(abs(terms.sum() - slope) <= allowed.sum())


def hidden_in(part: Any, name: str, content: Content) -> str:
    """Count the known mistakes in a part of a model that change results by less than their bounds.

    ``part`` has the subject, the options and the inputs, with the parameters; ``name`` is that of
    the subject of the kit. Mistakes that change no result at all are not counted.
    """
    right = part.subject.run(part.options, part.inputs)
    wrong = [results(part, bug) for bug in BUGS if bug.concerns(name)]
    moved = ROUNDINGS * FORMATS["float32"].eps
    wrong = [
        n for n in wrong if n and not all(np.allclose(n[k], right[k], moved, moved) for k in right)
    ]
    seen = sum(bool(differing(numbers, (content.expected, content.bounds))) for numbers in wrong)
    return f"{len(wrong) - seen} of {len(wrong)}" if seen < len(wrong) else ""


def hidden(passed: Sequence[CaseData]) -> Iterator[str]:
    """Yield how many known mistakes would pass, for each subject and dtype of 16 bits.

    The first subjects are counted, up to the limit of runs of a report.
    """
    narrow = [case for case in passed if case.dtype in SIXTEEN_BITS]
    runs, skipped = Runs(), []
    for name, group in groupby(narrow, key=lambda case: f"{case.subject.name} in {case.dtype}"):
        cases = list(group)
        if runs.left_known <= 0:
            skipped.append(name)
            continue
        bugs, unseen = known(cases[0]), 0
        for bug in bugs:
            wrong = ((case, runs.with_mistakes((bug,), case)[0]) for case in cases)
            unseen += not any(differing(c.expected, (now, c.bounds)) for c, now in wrong)
        yield (
            f"{name}: {unseen} of {len(bugs)} known mistakes change no result of these cases by "
            "more than its bound, so a pass does not exclude them"
        )
    if skipped:
        yield (
            f"mistakes that 16 bits hide are not counted for {len(skipped)} more subjects; "
            "--subject selects one"
        )
