"""Situations of cases: ordinary numbers, and inputs with which ports often fail."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from numpy_xlstm.conformance.bounds import SIXTEEN_BITS, is_parameter
from numpy_xlstm.conformance.subjects import CHUNK, Subject
from numpy_xlstm.numerics import Array, Arrays

ROWS, STEPS = 3, 7
"""Number of rows, and of steps: two chunks and one step more."""
NORMALISER = 0.2
"""Smallest n of an sLSTM."""
SQUARE: dict[str, Any] = {"qk_dim": 12}
"""Option with which C is square."""
BEYOND = 2.0**14
"""Number x for which e^−x is 0 even in longdouble."""
DIGITS = "empty-row-beside-live closed-gates open-gates large far-memory tie near-tie kink"
"""Situations that depend on digits, or on a range, that a state in 16 bits does not have."""
TOO_DEEP_FOR_16_BITS = ("mlstm.stack",)
"""Subjects in which a rounding to 16 bits changes results by as much as their size."""
GATE_ROWS = {"slstm": "ifzo", "lstm": "ifzo", "lstmp": "ifzo", "peephole": "ifzo"}
GATE_ROWS |= {"gru": "rzn", "original-gru": "rzn"}
"""Gates in the order of their rows in W, R and b."""


@dataclass
class Draft:
    """Inputs of a case under construction, in float64."""

    subject: Subject
    options: dict[str, Any]
    inputs: Arrays
    rng: np.random.Generator
    dtype: str
    """Dtype of the case."""
    exact: set[str] = field(default_factory=set)
    """Names of inputs that must not be perturbed, because of a tie or kink."""

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> Array:
        """Return uniform numbers, the same on every machine."""
        return low + (high - low) * self.rng.random(shape)

    @property
    def largest(self) -> float:
        """Factor of pre-activations in situations with large ones."""
        return 600.0 if self.dtype == "float64" else 60.0

    @property
    def two_gates(self) -> str:
        """The two gates that situations close or make large: i and f, or r and z of a GRU."""
        return GATE_ROWS.get(self.subject.family, "if")[:2]

    def rows(self, gate: str, kind: str = "b") -> list[Array]:
        """Return views of the parts of W or b, and of given inputs, that belong to a gate."""
        gates, found = GATE_ROWS.get(self.subject.family, "ifzo"), []
        word = "weight" if kind == "W" else "bias"
        for name, array in self.inputs.items():
            base = re.sub(r"_l\d+(_reverse)?$", "", name)
            if base in (gate, f"params.{kind}_{gate}") or base.endswith(f".{gate}gate.{word}"):
                found.append(array)
            elif name == "Wx":
                found.append(np.split(array, len(gates), axis=-1)[gates.index(gate)])
            elif base == f"params.{kind}" or base.endswith(f"_{word}_"):
                found.append(np.split(array, len(gates))[gates.index(gate)])
        return found


@dataclass(frozen=True)
class Situation:
    """Change of ordinary inputs that makes a special case."""

    name: str
    """Name in the id of the case."""
    change: Callable[[Draft], None] = lambda draft: None
    """Function that changes ordinary inputs in place."""
    fits: str = "*"
    """Patterns of SUBJECT.VARIANT that it fits, such as ``slstm.*.exp``."""
    but: str = "*.stack.*"
    """Patterns of those that it does not fit."""
    flags: str = ""
    """Classes of bugs: names in :data:`numpy_xlstm.conformance.flags.FLAGS`."""
    B: int = ROWS
    T: int = STEPS
    options: dict[str, Any] = field(default_factory=dict)
    """Options that replace those of a variant that has them."""

    def suits(self, subject: Subject, variant: str, dtype: str) -> bool:
        """Return whether a variant of a subject has a case in this situation and dtype."""
        if dtype in SIXTEEN_BITS and (
            self.name in DIGITS.split() or subject.name in TOO_DEEP_FOR_16_BITS
        ):
            return False
        if subject.situations:
            return self.name in subject.situations
        fit, unfit = (
            any(fnmatchcase(f"{subject.name}.{variant}", pattern) for pattern in patterns.split())
            for patterns in (self.fits, self.but)
        )
        return fit and not unfit and self.options.keys() <= subject.variants[variant].keys()


def ordinary(draft: Draft) -> None:
    """Fill inputs with different numbers of order 1; keep the n of an sLSTM away from 0."""
    inputs = draft.inputs
    for name, array in inputs.items():
        if array.dtype.kind == "i":
            array[...] = draft.rng.integers(draft.options[draft.subject.tokens], size=array.shape)
            continue
        array[...] = draft.uniform(-1.5, 1.5, array.shape)
        if is_parameter(name):
            array *= 0.6
        if name.startswith("state.") and name.endswith(".n") and f"{name[:-1]}h" in inputs:
            array[...] = draft.uniform(NORMALISER, 1.5, array.shape)


def no_state(draft: Draft) -> None:
    """Remove the state, so that a port starts from the empty state."""
    for name in [name for name in draft.inputs if name.split(".")[0] == "state"]:
        del draft.inputs[name]


def zero_state(draft: Draft) -> None:
    """Set the state to 0, including m."""
    for name, array in draft.inputs.items():
        if name.startswith("state."):
            array[...] = 0


def zero_memory(draft: Draft) -> None:
    """Set the state to 0, except an m so large that i′ is 0 in every dtype."""
    zero_state(draft)
    draft.inputs["state.m"] += BEYOND


def empty_row(draft: Draft) -> None:
    """Give row 0 an empty state, and almost close some input gates: by biases those of all rows."""
    for name, array in draft.inputs.items():
        if name.startswith("state."):
            array[0] = -np.inf if name.endswith("m") else 0
    for bias in draft.rows("i"):
        if bias.ndim == 1:
            bias[::2] -= 120
    if "i" in draft.inputs:
        draft.inputs["i"][0, :, :2] -= 120
    if "Wx" in draft.inputs:
        draft.rows("i")[0][0, :2, ::2] -= 120


def closed(draft: Draft) -> None:
    """Make gates almost 0."""
    for gate in draft.two_gates:
        for bias in draft.rows(gate):
            bias -= 25


def opened(draft: Draft) -> None:
    """Saturate f, z and o, whose slopes are then about e^−50, and close the input gate.

    So all gradients are tiny. In row 0, which starts from the empty state, c = z = 1 and n = 1, and
    ĩ gets no gradient. In the other rows, m is log f, which is tiny, too.
    """
    inputs = draft.inputs
    for gate, bias in {"i": -50, "f": 50, "z": 25, "o": 50}.items():
        for own in draft.rows(gate):
            own += bias
    inputs["state.m"] *= np.exp(-50)
    for name in "hcnm":
        inputs[f"state.{name}"][0] = -np.inf if name == "m" else 0
        inputs[f"dstate.{name}"][0] *= name == "h"


def large(draft: Draft) -> None:
    """Make pre-activations of the two gates large: about 100 in float32 and 1000 in float64."""
    for gate in draft.two_gates:
        for weight in draft.rows(gate, "W"):
            weight *= draft.largest


def far_memory(draft: Draft) -> None:
    """Use a forget gate of e^−x, which underflows, and a memory with the weight e^x."""
    far = 2 * draft.largest
    for bias in draft.rows("f"):
        bias -= far
    draft.inputs["state.m"] += far


def lengths(draft: Draft) -> None:
    """Give the rows different lengths, one of them 0."""
    draft.inputs["lengths"] = np.array([STEPS, 0, 4])


def reset(draft: Draft) -> None:
    """Close the forget gate at step 4, as at the start of a document."""
    draft.inputs["f"][:, :, 4] = -2 * draft.largest


def ignored(draft: Draft) -> None:
    """Ignore every second target of row 0, and all of row 1."""
    targets = draft.inputs["targets"]
    targets[0, ::2] = targets[1] = draft.options["ignore_index"]


def tie(draft: Draft) -> None:
    """Make log f + m₋ exactly equal to log i at the first step of row 0.

    Later gates are such that the tie affects later steps: an exponential forget gate is above 1,
    and a sigmoid forget gate is 1. Gates have few digits, so that every order of addition gives
    the same exponents.
    """
    first, exponential = _first_step_is_exact(draft), draft.options.get("forget_gate") == "exp"
    for into, of in zip(draft.rows("i"), draft.rows("f"), strict=True):
        into[...], of[...] = np.round(into * 16) / 16, np.round(of * 16) / 16
        row = 0 if "x" not in draft.inputs else ...
        of[row] = np.abs(of[row]) + 1 if exponential else BEYOND
        into[first] = of[first] if exponential else 0


def near_tie(draft: Draft) -> None:
    """Make log i the next number above log f + m₋ at the only step of row 0; f′ rounds to 1.

    The numbers are between 1/8 and 1/6, where they remain different after a division by log 2.
    """
    _first_step_is_exact(draft)
    rows = slice(None) if "x" in draft.inputs else 0
    for into, of in zip(draft.rows("i"), draft.rows("f"), strict=True):
        of[rows] = ((4 + np.abs(of[rows]) % 1) / 32).astype(draft.dtype)
        into[rows] = np.nextafter(of[rows].astype(draft.dtype), 1, dtype=draft.dtype)


def kink(draft: Draft) -> None:
    """Make q·n exactly e^−m = 1 at the first step of row 0, which starts from the empty state."""
    NH, DK = draft.options["num_heads"], draft.options["qk_dim"] // draft.options["num_heads"]
    q, k = np.full((NH, DK), 0.5), np.full((NH, DK), -0.25)
    q[:, 0], k[:, 0] = 2.0, 0.5 + (DK - 1) / 16  # q·k = 1
    inputs = draft.inputs
    if "q" in inputs:
        inputs["q"][0, :, 0], inputs["k"][0, :, 0], inputs["i"][0, :, 0] = q, k * DK**0.5, 0
        draft.exact |= {"q", "k", "i"}
    else:
        inputs["x"][(0,) * (inputs["x"].ndim - 1)] = 0  # so that biases alone count
        draft.exact |= {name for name in inputs if name.startswith("params.b")}
        inputs["params.b_q"][...], inputs["params.b_k"][...] = q.ravel(), k.ravel()
        inputs["params.b_i"][...] = 0
    for name, empty in (("state.C", 0), ("state.n", 0), ("state.m", -np.inf)):
        inputs[name][0] = empty


def relu_kink(draft: Draft) -> None:
    """Make every second pre-activation of a ReLU exactly 0 at the first step of row 0."""
    inputs = draft.inputs
    inputs["x"][(0,) * (inputs["x"].ndim - 1)] = 0
    inputs["state.h"][0] = 0
    inputs["params.b"][::2] = 0


def _first_step_is_exact(draft: Draft) -> Any:
    """Make log f + m₋ and log i exact at the first step of row 0; return the place of this step.

    Both gates are given inputs, or equal their biases, because their weights are set to 0.
    """
    inputs = draft.inputs
    for name, array in inputs.items():
        if name.startswith("state.") and name.endswith((".m", ".h")):
            array[0] = 0
    draft.exact |= {"i", "f", "Wx", *(n for n in inputs if "bias" in n or n[:8] == "params.b")}
    if "x" not in inputs:
        return (0, slice(None), 0) if "i" in inputs else (0, 0)
    for gate in "if":
        for weight in draft.rows(gate, "W"):
            weight[...] = 0
    return ...


NOT_OF_STEPS, CHUNKWISE, STABILISED = "*.step.* *.stack.*", "*.chunkwise.*", "slstm.* mlstm.*"
SITUATIONS = (
    Situation("ordinary", but=""),
    Situation("no-state", no_state, but="", flags="empty-state"),
    Situation("zero-state", zero_state, STABILISED, flags="zero-state"),
    Situation("zero-memory", zero_memory, "slstm.*", flags="zero-memory"),
    Situation("empty-row-beside-live", empty_row, STABILISED, flags="empty-state mixed-rows"),
    Situation("closed-gates", closed, but="*.stack.* elman.*", flags="closed-gates"),
    Situation("open-gates", opened, "slstm.s*.sigmoid", flags="open-gates", T=1),
    Situation(
        "large", large, but="*.stack.* elman.* mlstmsig.*.exp", flags="large-pre-activations"
    ),
    Situation("far-memory", far_memory, STABILISED, flags="far-memory"),
    Situation("square-memory", flags="square-memory", options=SQUARE),
    Situation("one-row", flags="one-row", B=1),
    Situation("one-head", flags="one-head", options={"num_heads": 1}),
    Situation("one-step", but=NOT_OF_STEPS, flags="one-step", T=1),
    Situation("no-step", but=NOT_OF_STEPS, flags="no-step", T=0),
    Situation("no-step-no-state", no_state, but=NOT_OF_STEPS, flags="no-step empty-state", T=0),
    Situation("lengths", lengths, but="*.step.*", flags="padding"),
    Situation("below-a-chunk", fits=CHUNKWISE, flags="chunks", T=CHUNK - 1),
    Situation("a-chunk", fits=CHUNKWISE, flags="chunks", T=CHUNK),
    Situation("above-a-chunk", fits=CHUNKWISE, flags="chunks", T=CHUNK + 1),
    Situation(
        "two-chunks",
        fits=CHUNKWISE,
        flags="chunks square-memory",
        T=2 * CHUNK,
        options=SQUARE,
    ),
    Situation(
        "reset", reset, "mlstm*.recurrent.* mlstm*.parallel.* mlstm*.chunkwise.*", flags="reset"
    ),
    Situation("eps-zero", flags="eps", options={"eps": 0.0}),
    Situation("eps-large", flags="eps", options={"eps": 0.75}),
    Situation("ignored", ignored, flags="ignored-targets", options={"ignore_index": -100}),
    Situation("tie", tie, "slstm.*.exp mlstm.*.exp", "", "tie"),
    Situation("near-tie", near_tie, "slstm.*.exp mlstm.*.exp", "", "near-tie", T=1),
    Situation("kink", kink, "mlstm.*", flags="kink"),
    Situation("kink", relu_kink, "elman.*.relu", flags="kink"),
)
