"""Results of a check: a row per tensor or requirement, and the table."""

import dataclasses
import math
from typing import Any, Literal

import numpy as np

Status = Literal["ok", "FAIL", "kink", "vacuous"]


@dataclasses.dataclass(frozen=True)
class Row:
    """Result for one tensor, or for one requirement.

    Attributes
    ----------
    tensor, shape : str, tuple of int
        A parameter, an input or a part of the initial state; in adjoint rows the checked identity;
        in contract rows also an output, or "backward".
    method : str
        "complex step" or "finite differences" for a tensor, "adjoint" for an identity,
        "specification" for equality with a simpler layer, or "contract" for other requirements.
    checked : str
        Number of entries or random directions that were compared.
    error, tolerance : float
        ``error`` is ``max|g − ĝ| / max|ĝ|`` over all comparisons, where g is from the backward and
        ĝ is the reference. ``tolerance`` is the largest error that passes. If ĝ is nearly zero
        compared with the largest ĝ of all tensors, the denominator is a small fraction of that
        largest ĝ.
    status : {"ok", "FAIL", "kink", "vacuous"}
        "kink" if no reference can decide: every entry is on the edge of the forward's domain, or
        nearer than the step of the differences to a kink, such as a modulus at 0 or a tie of a
        maximum. "vacuous" if the reference is zero, or so small compared with other tensors that
        only its rounding is visible: here a backward passes even if it is wrong elsewhere.
    note : str
        The kind, extent and place of a failure, or advice.
    state : {"", "none", "given", "returned"}
        Initial state of the forward: none, that of the caller, or one that the forward returned.
        Empty if there are no states.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import Linear, gradcheck
    >>> rows = gradcheck(Linear(2, 3), np.ones((4, 2)), rng=0).rows
    >>> rows[0].tensor, rows[0].method, rows[0].status
    ('weight', 'complex step', 'ok')
    """

    tensor: str
    shape: tuple[int, ...]
    method: str
    checked: str
    error: float
    tolerance: float
    status: Status
    note: str = ""
    state: str = ""


@dataclasses.dataclass(frozen=True)
class Report:
    """Result of :func:`numpy_xlstm.gradcheck`; ``str(report)`` is a table.

    Attributes
    ----------
    rows : tuple of Row
        One per tensor and state, and those of other requirements.
    seed : int
        Seed of the check. ``rng=seed`` repeats the check for the same target and inputs.
    notes : tuple of str
        Additional information, such as a method that could not be used.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import gradcheck
    >>> report = gradcheck((lambda x: (x**2, x), lambda dy, x: 3 * x * dy), np.ones(2), rng=0)
    >>> report.passed, report.failures[0].status
    (False, 'FAIL')
    """

    rows: tuple[Row, ...]
    seed: int
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no row failed and no tensor is undecided."""
        return not self.failures and not self.undecided

    @property
    def failures(self) -> tuple[Row, ...]:
        """Rows that failed."""
        return tuple(row for row in self.rows if row.status == "FAIL")

    @property
    def undecided(self) -> tuple[Row, ...]:
        """Kink and vacuous rows of tensors for which no other state decides."""
        decided = {row.tensor for row in self.rows if row.status in ("ok", "FAIL")}
        unable = [r for r in self.rows if r.status in ("kink", "vacuous") and r.method != "adjoint"]
        return tuple(row for row in unable if row.tensor not in decided)

    @property
    def max_error(self) -> float:
        """Largest error of any row; NaN or infinity if a gradient is missing or not finite."""
        return float(np.max([row.error for row in self.rows], initial=0.0))

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values; errors that are not finite become strings."""
        rows = [dataclasses.asdict(row) | {"shape": list(row.shape)} for row in self.rows]
        for row in rows:
            row["error"] = row["error"] if math.isfinite(row["error"]) else str(row["error"])
        return {"passed": self.passed, "seed": self.seed, "rows": rows, "notes": list(self.notes)}

    def __str__(self) -> str:
        head = ("tensor", "shape", "state", "method", "checked", "error", "tolerance", "status", "")
        columns = zip(head, *map(_cells, self.rows), strict=True)
        used = [column for column in columns if any(column[1:])]
        padded = [[text.ljust(max(map(len, column))) for text in column] for column in used]
        table = ["  ".join(line) for line in zip(*padded, strict=True)]
        counts = f"{len(self.failures)} failures, {len(self.undecided)} undecided"
        verdict = "passed" if self.passed else f"NOT PASSED ({counts})"
        table.append(f"gradcheck {verdict}, largest error {self.max_error:.1e}, seed {self.seed}")
        return "\n".join(line.rstrip() for line in [*table, *self.notes])


def _cells(row: Row) -> tuple[str, ...]:
    """Return the cells of a row of the table."""
    shape = "×".join(map(str, row.shape)) or "scalar"
    sizes = f"{row.error:.1e}", f"{row.tolerance:.0e}"
    return row.tensor, shape, row.state, row.method, row.checked, *sizes, row.status, row.note
