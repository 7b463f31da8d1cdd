"""Cases for several tests, which compute their tensors once."""

import time
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from numpy_xlstm import conformance
from numpy_xlstm.conformance import Case
from numpy_xlstm.conformance.bounds import in_dtype
from numpy_xlstm.conformance.bugs import Bug, known
from numpy_xlstm.conformance.diagnosis import searches
from numpy_xlstm.conformance.evidence import Checked, Runs


@cache
def cases(subject: str, dtype: str | None = None) -> tuple[Case, ...]:
    """Return the cases of a subject, the same ones in every call."""
    if dtype is None:
        return tuple(conformance.cases(subject))
    return tuple(case for case in cases(subject) if case.dtype == dtype)


def narrowed(array: Any, dtype: str) -> Any:
    """Round an array to a dtype."""
    return in_dtype({"": array}, dtype)[""]


def mistake(name: str, subject: str) -> Bug:
    """Return a known mistake of a subject."""
    return next(bug for bug in known(cases(subject)[0]) if bug.name == name)


def diagnosed(
    failed: Iterable[Checked], passed: Iterable[Case] = (), runs: Runs | None = None
) -> list[Bug]:
    """Return the mistakes that explain the results in failed cases."""
    return [bug for search in searches(failed, passed, runs) for bug in search.made]


def one_of_each(cases: list[Case]) -> list[Case]:
    """Return a case for each pair of a subject and a flag, in turn of each variant and dtype.

    Both kinds of mLSTM have the same kernels, and count as one.
    """
    pairs: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        for flag in case.flags or ("",):
            name = case.subject.name.replace("mlstmsig", "mlstm")
            pairs.setdefault((name, flag), []).append(case)
    ids = {group[n % len(group)].id for n, group in enumerate(pairs.values())}
    return [case for case in cases if case.id in ids]


def await_end(pid: str) -> None:
    """Wait until a process of Linux has ended; its parent need not have noticed."""
    with suppress(FileNotFoundError, ProcessLookupError):
        while Path("/proc", pid, "environ").read_bytes():
            time.sleep(0.01)
