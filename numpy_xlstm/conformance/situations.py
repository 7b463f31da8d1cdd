"""What a case is about: ordinary numbers, and the situations in which ports go wrong."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from numpy_xlstm.conformance.catalogue import CHUNK
from numpy_xlstm.conformance.subjects import Arrays, Subject
from numpy_xlstm.numerics import Array

B, T = 3, 7
"""Rows and steps: two chunks and a step."""

STABILISED = ("slstm", "mlstm")
GATE_ROWS = {"slstm": "ifzo", "lstm": "ifzo", "lstmp": "ifzo", "peephole": "ifzo"}
GATE_ROWS |= {"gru": "rzn", "original-gru": "rzn"}
"""The gates whose rows stand one under the other in W, R and b."""
NORMALISER = 0.2
"""The least n of an sLSTM."""
BEYOND = 2.0**14
"""e^−x is 0 in longdouble, too."""


@dataclass
class Draft:
    """The inputs of a case in float64, while they are made."""

    subject: Subject
    options: dict[str, Any]
    inputs: Arrays
    rng: np.random.Generator
    largest: float
    """How large pre-activations are made, where they are made large."""
    dtype: str
    """Of the case."""
    exact: set[str] = field(default_factory=set)
    """Inputs that a rounding would bring into another branch."""

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> Array:
        """Uniform numbers, the same on every machine."""
        return low + (high - low) * self.rng.random(shape)

    @property
    def two_gates(self) -> str:
        """The gates that decide what is kept and what is let in."""
        return GATE_ROWS.get(self.subject.family, "if")[:2]

    def rows(self, gate: str, kind: str = "") -> list[Array]:
        """What belongs to a gate, as views: of the parameters W or b, and what is given of it."""
        gates, found = GATE_ROWS.get(self.subject.family, ""), []
        for name, array in self.inputs.items():
            if name in (gate, f"params.{kind}_{gate}"):
                found.append(array)
            elif name == "Wx":
                found.append(np.split(array, len(gates), axis=-1)[gates.index(gate)])
            elif name == f"params.{kind}" and gates:
                found.append(np.split(array, len(gates))[gates.index(gate)])
        return found


@dataclass(frozen=True)
class Situation:
    """What is special about a case.

    Attributes
    ----------
    name : str
        As it stands in the id of the case.
    change : Callable[[Draft], None]
        Changes ordinary inputs in place.
    fits : Callable[[Subject, str], bool]
        Whether a subject, in a variant, can be in it.
    flags : tuple[str, ...]
        What may go wrong there: names in :data:`numpy_xlstm.conformance.flags.FLAGS`.
    B, T : int
        Rows and steps.
    options : dict
        Options beside those of the variant.
    """

    name: str
    change: Callable[[Draft], None] = lambda draft: None
    fits: Callable[[Subject, str], bool] = lambda subject, variant: True
    flags: tuple[str, ...] = ()
    B: int = B
    T: int = T
    options: dict[str, Any] = field(default_factory=dict)

    def suits(self, subject: Subject, variant: str) -> bool:
        """Whether there is such a case."""
        if subject.situations:
            return self.name in subject.situations
        return self.fits(subject, variant)


def ordinary(draft: Draft) -> None:
    """Fill in numbers of order 1, all different; no n of an sLSTM is near 0."""
    inputs = draft.inputs
    for name, array in inputs.items():
        if array.dtype.kind == "i":
            array[...] = draft.rng.integers(draft.options[draft.subject.tokens], size=array.shape)
            continue
        array[...] = draft.uniform(-1.5, 1.5, array.shape)
        if name.startswith("params."):
            array *= 0.6
        if name == "progress":
            array[...] = draft.uniform(0, 1, array.shape)
        if name.startswith("state.") and name.endswith(".n") and f"{name[:-1]}h" in inputs:
            array[...] = draft.uniform(NORMALISER, 1.5, array.shape)


def no_state(draft: Draft) -> None:
    """Begin from the empty state, which is not given."""
    for name in [name for name in draft.inputs if name.split(".")[0] == "state"]:
        del draft.inputs[name]


def zero_state(draft: Draft) -> None:
    """Begin from a state that is given and all 0, m too."""
    for name, array in draft.inputs.items():
        if name.startswith("state."):
            array[...] = 0


def zero_memory(draft: Draft) -> None:
    """Begin from a state that is given and 0 but for an m beside which i′ is 0 in every format."""
    zero_state(draft)
    draft.inputs["state.m"] += BEYOND


def empty_row(draft: Draft) -> None:
    """Row 0 is fresh, and what its input gate lets in is tiny; the others are live."""
    for name, array in draft.inputs.items():
        if name.startswith("state."):
            array[0] = -np.inf if name.endswith("m") else 0
    for bias in draft.rows("i", "b"):
        if bias.ndim == 1:
            bias[::2] -= 120
    if "i" in draft.inputs:
        draft.inputs["i"][0, :, :2] -= 120
    if "Wx" in draft.inputs:
        draft.rows("i")[0][0, :2, ::2] -= 120


def closed(draft: Draft) -> None:
    """Gates that are all but 0."""
    for gate in draft.two_gates:
        for bias in draft.rows(gate, "b"):
            bias -= 25


def large(draft: Draft) -> None:
    """Pre-activations of two gates up to ±100 and beyond, of either sign."""
    for gate in draft.two_gates:
        for weight in draft.rows(gate, "W"):
            weight *= draft.largest


def far_memory(draft: Draft) -> None:
    """A forget gate of e^−x, which is 0 in the dtype, and a memory of the weight e^x."""
    far = 2 * draft.largest
    for bias in draft.rows("f", "b"):
        bias -= far
    draft.inputs["state.m"] += far


def lengths(draft: Draft) -> None:
    """Rows of different lengths, one of them empty."""
    draft.inputs["lengths"] = np.array([T, 0, 4])


def reset(draft: Draft) -> None:
    """Forget all that came before step 4, as at the start of a document."""
    draft.inputs["f"][:, :, 4] = -2 * draft.largest


def tie(draft: Draft) -> None:
    """At the first step of row 0, log f + m₋ is log i to the last bit.

    Later forget gates are above 1, so that this step's m is seen in those after it.
    """
    _first_step_is_exact(draft)
    if "i" in draft.inputs or "Wx" in draft.inputs:
        for into, of in zip(draft.rows("i"), draft.rows("f"), strict=True):
            first = (0, slice(None), 0) if "i" in draft.inputs else (0, 0)
            of[0] = np.abs(of[0]) + 1
            into[first] = of[first]
    else:
        for into, of in zip(draft.rows("i", "b"), draft.rows("f", "b"), strict=True):
            into[...] = of[...] = np.abs(of) + 1


def near_tie(draft: Draft) -> None:
    """At the only step of row 0, log i is the next number above log f + m₋, so that f′ rounds to 1.

    Above 1/8 and below 1/6 they are two numbers also when they are divided by log 2.
    """
    _first_step_is_exact(draft)
    kind = "" if "i" in draft.inputs or "Wx" in draft.inputs else "b"
    rows = slice(None) if kind else 0
    for into, of in zip(draft.rows("i", kind), draft.rows("f", kind), strict=True):
        of[rows] = ((4 + np.abs(of[rows]) % 1) / 32).astype(draft.dtype)
        into[rows] = np.nextafter(of[rows].astype(draft.dtype), 1, dtype=draft.dtype)


def kink(draft: Draft) -> None:
    """At the first step of row 0, which is fresh, q·n is e^−m = 1 to the last bit."""
    NH, DK = draft.options["num_heads"], draft.options["qk_dim"] // draft.options["num_heads"]
    q, k = np.full((NH, DK), 0.5), np.full((NH, DK), -0.25)
    q[:, 0], k[:, 0] = 2.0, 0.5 + (DK - 1) / 16  # q·k = 1
    inputs = draft.inputs
    if "q" in inputs:
        inputs["q"][0, :, 0], inputs["k"][0, :, 0], inputs["i"][0, :, 0] = q, k * DK**0.5, 0
        draft.exact |= {"q", "k", "i"}
    else:
        _first_step_is_of_biases(draft)
        inputs["params.b_q"][...], inputs["params.b_k"][...] = q.ravel(), k.ravel()
        inputs["params.b_i"][...] = 0
    for name, empty in (("state.C", 0), ("state.n", 0), ("state.m", -np.inf)):
        inputs[name][0] = empty


def _first_step_is_exact(draft: Draft) -> None:
    """In row 0 no rounding moves log f + m₋ and log i of the first step."""
    if "i" in draft.inputs or "Wx" in draft.inputs:
        draft.exact |= {"i", "f", "Wx"}
    else:
        _first_step_is_of_biases(draft)
    for name in ("state.m", "state.h"):
        if name in draft.inputs:
            draft.inputs[name][0] = 0


def _first_step_is_of_biases(draft: Draft) -> None:
    """Row 0 has x = 0 at first, so that pre-activations are biases, which no rounding moves."""
    x = draft.inputs["x"]
    x[(0,) * (x.ndim - 1)] = 0
    draft.exact |= {name for name in draft.inputs if name.startswith("params.b")}


def _stabilised(subject: Subject, variant: str) -> bool:
    return subject.family in STABILISED and _one_layer(subject, variant)


def _normalised(subject: Subject, variant: str) -> bool:
    return subject.family == "slstm" and _one_layer(subject, variant)


def _ties(subject: Subject, variant: str) -> bool:
    return _stabilised(subject, variant) and variant == "exp"


def _steps(subject: Subject, variant: str) -> bool:
    return subject.steps


def _one_layer(subject: Subject, variant: str) -> bool:
    return not subject.name.endswith(".stack")


def _one_layer_steps(subject: Subject, variant: str) -> bool:
    return subject.steps and _one_layer(subject, variant)


def _memory(subject: Subject, variant: str) -> bool:
    return subject.family == "mlstm" and _one_layer(subject, variant)


def _matrix(subject: Subject, variant: str) -> bool:
    return subject.family in ("mlstm", "mlstmsig") and not subject.name.endswith(".stack")


def _gated(subject: Subject, variant: str) -> bool:
    return subject.family != "elman" and _one_layer(subject, variant)


def _bounded(subject: Subject, variant: str) -> bool:
    return _gated(subject, variant) and (subject.family != "mlstmsig" or variant == "sigmoid")


def _with_heads(subject: Subject, variant: str) -> bool:
    return "num_heads" in subject.variants[variant] and _one_layer(subject, variant)


def _given_memory(subject: Subject, variant: str) -> bool:
    return "f" in subject.axes


def _chunkwise(subject: Subject, variant: str) -> bool:
    return subject.name.endswith(".chunkwise")


SITUATIONS = (
    Situation("ordinary"),
    Situation("no-state", no_state, flags=("empty-state",)),
    Situation("zero-state", zero_state, _stabilised, ("zero-state",)),
    Situation("zero-memory", zero_memory, _normalised, ("zero-memory",)),
    Situation("empty-row-beside-live", empty_row, _stabilised, ("empty-state", "mixed-rows")),
    Situation("closed-gates", closed, _gated, ("closed-gates",)),
    Situation("large", large, _bounded, ("large-pre-activations",)),
    Situation("far-memory", far_memory, _stabilised, ("far-memory",)),
    Situation("square-memory", fits=_matrix, flags=("square-memory",), options={"qk_dim": 12}),
    Situation("one-row", fits=_one_layer, flags=("one-row",), B=1),
    Situation("one-head", fits=_with_heads, flags=("one-head",), options={"num_heads": 1}),
    Situation("one-step", fits=_one_layer_steps, flags=("one-step",), T=1),
    Situation("no-step", fits=_one_layer_steps, flags=("no-step",), T=0),
    Situation("no-step-no-state", no_state, _one_layer_steps, ("no-step", "empty-state"), T=0),
    Situation("lengths", lengths, _steps, ("padding",)),
    Situation("below-a-chunk", fits=_chunkwise, flags=("chunks",), T=CHUNK - 1),
    Situation("a-chunk", fits=_chunkwise, flags=("chunks",), T=CHUNK),
    Situation("above-a-chunk", fits=_chunkwise, flags=("chunks",), T=CHUNK + 1),
    Situation(
        "two-chunks",
        fits=_chunkwise,
        flags=("chunks", "square-memory"),
        T=2 * CHUNK,
        options={"qk_dim": 12},
    ),
    Situation("reset", reset, _given_memory, ("reset",)),
    Situation("eps-zero", fits=_memory, flags=("eps",), options={"eps": 0.0}),
    Situation("eps-large", fits=_memory, flags=("eps",), options={"eps": 0.75}),
    Situation("tie", tie, _ties, ("tie",)),
    Situation("near-tie", near_tie, _ties, ("near-tie",), T=1),
    Situation("kink", kink, _memory, ("kink",)),
)
