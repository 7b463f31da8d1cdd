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
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name

from numpy_xlstm.conformance.bugs.bug import Bug, planted, results
from numpy_xlstm.conformance.bugs.interface import interfaces

__all__ = ["BUGS", "FILES", "Bug", "interfaces", "planted", "read", "results"]

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
