"""What a check found: one row per tensor and method, and a table of them."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

Status = Literal["ok", "FAIL", "kink", "vacuous"]


@dataclasses.dataclass(frozen=True)
class Row:
    """The verdict on one tensor by one method.

    Attributes
    ----------
    tensor, shape : str, tuple of int
        A parameter, an input or a part of the initial state.
    method : str
        "complex", "difference", "adjoint", or "contract" for what every gradient must be.
    checked : str
        How many entries, or random directions, were compared.
    error, tolerance : float
        ``max|g − ĝ| / max|ĝ|`` over what was compared, g from the backward, ĝ the reference; and
        how large it may be.
    status : {"ok", "FAIL", "kink", "vacuous"}
        "kink" if every entry lies on a kink of the function, where no difference can tell;
        "vacuous" if the reference is zero everywhere, or so small beside other tensors that only
        its rounding is seen: a backward that is wrong elsewhere passes here.
    note : str
        What went wrong, how much of it, and where; or what to pass instead.
    state : {"", "none", "given", "returned"}
        Where the forward started: from no state, that of the caller, or the one that the forward
        itself returned. Empty if there are no states.
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
        """Whether no row failed, and none is undecided."""
        return not self.failures and not self.undecided

    @property
    def failures(self) -> tuple[Row, ...]:
        """The rows that failed."""
        return tuple(row for row in self.rows if row.status == "FAIL")

    @property
    def undecided(self) -> tuple[Row, ...]:
        """Kinks and vacuous rows of tensors that no other row decides, by method or by state."""
        decided = {row.tensor for row in self.rows if row.status in ("ok", "FAIL")}
        unable = [row for row in self.rows if row.status in ("kink", "vacuous")]
        return tuple(row for row in unable if row.tensor not in decided)

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
    """The texts of a row of the table."""
    shape = "×".join(map(str, row.shape)) or "scalar"
    sizes = f"{row.error:.1e}", f"{row.tolerance:.0e}"
    return row.tensor, shape, row.state, row.method, row.checked, *sizes, row.status, row.note


def explained(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows, where the vacuous ones say what to pass, or that another row decides."""
    undecided = Report(tuple(rows), 0).undecided
    return tuple(
        row if row.status != "vacuous" else dataclasses.replace(row, note=_advice(row, undecided))
        for row in rows
    )


def _advice(row: Row, undecided: Sequence[Row]) -> str:
    if row not in undecided:
        return "zero here; another row decides"
    what = "a state, inputs and parameters" if row.state else "inputs and parameters"
    return f"the true gradient is zero here; pass {what} where it is not"
