"""Known mistakes of ports, each a short change of the specification or a map at its interface.

Changes of lines are in text files, one for each kind of subject. A file has a title and sections. A
section starts with the subjects of its mistakes and the functions and classes with the lines.
In these, single lines are changed too.
Each mistake then has a name and a description, and, indented, optionally packages, and the changed
lines, as in :class:`Bug`::

    # Known mistakes in the sLSTM

    [slstm.*] cells.slstm:sLSTMCell
    normaliser-clamped: an sLSTM that holds n at 1 or above
        seen in: flashrnn 1.0.8; another package 2.0
        n = np.maximum(f * n_prev + i, 1)

A mistake in the forward changes the forward alone: a right backward of the changed forward is
recognised by its derivative.
"""

import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from pkgutil import resolve_name

from numpy_xlstm.conformance.bugs.around import of_one_row
from numpy_xlstm.conformance.bugs.bug import MATRIX, Around, Bug, planted, results
from numpy_xlstm.conformance.bugs.interface import interfaces, with_option
from numpy_xlstm.conformance.case_data import CaseData

__all__ = [
    "BUGS",
    "FILES",
    "Bug",
    "in_one_chunk",
    "interfaces",
    "known",
    "planted",
    "read",
    "results",
]

MISTAKE = re.compile(r"^(\S.*?): (.*)\n(?: +seen in: (.*)\n)?((?: .*\n)*)", re.MULTILINE)
FILES = ["gated", "gru", "slstm", "mlstm", "chunkwise", "sequence", "layers"]
"""Names of the files, in the order in which their mistakes are tried."""


def read(name: str) -> Iterator[Bug]:
    """Yield the mistakes of a file."""
    text = Path(__file__).with_name(f"{name}.txt").read_text("utf-8")
    for section in text.split("\n\n")[1:]:
        head, _, mistakes = section.partition("\n")
        subjects, _, code = head[1:].partition("] ")
        owners = tuple(resolve_name(f"numpy_xlstm.{name}") for name in code.split())
        for name, description, seen, change in MISTAKE.findall(f"{mistakes}\n"):
            seen_in = tuple(filter(None, seen.split("; ")))
            yield Bug(name, tuple(subjects.split()), owners, change, description, seen_in)


BUGS = [bug for name in FILES for bug in read(name)]
"""All known mistakes that change lines."""
PARTS = [*read("parts")]
"""Mistakes that are made for a part of the state, ``{final}``, or for a gradient, ``{grads}``."""
in_one_chunk: Around = partial(with_option, "chunk_size", 1024)
"""The specification with chunks that the sequences of the kit do not fill."""


def known(case: CaseData) -> list[Bug]:
    """Return all known mistakes that are possible in the subject of a case."""
    bugs = [bug for bug in BUGS if bug.concerns(case.subject.name)]
    return [*interfaces(case), *bugs, *_of_parts(case), *_in_one_chunk(case, bugs)]


def _of_parts(case: CaseData) -> Iterator[Bug]:
    """Yield the mistakes in one part of the state or in one gradient."""
    for result in case.expected:
        kind, _, part = result.partition(".")
        for bug in PARTS if part.isidentifier() else ():
            if f"{{{kind}}}" in bug.name and bug.concerns(case.subject.name):
                name, change, what = (
                    text.replace(f"{{{kind}}}", part)
                    for text in (bug.name, bug.change, bug.description)
                )
                yield bug._replace(name=name, change=change, description=what)
                if name.endswith("of-first-step-alone"):
                    name, what = f"{name}-of-last-row", f"{what}, and of the last row"
                    around = of_one_row(-1, [result])
                    yield bug._replace(name=name, change=change, description=what, around=around)


def _in_one_chunk(case: CaseData, bugs: Iterable[Bug]) -> Iterator[Bug]:
    """Yield mistakes in chunks again, for a port whose chunks are longer than these sequences."""
    for bug in bugs if "chunk_size" in case.options else ():
        if any(part.__module__.startswith(MATRIX) for part in bug.code):
            what = f"{bug.description}; no sequence fills its chunks"
            yield bug._replace(
                name=f"{bug.name}-in-one-chunk", description=what, around=in_one_chunk
            )
