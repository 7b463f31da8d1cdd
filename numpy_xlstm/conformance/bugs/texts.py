"""Parser for the text files of known mistakes, one for each kind of subject.

A file has a title and sections. A section starts with the subjects and places of its mistakes, in
which single lines are changed too. Each mistake then has a name and a description, and, indented,
optionally packages, and the changed lines, as in :class:`Bug`::

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
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

from numpy_xlstm.conformance.bugs.bug import Bug
from numpy_xlstm.conformance.given import KERNELS, run_kernel

SEEN = "seen in: "
FILES = ["gated", "gru", "slstm", "mlstm", "mlstm_backward", "chunkwise", "sequence", "layers"]
"""Names of the files, in the order in which their mistakes are tried."""


def read(name: str) -> list[Bug]:
    """Return the mistakes of a file."""
    text = Path(__file__).with_name(f"{name}.txt").read_text("utf-8")
    return [bug for section in text.split("\n\n")[1:] for bug in _section(section.strip("\n"))]


def _section(text: str) -> Iterator[Bug]:
    head, *entries = re.split(r"\n(?=\S)", text)
    subjects, _, rest = head[1:].partition("] ")
    patterns, places = tuple(subjects.split()), tuple(map(_place, rest.split()))
    port = run_kernel if patterns[0] in KERNELS else None
    for entry in entries:
        first, *lines = entry.split("\n")
        name, _, description = first.partition(": ")
        lines = [line[4:] for line in lines]
        seen = tuple(line[len(SEEN) :] for line in lines if line.startswith(SEEN))
        packages = tuple(seen[0].split("; ")) if seen else ()
        change = "\n".join(line for line in lines if not line.startswith(SEEN))
        yield Bug(name, patterns, places, change, description, packages, port)


def _place(name: str) -> Any:
    """Return the function or class ``module:name`` of the package."""
    module, _, qualname = name.partition(":")
    return attrgetter(qualname)(import_module(f"numpy_xlstm.{module}"))
