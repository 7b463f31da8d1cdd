"""Parser for the text files of known mistakes, one for each kind of subject.

A file has a title and sections. A section starts with the subjects and places of its mistakes, in
which single lines are changed too. Each mistake then has a name and a description, and, indented,
optionally flags and packages, and the changed lines, as in :class:`Bug`::

    # Known mistakes in the sLSTM

    [slstm.*] cells.slstm:sLSTMCell
    normaliser-clamped: an sLSTM that holds n at 1 or above
        shows in: large-pre-activations
        seen in: flashrnn 1.0.8; another package 2.0
        n = np.maximum(f * n_prev + i, 1)

A mistake in the forward changes the forward alone: a right backward of the changed forward is
recognised by its derivative. If a change only removes lines, a line "..." separates it from the
next change.
"""

import re
from fnmatch import fnmatchcase
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from numpy_xlstm.conformance.bugs.bug import Bug, Run
from numpy_xlstm.conformance.bugs.kernel import SUBJECTS, run_kernel

FIELD = re.compile("(shows|seen) in: ")
TITLES = {
    "gated": "Gates, LSTM, peepholes, projection",
    "gru": "GRU and Elman",
    "slstm": "sLSTM",
    "mlstm": "mLSTM",
    "mlstm_backward": "The backward of mLSTM",
    "chunkwise": "The chunkwise form of mLSTM",
    "sequence": "Sequences and stacks",
    "layers": "Layers, blocks and models",
    "training": "Training",
}
"""Names of the files, and their titles on the page of known mistakes."""


class Section(NamedTuple):
    """Mistakes in the same subjects and places; ``port`` is that of :class:`Bug`."""

    subjects: tuple[str, ...]
    places: tuple[Any, ...]
    port: Run | None
    bugs: list[Bug]

    def concerns(self, subject: str) -> bool:
        """Return whether the mistakes are possible in a subject."""
        return any(fnmatchcase(subject, pattern) for pattern in self.subjects)


def read(name: str) -> list[Section]:
    """Return the sections of a file."""
    text = Path(__file__).with_name(f"{name}.txt").read_text("utf-8")
    return [_section(section.strip("\n")) for section in text.split("\n\n")[1:]]


def _section(text: str) -> Section:
    head, *entries = re.split(r"\n(?=\S)", text)
    subjects, _, rest = head[1:].partition("] ")
    patterns, places = tuple(subjects.split()), tuple(map(_place, rest.split()))
    port = run_kernel if patterns[0] in SUBJECTS else None
    bugs = []
    for entry in entries:
        first, *lines = entry.split("\n")
        name, _, description = first.partition(": ")
        lines = [line[4:] for line in lines]
        fields = dict(line.split(" in: ") for line in lines if FIELD.match(line))
        change = "\n".join("" if n == "..." else n for n in lines if not FIELD.match(n))
        flags = tuple(fields.get("shows", "").split())
        seen = tuple(fields["seen"].split("; ")) if "seen" in fields else ()
        bugs.append(Bug(name, patterns, places, change, description, flags, seen, port))
    return Section(patterns, places, port, bugs)


def _place(name: str) -> Any:
    """Return the function or class ``module:name`` of the package."""
    module, _, qualname = name.partition(":")
    return attrgetter(qualname)(import_module(f"numpy_xlstm.{module}"))
