"""The kit is tested by mutation: every known mistake fails, and is named; a right port never fails.

A mistaken port is the specification with the mistake, in float64; the diagnosis of a float32 case
computes in float32, so that no number is the very same.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from numpy_xlstm.conformance import SUBJECTS, Case, cases, compare
from numpy_xlstm.conformance.bounds import in_dtype
from numpy_xlstm.conformance.bugs import BUGS, Bug, results
from numpy_xlstm.conformance.case import Content
from numpy_xlstm.conformance.diagnosis import Diagnosis, Finding
from numpy_xlstm.conformance.flags import FLAGS
from numpy_xlstm.conformance.subjects import Arrays

STACKS = ("lstm.stack",)
"""Of these one stands for all: they are slow, and the bugs in them are those of sequences."""
SUBJECTS_HERE = [
    name
    for name in SUBJECTS
    if not name.endswith((".recurrent", ".parallel", ".stack")) or name in STACKS
]
OF_THE_FORMAT = "log-sigmoid-by-exp", "emptiness-of-the-whole-batch"
"""Mistakes only in the dtype of the case: in a wider one nothing overflows or underflows."""


def concerned(subject: str) -> list[Bug]:
    """The mistakes that can be made in a subject; in a stack those of stacks alone."""
    found = [bug for bug in BUGS if bug.concerns(subject)]
    return [bug for bug in found if "*.stack" in bug.subjects[:1]] if subject in STACKS else found


def wide(case: Case) -> Case:
    """The same case in float64."""
    inputs = in_dtype(case.inputs, "float64")
    content = Content(inputs, case.expected, case.bounds)
    return replace(case, dtype="float64", content=lambda: content)


def port(case: Case, bug: Bug) -> Arrays:
    """The results of a port with a mistake."""
    at = case if bug.name in OF_THE_FORMAT else wide(case)
    with np.errstate(over="ignore"):
        return in_dtype(results(at, bug), case.dtype)


def must_show(bug: Bug, case: Case) -> bool:
    """Whether the flags of a mistake name this case, or there are none and it is an ordinary one."""
    tags = {*case.flags, *(f"{name}={value}" for name, value in case.options.items())}
    special = any(flag in FLAGS for flag in bug.flags)
    return {*bug.flags} <= tags and (
        "no-step" not in case.flags if special else not case.flags
    )


def found(subject: str, dtype: str) -> Iterator[tuple[Bug, list[Finding]]]:
    """Each mistake that can be made in a subject, and the diagnosis of a port that makes it."""
    points, diagnosis = cases(subject, dtype), Diagnosis()
    points = sorted(points, key=lambda case: case.flags)
    for bug in concerned(subject):
        failed, passed = [], []
        for case in points if bug.flags else points[::4]:
            got = port(case, bug)
            right = all(row.passed for row in compare(case, got))
            assert not (right and must_show(bug, case)), f"{bug.name} is not seen in {case}"
            if right:
                passed.append(case)
            else:
                failed.append((case, got))
        yield bug, diagnosis.findings(failed, passed)


@pytest.mark.parametrize("subject", [name for name in SUBJECTS_HERE if concerned(name)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_mistake_is_seen_and_named(subject: str, dtype: str) -> None:
    named = {bug.name: [each.bug.name for each in findings] for bug, findings in found(subject, dtype)}
    assert named == {name: [name] for name in named}
