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
        "The state is given and all 0, m too: a memory of nothing with the weight e^0, "
        "which is not the empty state: the final c, n and m differ.",
    ),
    "zero-memory": Flag(
        "initial state",
        "The state is given and all 0 but for m, which is so large that exp(ĩ − m) is 0: nothing, "
        "whatever its weight, is nothing, and the first step begins a memory.",
    ),
    "mixed-rows": Flag(
        "decision for a batch",
        "One row is fresh and its input gate is all but closed, beside rows that are live: what is "
        "decided for the whole batch, such as all(n == 0), divides 0 by 0 in that row.",
    ),
    "closed-gates": Flag(
        "saturation",
        "Gates are all but 0, and so are gradients: what is formed by cancellation has no digit.",
    ),
    "large-pre-activations": Flag(
        "overflow",
        "Pre-activations of gates up to ±100 in float32 and ±1000 in float64: e^x overflows "
        "without a stabiliser, and log σ(x) by the logarithm of 0 is infinite.",
    ),
    "far-memory": Flag(
        "saturation",
        "σ(f̃) is 0 in the dtype, beside a memory that is so large that it counts: the logarithm of "
        "0 loses it, that of σ(f̃) does not.",
    ),
    "square-memory": Flag("layout", "Keys as wide as values: C has the shape of its transpose."),
    "one-row": Flag("squeezed axis", "A batch of one row."),
    "one-head": Flag("squeezed axis", "One head, as wide as h."),
    "one-step": Flag("boundary", "A sequence of one step: nothing is carried on."),
    "no-step": Flag("boundary", "A sequence of no step: the state and its cotangent pass through."),
    "padding": Flag(
        "padding",
        "Rows of 7, 0 and 4 steps. Steps after the last change no state, have outputs of 0, get "
        "gradients of 0, and their cotangents are ignored.",
    ),
    "chunks": Flag(
        "chunk boundary",
        "A sequence just below, at or above the size of a chunk.",
    ),
    "reset": Flag("overflow", "A forget gate so closed that nothing is left of what came before."),
    "eps": Flag("denominator", "eps is 0, or so large that it is seen where it is added."),
    "tie": Flag(
        "rule for ties",
        "log f + m₋ equals log i: the maximum passes its cotangent to log f + m₋ alone.",
    ),
    "near-tie": Flag(
        "rule for ties",
        "log i is the next number above log f + m₋, and f′ rounds to 1: log i is the maximum, and "
        "has its cotangent.",
    ),
    "kink": Flag(
        "rule for ties",
        "|q·n| equals e^−m: the derivative is that of the branch |q·n|.",
    ),
}
