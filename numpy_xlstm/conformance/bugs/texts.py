"""Parser for the text files of known mistakes, one for each kind of subject.

A file has a title and sections. A section starts with the subjects and places of its mistakes. Each
mistake then has a name and a description, and, indented, optionally flags and packages, and the
changed lines, as in :class:`Bug`::

    # Known mistakes in the sLSTM

    [slstm.*] cells.slstm:sLSTMCell
    normaliser-clamped: an sLSTM that holds n at 1 or above
        shows in: large-pre-activations
        seen in: flashrnn 1.0.8; another package 2.0
        n = np.maximum(f * n_prev + i, 1)

If a change only removes lines, a line "..." separates it from the next change.
"""

import re
from collections.abc import Iterator
from importlib import import_module
from itertools import permutations
from operator import attrgetter
from pathlib import Path
from typing import Any

from numpy_xlstm.cells.gates import pre_activations, pre_activations_backward
from numpy_xlstm.cells.unroll import unroll_backward
from numpy_xlstm.conformance.bugs.bug import Bug
from numpy_xlstm.conformance.bugs.kernel import SUBJECTS, run_kernel
from numpy_xlstm.validation import enter_backward

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

CONVENTIONS = {
    "fizo": "as when the names igate and fgate in xlstm 2.0.6, which are exchanged, are taken "
    "literally",
    "iofz": "which is that of ONNX",
    "izfo": "which is that of TensorFlow 1",
}
"""Orders of the gates in other packages."""


FORMS = "sequence", "stack", "recurrent", "parallel", "chunkwise"
STATES = {
    "h": "lstm slstm gru original-gru elman peephole lstmp",
    "c": "lstm slstm peephole lstmp",
    "C": "mlstm mlstmsig",
    "n": "slstm mlstm",
    "m": "slstm mlstm",
}
"""For each part of a state, the families that have it."""


def read(name: str) -> list[Bug]:
    """Return the mistakes of a file."""
    text = Path(__file__).with_name(f"{name}.txt").read_text("utf-8")
    found = list(GENERATED[name]()) if name in GENERATED else []
    for section in text.split("\n\n")[1:]:
        head, *entries = re.split(r"\n(?=\S)", section.strip("\n"))
        subjects, _, rest = head[1:].partition("] ")
        patterns, places = tuple(subjects.split()), tuple(map(_place, rest.split()))
        port = run_kernel if patterns[0] in SUBJECTS else None
        for entry in entries:
            first, *lines = entry.split("\n")
            title, _, description = first.partition(": ")
            lines = [line[4:] for line in lines]
            fields = dict(line.split(" in: ") for line in lines if FIELD.match(line))
            change = "\n".join("" if n == "..." else n for n in lines if not FIELD.match(n))
            flags = tuple(fields.get("shows", "").split())
            seen = tuple(fields["seen"].split("; ")) if "seen" in fields else ()
            found.append(Bug(title, patterns, places, change, description, flags, seen, port))
    return found


def _place(name: str) -> Any:
    """Return the function or class ``module:name`` of the package."""
    module, _, qualname = name.partition(":")
    return attrgetter(qualname)(import_module(f"numpy_xlstm.{module}"))


def gate_orders() -> Iterator[Bug]:
    """Yield a mistake for each order of the rows of W, R and b except i, f, z, o."""
    for order in list(permutations("ifzo"))[1:]:
        read_as, convention = ", ".join(order), CONVENTIONS.get("".join(order))
        yield Bug(
            f"gates-in-order-{''.join(order)}",
            ("lstm.*", "slstm.*"),
            (pre_activations, pre_activations_backward),
            f"""
            - return np.split(x @ W.T + Rh + b, 4, axis=1)
            + {read_as} = np.split(x @ W.T + Rh + b, 4, axis=1)
            + return [i, f, z, o]
            - dg = np.concatenate(dgates, axis=1)
            + i, f, z, o = dgates
            + dg = np.concatenate(({read_as}), axis=1)
            """,
            f"a cell that reads the rows of W, R and b in the order {read_as}"
            + (f", {convention}" if convention else ""),
        )


def parts_of_states() -> Iterator[Bug]:
    """Yield mistakes that ignore the cotangent of a part of a state or return no gradient of it."""
    for part, families in STATES.items():
        seen = ("mlstm_kernels 2.0.6",) if part in "nm" else ()
        zero = f"dstate = dstate._replace({part}=np.zeros_like(dstate.{part}))"
        dropped = (
            f"cotangent-of-final-{part}-dropped",
            f"a backward that ignores the cotangent of the final {part}",
        )
        steps = tuple(f"{family}.step" for family in families.split())
        forms = tuple(f"{family}.{form}" for family in families.split() for form in FORMS)
        entry = "dstate = checked_cotangent(cell, dstate, {})".format
        change = f"- return {entry('len(dh)')[9:]}\n+ {entry('len(dh)')}\n+ {zero}\n+ return dstate"
        yield Bug(dropped[0], steps, (enter_backward,), change, dropped[1])
        change = f"- {entry('B')}\n+ {entry('B')}\n+ {zero}"
        yield Bug(dropped[0], forms, (unroll_backward,), change, dropped[1], (), seen)
        yield Bug(
            f"gradient-of-initial-{part}-dropped",
            forms,
            (unroll_backward,),
            f"- return dxs, dstate, grads\n+ {zero}\n+ return dxs, dstate, grads",
            f"a backward that returns no gradient of the initial {part}",
            seen_in=("mlstm_kernels 2.0.6", "flashrnn 1.0.8") if part == "m" else (),
        )


GENERATED = {"gated": gate_orders, "sequence": parts_of_states}
"""Functions that yield the first mistakes of a file: those that differ only in a name."""
