"""Situations of cases: ordinary numbers, and inputs with which ports often fail."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from numpy_xlstm.conformance.bounds import SIXTEEN_BITS, is_parameter
from numpy_xlstm.conformance.catalogue import CHUNK
from numpy_xlstm.conformance.draft import Draft
from numpy_xlstm.conformance.subjects import Subject

B, T = 3, 7
"""Number of rows, and of steps: two chunks and one step more."""

Fits = Callable[[Subject, str], bool]
"""Function that returns whether a situation fits a variant of a subject."""
NORMALISER = 0.2
"""Smallest n of an sLSTM."""
BEYOND = 2.0**14
"""Number x for which e^−x is 0 even in longdouble."""


NOT_IN_16_BITS = {
    "empty-row-beside-live",
    "closed-gates",
    "large",
    "far-memory",
    "tie",
    "near-tie",
    "kink",
}
"""Situations that depend on digits, or on a range, that a state in 16 bits does not have."""
UNSTABLE = "mlstm.stack"
"""Subject in which a rounding to 16 bits changes results by as much as their size."""


@dataclass(frozen=True)
class Situation:
    """Change of ordinary inputs that makes a special case.

    Attributes
    ----------
    name : str
        Name in the id of the case.
    change : Callable[[Draft], None]
        Function that changes ordinary inputs in place.
    fits : Fits
        Whether the situation fits a variant of a subject.
    flags : tuple[str, ...]
        Classes of bugs: names in :data:`numpy_xlstm.conformance.flags.FLAGS`.
    B, T : int
        Rows and steps.
    options : dict
        Options in addition to those of the variant.
    """

    name: str
    change: Callable[[Draft], None] = lambda draft: None
    fits: Fits = lambda subject, variant: True
    flags: tuple[str, ...] = ()
    B: int = B
    T: int = T
    options: dict[str, Any] = field(default_factory=dict)

    def suits(self, subject: Subject, variant: str, dtype: str) -> bool:
        """Return whether a variant of a subject has a case in this situation and dtype."""
        if dtype in SIXTEEN_BITS and (self.name in NOT_IN_16_BITS or subject.name == UNSTABLE):
            return False
        if subject.situations:
            return self.name in subject.situations
        return self.fits(subject, variant)


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
        if name == "progress":
            array[...] = draft.uniform(0, 1, array.shape)
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
    draft.inputs["lengths"] = np.array([T, 0, 4])


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
    first = _first_step_is_exact(draft)
    for into, of in zip(draft.rows("i"), draft.rows("f"), strict=True):
        into[...], of[...] = np.round(into * 16) / 16, np.round(of * 16) / 16
        row = 0 if "x" not in draft.inputs else ...
        of[row] = np.abs(of[row]) + 1 if _exponential(draft) else BEYOND
        into[first] = of[first] if _exponential(draft) else 0


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


def _exponential(draft: Draft) -> bool:
    return draft.options.get("forget_gate") == "exp"


def _fits(
    *families: str, variant: str = "", option: str = "", steps: bool = False, stacks: bool = False
) -> Fits:
    """Return a function that requires the given families, variant, option and axis of steps.

    Without ``stacks``, a stack fits no situation.
    """

    def fits(subject: Subject, name: str) -> bool:
        return (
            (not families or subject.family in families)
            and variant in ("", name)
            and (not option or option in subject.variants[name])
            and (subject.steps or not steps)
            and (stacks or not subject.name.endswith(".stack"))
        )

    return fits


ONE_LAYER, STEPS, CHUNKWISE = _fits(), _fits(steps=True), _fits(option="chunk_size")
STABILISED, NORMALISED, MEMORY = _fits("slstm", "mlstm"), _fits("slstm"), _fits("mlstm")
MATRIX, TIES = _fits("mlstm", "mlstmsig"), _fits("slstm", "mlstm", variant="exp", stacks=True)


def _gated(subject: Subject, variant: str) -> bool:
    return subject.family != "elman" and ONE_LAYER(subject, variant)


def _bounded(subject: Subject, variant: str) -> bool:
    return _gated(subject, variant) and (subject.family, variant) != ("mlstmsig", "exp")


SITUATIONS = (
    Situation("ordinary"),
    Situation("no-state", no_state, flags=("empty-state",)),
    Situation("zero-state", zero_state, STABILISED, ("zero-state",)),
    Situation("zero-memory", zero_memory, NORMALISED, ("zero-memory",)),
    Situation("empty-row-beside-live", empty_row, STABILISED, ("empty-state", "mixed-rows")),
    Situation("closed-gates", closed, _gated, ("closed-gates",)),
    Situation("large", large, _bounded, ("large-pre-activations",)),
    Situation("far-memory", far_memory, STABILISED, ("far-memory",)),
    Situation("square-memory", fits=MATRIX, flags=("square-memory",), options={"qk_dim": 12}),
    Situation("one-row", fits=ONE_LAYER, flags=("one-row",), B=1),
    Situation(
        "one-head", fits=_fits(option="num_heads"), flags=("one-head",), options={"num_heads": 1}
    ),
    Situation("one-step", fits=STEPS, flags=("one-step",), T=1),
    Situation("no-step", fits=STEPS, flags=("no-step",), T=0),
    Situation("no-step-no-state", no_state, STEPS, ("no-step", "empty-state"), T=0),
    Situation("lengths", lengths, _fits(steps=True, stacks=True), ("padding",)),
    Situation("below-a-chunk", fits=CHUNKWISE, flags=("chunks",), T=CHUNK - 1),
    Situation("a-chunk", fits=CHUNKWISE, flags=("chunks",), T=CHUNK),
    Situation("above-a-chunk", fits=CHUNKWISE, flags=("chunks",), T=CHUNK + 1),
    Situation(
        "two-chunks",
        fits=CHUNKWISE,
        flags=("chunks", "square-memory"),
        T=2 * CHUNK,
        options={"qk_dim": 12},
    ),
    Situation("reset", reset, lambda subject, variant: "f" in subject.axes, ("reset",)),
    Situation("eps-zero", fits=MEMORY, flags=("eps",), options={"eps": 0.0}),
    Situation("eps-large", fits=MEMORY, flags=("eps",), options={"eps": 0.75}),
    Situation(
        "ignored",
        ignored,
        lambda subject, variant: False,  # the loss names its situations
        ("ignored-targets",),
        options={"ignore_index": -100},
    ),
    Situation("tie", tie, TIES, ("tie",)),
    Situation("near-tie", near_tie, TIES, ("near-tie",), T=1),
    Situation("kink", kink, MEMORY, ("kink",)),
    Situation("kink", relu_kink, _fits("elman", variant="relu"), ("kink",)),
)
