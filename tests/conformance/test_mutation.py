"""Mutation tests of the kit: every known mistake fails and is named, and correct ports pass.

A port with a mistake is the specification with the mistake, in float64. The diagnosis of a float32
case computes in float32, so that its numbers differ from those of the port.
"""

from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest

from numpy_xlstm import conformance
from numpy_xlstm.conformance import SUBJECTS, Case, compare
from numpy_xlstm.conformance.bounds import in_dtype
from numpy_xlstm.conformance.bugs import BUGS, Bug, interfaces, planted, results
from numpy_xlstm.conformance.case_data import Content
from numpy_xlstm.conformance.evidence import Runs, differing
from numpy_xlstm.conformance.flags import FLAGS
from numpy_xlstm.numerics import Arrays
from tests.conformance import block_ports, ports
from tests.conformance.shared import cases, diagnosed, mistake

SHOWN = {
    "far-memory forget_gate=sigmoid": "log-sigmoid-by-exp log-of-sigmoid",
    "large-pre-activations": "pre-activations-clamped pre-activations-clipped exponentials-divided",
    "large-pre-activations forget_gate=exp": "forget-gate-from-difference",
    "closed-gates forget_gate=sigmoid": "log-sigmoid-by-softplus",
    "closed-gates": "old-value-by-difference slope-by-difference",
    "open-gates": "slopes-by-difference",
    "near-tie": "winner-by-forget-gate",
    "tie": "tie-in-halves",
    "empty-state": "empty-state-with-m-0 empty-memory-with-m-0",
    "zero-memory": "weight-of-no-memory",
    "zero-state": "zero-state-taken-for-empty zero-memory-taken-for-empty",
    "mixed-rows": "emptiness-of-the-whole-batch",
    "square-memory": "memory-read-by-values",
    "eps eps=0.75": "eps-inside-the-maximum eps-unstabilised",
    "padding": "state-runs-on-through-padding last-output-repeated-at-padding no-steps-no-state "
    "cotangents-at-padding gradient-lost-in-padding reverse-begins-in-padding padding-decays "
    "padding-writes outputs-at-padding-computed padding-in-gradients padding-taken-back",
    "ignored-targets": "loss-averaged-over-all loss-gradient-averaged-over-all",
}
"""Mistakes that must fail in every case with these flags and options."""
FLAGS_OF = {name: flags.split() for flags, names in SHOWN.items() for name in names.split()}

STACKS = ("lstm.stack",)
"""The stacks that are tested; one is enough, because they are slow and made of sequences."""
SUBJECTS_HERE = [
    name
    for name in SUBJECTS
    if not name.endswith((".recurrent", ".parallel", ".stack")) or name in STACKS
]
OF_THE_FORMAT = (
    "log-sigmoid-by-exp",
    "empty-state-with-m-0",
    "emptiness-of-the-whole-batch",
    "stabiliser-missing",
    "stabiliser-without-forget-gate",
    "forget-gate-without-m-before",
    "winner-by-forget-gate",
    "backward-with-unstabilised-gates",
    "log-of-sigmoid",
    "exponentials-divided",
    "stabiliser-in-place",
    "forget-gate-from-difference",
    "old-value-by-difference",
    "slope-by-difference",
    "slopes-by-difference",
)
"""Mistakes whose float64 port differs in some cases, because the dtype decides what is 0, 1 or
infinite."""
DECIDED_BY_FORMAT = {"large-pre-activations", "far-memory", "mixed-rows", "near-tie", "tie", "kink"}
DECIDED_BY_FORMAT |= {"closed-gates", "open-gates"}
"""Flags of these cases; in all others the port of these mistakes is in float64, too."""


FLOAT64_ALONE = {"log-sigmoid-by-softplus", "norm-eps-outside-the-root", "modulus-missing"}
"""Mistakes of less than a rounding in float32; the second one is larger in a norm alone."""


@cache
def concerned(subject: str, dtype: str) -> list[Bug]:
    """Return the mistakes that are visible in a subject; for a stack, only those of stacks."""
    names = FLOAT64_ALONE if dtype == "float32" else set[str]()
    bugs = [bug for bug in BUGS if bug.concerns(subject) and bug.name not in names]
    return [bug for bug in bugs if "*.stack" in bug.subjects[:1]] if subject in STACKS else bugs


def wide(case: Case) -> Case:
    """The same case in float64."""
    inputs = in_dtype(case.inputs, "float64")
    content = Content(inputs, case.expected, case.bounds)
    return replace(case, dtype="float64", content=lambda: content)


def port(case: Case, bug: Bug) -> Arrays:
    """The results of a port with a mistake."""
    same_format = bug.name in OF_THE_FORMAT and DECIDED_BY_FORMAT & {*case.flags}
    at = case if same_format else wide(case)
    with np.errstate(over="ignore"):
        return in_dtype(results(at, bug), case.dtype)


def must_show(bug: Bug, case: Case) -> bool:
    """Return whether this case has the flags of the mistake."""
    flags = FLAGS_OF.get(bug.name, ["never"])
    return {*flags} <= case.tags and "no-step" not in case.flags


POINTS = [
    (name, dtype)
    for name in SUBJECTS_HERE
    for dtype in ("float32", "float64")
    if concerned(name, dtype)
    if dtype == "float32" or not name.endswith((".sequence", ".stack", ".chunkwise"))
]
"""In float64, steps are sufficient."""


def tried(subject: str, dtype: str, trials: int) -> list[Bug]:
    """In one trial each mistake at a ninth of the points where it can be made, but at one at least.

    In nine trials each is tried at all of them.
    """
    chosen = []
    for bug in concerned(subject, dtype):
        where = [point for point in POINTS if bug in concerned(*point)]
        turn = where.index((subject, dtype)) + BUGS.index(bug)
        share = min(9, len(where))
        if turn % share < trials:
            chosen.append(bug)
    return chosen


@pytest.mark.long
@pytest.mark.parametrize(("subject", "dtype"), POINTS)
def test_every_mistake_is_seen_and_named(subject: str, dtype: str, trials: int) -> None:
    """A mistake is tried in the cases that must show it, and in a quarter of the others a trial."""
    points, runs, names = cases(subject, dtype), Runs(), dict[str, list[str]]()
    few = [case for n, case in enumerate(points) if n % 4 < trials or not case.flags]
    for bug in tried(subject, dtype, trials):
        failed, passed = [], []
        for case in (c for c in points if c in few or must_show(bug, c)):
            got = port(case, bug)
            right = all(row.passed for row in compare(case, got))
            assert not (right and must_show(bug, case)), f"{bug.name} is not seen in {case}"
            if right:
                passed.append(case)
            else:
                failed.append((case, got))
        assert failed, f"{bug.name} is not seen in {subject}"
        # At a tie one number is wrong, which a search may take for a rounding.
        told = [c for c, _ in failed if differing(c.expected, runs.with_mistakes((bug,), c))]
        if told or (bug.name, dtype) != ("tie-in-halves", "float32"):
            names[bug.name] = [each.name for each in diagnosed(failed, passed, runs)]
    assert names == {name: [name] for name in names}


@pytest.mark.parametrize("subject", block_ports.NAMED)
def test_a_right_block_of_another_structure_passes(subject: str) -> None:
    report = conformance.verify(cases(subject), block_ports.port, forward=True)
    assert report.passed, report


HAND = [(subject, *pair) for subject, names in block_ports.NAMED.items() for pair in names.items()]


@pytest.mark.parametrize(
    ("subject", "wrong", "name"),
    [pytest.param(*p, marks=[pytest.mark.long] if n % 8 else []) for n, p in enumerate(HAND)],
)
def test_a_mistake_that_was_written_by_hand_is_named(subject: str, wrong: str, name: str) -> None:
    """It is the only one that is named, and no result is left without an explanation."""
    chosen = cases(subject, "float64")
    report = conformance.verify(chosen, lambda case: block_ports.port(case, wrong), forward=True)
    (sentence,) = report.diagnosis
    assert f"({name})" in sentence.partition("\n")[0]


def test_every_mistake_is_tried() -> None:
    at_once = {bug for point in POINTS for bug in tried(*point, trials=1)}
    assert at_once == {bug for point in POINTS for bug in concerned(*point)} != set()
    for point in POINTS:
        assert tried(*point, trials=9) == concerned(*point) != []


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(n, marks=pytest.mark.long) for n in range(2, 11))]
)
def test_a_right_port_never_fails(seed: int) -> None:
    for case in conformance.cases(seed=seed)[8 * seed + seed % 2 :: 80]:
        case.check(case.results())
        if case.subject.name in ports.KERNELS:
            case.check(ports.kernel(case))


def test_mistakes_at_the_interface_are_seen_and_explained() -> None:
    """The named mistakes give the numbers of the port; several may give the same."""
    chosen, seen = cases("lstm.step", "float64"), 0
    mistakes = interfaces(chosen[0])[::30]
    for bug in mistakes:
        got = {case: results(case, bug) for case in chosen}
        failed = [
            case for case in chosen if any(not row.passed for row in compare(case, got[case]))
        ]
        passed = [case for case in chosen if case not in failed]
        named = diagnosed([(case, got[case]) for case in failed], passed)
        if bug not in named and failed and got[failed[0]]:
            again = results(failed[0], *named)
            for name, array in got[failed[0]].items():
                np.testing.assert_allclose(again[name], array, rtol=1e-9, atol=1e-12)
        seen += bool(named)
    assert seen > len(mistakes) / 2


def test_names_tell_mistakes_apart() -> None:
    for subject in SUBJECTS.values():
        case, options = cases(subject.name)[0], next(iter(subject.variants.values()))
        blank = subject.blank(options, 3, 7)
        with np.errstate(all="ignore"):
            content = partial(Content, blank, subject.run(options, blank), {})
        names = [bug.name for bug in BUGS if bug.concerns(subject.name)]
        names += [bug.name for bug in interfaces(replace(case, content=content))]
        assert len(names) == len({*names}), subject


def test_a_mistake_is_a_change_of_lines_that_are_there() -> None:
    for bug in BUGS:
        planted(bug)
        assert bug.changes, bug
        assert any(bug.concerns(subject) for subject in SUBJECTS), bug
    assert {bug.name for bug in BUGS} >= FLAGS_OF.keys()
    assert all("=" in flag or flag in FLAGS for flags in FLAGS_OF.values() for flag in flags)


def test_a_line_that_is_not_there_is_refused() -> None:
    bug = BUGS[0]._replace(change="- h = o * c\n+ h = o")
    with pytest.raises(ValueError, match="once in the modules"):
        planted(bug)


def test_the_diagnosis_reads_as_a_sentence() -> None:
    bug = mistake("normaliser-constant", "mlstm.step")
    case = cases("mlstm.step", "float64")[0]
    with pytest.raises(
        AssertionError, match="those of a backward that treats the normaliser"
    ) as caught:
        case.check(results(case, bug))
    assert "- dqn = -np.sign(qn.real) * S / np.where(wins, den, np.inf)" in str(caught.value)
    assert "mlstm_kernels 2.0.6 does this" in str(caught.value)
