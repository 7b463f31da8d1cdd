"""Outcomes of implementations in the kit: passed, failed and unsupported cases, with reasons."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from numpy_xlstm import conformance
from numpy_xlstm.conformance import Case
from numpy_xlstm.conformance.diagnosis import diagnose
from numpy_xlstm.conformance.verify import Verdict, verdict
from tests.conformance.implementations import onnx_operators, packages, torch_layers
from tests.conformance.implementations.offers import Implementation

ALL = [*torch_layers.IMPLEMENTATIONS, *packages.IMPLEMENTATIONS, *onnx_operators.IMPLEMENTATIONS]
SEEDS = range(3)
"""Seeds of the cases; a case is passed if it passes with all of them."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one implementation."""

    implementation: Implementation
    passed: tuple[Verdict, ...]
    failed: tuple[Verdict, ...]
    missing: Counter[str]

    def __str__(self) -> str:
        each = self.implementation
        head = f"{each.package} {each.name}, {each.subject}: {len(self.passed)} passed"
        lines = [f"{head}, {len(self.failed)} failed, not offered {dict(self.missing)}"]
        for v in self.failed:
            rows = [row for row in v.rows if not row.passed]
            names = ", ".join(f"{row.tensor} {row.ratio:.1e}" for row in rows)
            lines.append(f"    {v.case.id}: {names} {rows[0].note[:150]}")
        failed = [(v.case, v.results or {}) for v in self.failed]
        return "\n".join([*lines, *diagnose(failed, [v.case for v in self.passed])])


def outcome(each: Implementation, seeds: Iterable[int] = SEEDS) -> Outcome:
    """Run an implementation on all cases of its subject; an exception is a failure."""
    missing = Counter[str]()
    passed: list[Verdict] = []
    failed: list[Verdict] = []
    cases = [conformance.cases(each.subject, each.dtype, seed=seed) for seed in seeds]
    for same in zip(*cases, strict=True):
        if reason := each.missing(same[0]):
            missing[reason] += 1
            continue
        found = _verdict(each, same)
        (passed if found.passed else failed).append(found)
    return Outcome(each, tuple(passed), tuple(failed), missing)


def _verdict(each: Implementation, same: Sequence[Case]) -> Verdict:
    """Return the first verdict that is not passed, or else the last."""
    for case in same:
        found = verdict(each.case(case), each.port)
        if not found.passed:
            break
    return found


def row(found: Outcome) -> str:
    """Format the outcome as a row of a table in the docs, without the last cell."""
    each = found.implementation
    counts = len(found.passed), len(found.failed), sum(found.missing.values())
    return f"| {each.name} | {each.subject} | " + " | ".join(map(str, counts)) + " |"
