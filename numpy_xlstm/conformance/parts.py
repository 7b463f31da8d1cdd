"""Parts of a model as subjects of cases, and the diagnosis of a trace."""

import re
from collections.abc import Sequence
from typing import Any

from numpy_xlstm.conformance.bounds import is_gradient
from numpy_xlstm.conformance.case_data import CaseData
from numpy_xlstm.conformance.compare import Row, listed
from numpy_xlstm.conformance.subjects import Options, Subject
from numpy_xlstm.errors import OptionError

MOST_NAMES = 120
"""Number of characters for the names of wrong tensors, with commas."""


class Part(Subject):
    """A part of a model, such as a block. Its parameters are not among the inputs of its case."""

    def module(self, options: Options, specification: Any = None) -> Any:
        """Return the part itself, or raise an error if its trace was read from a folder."""
        if self.make is None:
            raise OptionError(
                "results: expected a case of trace(); a folder has only its results, not its parts"
            )
        return self.make(specification or self.specification, options)

    def pattern(self, name: str, ndim: int) -> str:
        """Return the pattern of the entries of a tensor, or its axes if they have no names."""
        known = self.axes.get(name) or super().pattern(name, ndim)
        groups = re.sub(r"\([^)]*\)", "joined", known).split()
        return known if len(groups) == ndim else " ".join(f"axis{n}" for n in range(ndim))


def departures(
    wrong: Sequence[tuple[CaseData, Sequence[Row]]], right: Sequence[CaseData] = ()
) -> list[str]:
    """Return in which part a port departs first, and in which tensors, first those of a state.

    A part has its own exact input, so that an error in it is no consequence of another part.
    """
    if not wrong:
        return []
    case, rows = wrong[0]
    names = sorted((row.tensor for row in rows), key=lambda n: (is_gradient(n), n == "y"))
    part = f"{case.id} ({case.subject.name})"
    others = [other.id for other, _ in wrong[1:] if other.id != "model"]
    also = f"; {', '.join(others)} {'have' if others[1:] else 'has'} errors too" if others else ""
    if case.id == "model":
        ids = listed([other.id for other in right], MOST_NAMES)
        also = "; none of its parts was checked and is right"
        if ids:
            also = f"; right are {ids}: if these are all its parts, the port joins them "
            also += "differently, for example without a soft cap"
    if not any(names):
        return [f"the port has no results for {part}{also}"]
    return [f"the port departs first in {part}: {listed(names, MOST_NAMES)}{also}"]
