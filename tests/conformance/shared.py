"""Cases for several tests, which compute their tensors once."""

from functools import cache

from numpy_xlstm import conformance
from numpy_xlstm.conformance import Case


@cache
def cases(subject: str, dtype: str | None = None) -> tuple[Case, ...]:
    """Return the cases of a subject, the same ones in every call."""
    if dtype is None:
        return tuple(conformance.cases(subject))
    return tuple(case for case in cases(subject) if case.dtype == dtype)
