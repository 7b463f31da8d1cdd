"""Flags of cases; each flag is a class of bugs that the case can reveal."""

from typing import NamedTuple


class Flag(NamedTuple):
    """A class of bugs, and the property of a case that reveals it."""

    bug: str
    description: str


FLAGS = {
    "empty-state": Flag(
        "initial state",
        "The state before the first step is empty: all 0, and the stabiliser m is −inf.",
    ),
    "zero-state": Flag(
        "initial state",
        "The state is given and all 0, including m. It is not the empty state: its weight is "
        "e^m = 1, so the final c or C, n and m differ from those after the empty state.",
    ),
    "zero-memory": Flag(
        "initial state",
        "The state is given and all 0 except m, which is so large that exp(ĩ − m) is 0. A memory "
        "with n = 0 is empty for any m, and the first step starts a new one.",
    ),
    "mixed-rows": Flag(
        "decision for the whole batch",
        "One row starts from the empty state with an almost closed input gate; the others do not. "
        "A decision for the whole batch, such as all(n == 0), divides 0 by 0 in that row.",
    ),
    "closed-gates": Flag(
        "saturation",
        "Gates and gradients are almost 0: a number computed with cancellation has no correct "
        "digit.",
    ),
    "large-pre-activations": Flag(
        "overflow",
        "Pre-activations of gates of about 100 in float32 and 1000 in float64: e^x overflows "
        "without a stabiliser, and log σ(x) is infinite if σ(x) is computed first and "
        "becomes 0.",
    ),
    "far-memory": Flag(
        "saturation",
        "σ(f̃) underflows to 0, but the memory is so large that it still contributes: log 0 loses "
        "it, but an exact log σ(f̃) does not.",
    ),
    "square-memory": Flag(
        "layout",
        "Keys are as wide as values, so that C and its transpose have the same shape.",
    ),
    "one-row": Flag("squeezed axis", "A batch of one row."),
    "one-head": Flag("squeezed axis", "One head, as wide as h."),
    "one-step": Flag("boundary", "A sequence of one step, without recurrence."),
    "no-step": Flag(
        "boundary", "A sequence of no steps: the state and its cotangent are returned."
    ),
    "padding": Flag(
        "padding",
        "Rows of 7, 0 and 4 steps. Steps after the last change no state, have outputs of 0, get "
        "gradients of 0, and their cotangents are ignored.",
    ),
    "chunks": Flag(
        "chunk boundary",
        "A sequence just below, at or above the size of a chunk.",
    ),
    "reset": Flag(
        "overflow",
        "A forget gate so close to 0 that nothing of the previous memory is left.",
    ),
    "eps": Flag("denominator", "eps is 0, or so large that the place where it is added matters."),
    "ignored-targets": Flag(
        "mean",
        "Some targets are the index to ignore: their positions are not part of the mean loss.",
    ),
    "tie": Flag(
        "rule for ties",
        "log f + m₋ equals log i: the maximum passes its cotangent to log f + m₋ alone.",
    ),
    "near-tie": Flag(
        "rule for ties",
        "log i is the next number above log f + m₋, and f′ rounds to 1: log i is the maximum and "
        "gets its cotangent.",
    ),
    "kink": Flag(
        "rule for ties",
        "|q·n| equals e^−m: the maximum passes its cotangent to |q·n| alone. Or the argument of a "
        "ReLU is exactly 0: the derivative of the ReLU is 0 there.",
    ),
}

EDGES = {
    "tie": "two numbers are exactly equal",
    "near-tie": "two numbers differ in their last digit",
    "kink": "a number is exactly at the kink of a function",
    "no-step": "a sequence has no steps",
    "empty-state": "a sequence begins without a state, as the first one does",
    "zero-memory": "a given state is 0 except for its m",
}
"""Flags of edge cases, and when they matter, as a clause after "only if"."""
