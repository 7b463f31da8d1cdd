"""Cases for several tests, which compute their tensors once."""

from functools import cache

from numpy_xlstm import conformance
from numpy_xlstm.conformance import Case
from numpy_xlstm.conformance.bugs import BUGS, Bug, interfaces


@cache
def cases(subject: str, dtype: str | None = None) -> tuple[Case, ...]:
    """Return the cases of a subject, the same ones in every call."""
    if dtype is None:
        return tuple(conformance.cases(subject))
    return tuple(case for case in cases(subject) if case.dtype == dtype)


def mistake(name: str, subject: str) -> Bug:
    """Return a known mistake of a subject, in its lines or at its interface."""
    bugs = [bug for bug in BUGS if bug.concerns(subject)]
    return next(bug for bug in [*bugs, *interfaces(cases(subject)[0])] if bug.name == name)


def one_of_each(cases: list[Case]) -> list[Case]:
    """Return a case for each pair of a subject and a flag, in turn of each variant and dtype."""
    pairs: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        for flag in case.flags or ("",):
            pairs.setdefault((case.subject.name, flag), []).append(case)
    ids = {group[n % len(group)].id for n, group in enumerate(pairs.values())}
    return [case for case in cases if case.id in ids]
