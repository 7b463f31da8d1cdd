"""Mistakes that cases in 16 bits cannot show, because their effects are within the bounds."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from numpy_xlstm.conformance.bounds import SIXTEEN_BITS
from numpy_xlstm.conformance.bugs import BUGS, interfaces
from numpy_xlstm.conformance.case_data import CaseData
from numpy_xlstm.conformance.evidence import Runs, same
from numpy_xlstm.numerics import Array


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
        bugs = [bug for bug in BUGS if bug.concerns(cases[0].subject.name)]
        bugs += interfaces(cases[0])
        unseen = sum(
            all(_within(case, runs.numbers((bug,), case)[0]) for case in cases) for bug in bugs
        )
        yield (
            f"{name}: {unseen} of {len(bugs)} known mistakes change no result of these cases by "
            "more than its bound, so a pass does not exclude them"
        )
    if skipped:
        yield (
            f"mistakes that 16 bits hide are not counted for {len(skipped)} more subjects; "
            "--subject selects one"
        )


def _within(case: CaseData, results: Mapping[str, Array]) -> bool:
    return all(
        same(results.get(name), expected, case.bounds[name])
        for name, expected in case.expected.items()
    )
