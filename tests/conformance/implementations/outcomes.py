"""What the kit says of each implementation: cases passed, failed and not offered, and why."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy_xlstm import conformance
from numpy_xlstm.conformance.diagnosis import Diagnosis, Finding
from numpy_xlstm.conformance.verify import Verdict, verdict
from tests.conformance.implementations import jax_reference, onnx_operators, packages, torch_layers
from tests.conformance.implementations.offers import Implementation, NotOfferedError, Port

ALL = [
    *torch_layers.IMPLEMENTATIONS,
    *packages.IMPLEMENTATIONS,
    *onnx_operators.IMPLEMENTATIONS,
    *jax_reference.IMPLEMENTATIONS,
]


@dataclass(frozen=True)
class Outcome:
    """The outcome of one implementation."""

    implementation: Implementation
    passed: int
    failed: tuple[Verdict, ...]
    missing: Counter[str]
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        each = self.implementation
        head = f"{each.package} {each.name}, {each.subject}: {self.passed} passed"
        lines = [f"{head}, {len(self.failed)} failed, not offered {dict(self.missing)}"]
        for v in self.failed:
            rows = [row for row in v.rows if not row.passed]
            names = ", ".join(f"{row.tensor} {row.ratio:.1e}" for row in rows)
            lines.append(f"    {v.case.id}: {names} {rows[0].note[:150]}")
        return "\n".join([*lines, *map(str, self.findings)])


def outcome(each: Implementation) -> Outcome:
    """Run an implementation on all cases of its subject."""
    passed: list[Verdict] = []
    failed: list[Verdict] = []
    missing = Counter[str]()
    for case in conformance.cases(each.subject, each.dtype):
        try:
            results = each.port(case)
        except NotOfferedError as reason:
            missing[str(reason)] += 1
            continue
        except Exception as error:  # an implementation may fail in any way
            missing[f"{type(error).__name__}: {error}"[:100]] += 1
            continue
        found = verdict(each.case(case), _given(results))
        (passed if found.passed else failed).append(found)
    pairs = [(v.case, v.results) for v in failed if v.results is not None]
    findings = Diagnosis().findings(pairs, [v.case for v in passed])
    return Outcome(each, len(passed), tuple(failed), missing, tuple(findings))


def _given(results: Mapping[str, Any]) -> Port:
    """The port that has these results."""
    return lambda case: results


def row(found: Outcome) -> str:
    """The outcome as a row of the table in the docs, without its last cell."""
    each = found.implementation
    counts = found.passed, len(found.failed), sum(found.missing.values())
    return (
        f"| {each.package}: {each.name} | {each.subject} | " + " | ".join(map(str, counts)) + " |"
    )
