"""What a check found: one row per tensor and method, and a table of them."""

import dataclasses
from typing import Any, Literal

Status = Literal["ok", "FAIL", "kink"]


@dataclasses.dataclass(frozen=True)
class Row:
    """The verdict on one tensor by one method.

    Attributes
    ----------
    tensor : str
        Name of a parameter, an input or a part of the initial state.
    shape : tuple of int
        Its shape.
    method : str
        "complex", "difference", "adjoint", or "contract" for what every gradient must be.
    checked : str
        How many entries, or random directions, were compared.
    error : float
        ``max|g − ĝ| / max|ĝ|`` over what was compared, g from the backward, ĝ the reference.
    tolerance : float
        Largest error that is accepted.
    status : {"ok", "FAIL", "kink"}
        "kink" if every entry lies on a kink of the function, where no reference can tell.
    note : str
        Where the largest error is, how many entries lie on a kink, or what went wrong.
    """

    tensor: str
    shape: tuple[int, ...]
    method: str
    checked: str
    error: float
    tolerance: float
    status: Status
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Report:
    """The outcome of :func:`numpy_xlstm.gradcheck.gradcheck`; ``str`` of it is a table.

    Attributes
    ----------
    rows : tuple of Row
        One per tensor and method.
    seed : int
        Passing it as ``rng`` repeats the check, for the same target and inputs.
    notes : tuple of str
        What the reader should know, such as a method that could not be used.
    """

    rows: tuple[Row, ...]
    seed: int
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every row is ok. A row on a kink is neither passed nor failed, so it is not."""
        return all(row.status == "ok" for row in self.rows)

    @property
    def failures(self) -> tuple[Row, ...]:
        """The rows that failed."""
        return tuple(row for row in self.rows if row.status == "FAIL")

    @property
    def max_error(self) -> float:
        """The largest error of any row; NaN or infinity if a gradient has any or is missing."""
        errors = [row.error for row in self.rows]
        return next((e for e in errors if e != e), max(errors, default=0.0))

    def error(self, method: str) -> float:
        """The largest error of any row of one method."""
        return Report(tuple(r for r in self.rows if r.method == method), self.seed).max_error

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, for JSON; errors that are not finite become strings."""
        rows = [dataclasses.asdict(row) | {"shape": list(row.shape)} for row in self.rows]
        for row in rows:
            row["error"] = row["error"] if abs(row["error"]) < float("inf") else str(row["error"])
        return {
            "passed": self.passed,
            "seed": self.seed,
            "rows": rows,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        head = ("tensor", "shape", "method", "checked", "error", "tolerance", "status", "")
        lines = [head, *(cells(row) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = ["  ".join(c.ljust(w) for c, w in zip(ln, widths, strict=True)) for ln in lines]
        verdict = "passed" if self.passed else f"NOT PASSED ({len(self.failures)} failures)"
        table.append(f"gradcheck {verdict}, largest error {self.max_error:.1e}, seed {self.seed}")
        return "\n".join(line.rstrip() for line in [*table, *self.notes])


def cells(row: Row) -> tuple[str, ...]:
    """The texts of a row of the table."""
    shape = "×".join(map(str, row.shape)) or "scalar"
    return (
        row.tensor,
        shape,
        row.method,
        row.checked,
        f"{row.error:.1e}",
        f"{row.tolerance:.0e}",
        row.status,
        row.note,
    )
