"""Flags of cases, each with the property of a case that reveals a class of bugs."""

FLAGS = {
    "empty-state": "The state before the first step is empty: all 0, and the stabiliser m is −inf.",
    "zero-state": (
        "The state is given and all 0, including m. It is not the empty state: its weight is "
        "e^m = 1, so the final c or C, n and m differ from those after the empty state."
    ),
    "zero-memory": (
        "The state is given and all 0 except m, which is so large that exp(ĩ − m) is 0. A memory "
        "with n = 0 is empty for any m, and the first step starts a new one."
    ),
    "mixed-rows": (
        "One row starts from the empty state with an almost closed input gate; the others do not. "
        "A decision for the whole batch, such as all(n == 0), divides 0 by 0 in that row."
    ),
    "closed-gates": (
        "Gates and gradients are almost 0: a number computed with cancellation has no correct "
        "digit."
    ),
    "open-gates": (
        "Gates are so close to 1, and z to ±1, that their slopes are tiny, as is log f: 1 − z², "
        "y(1 − y) and log(1 + e) have no correct digit."
    ),
    "large-pre-activations": (
        "Pre-activations of gates of about 100 in float32 and 1000 in float64: e^x overflows "
        "without a stabiliser, and log σ(x) is infinite if σ(x) is computed first and "
        "becomes 0."
    ),
    "far-memory": (
        "σ(f̃) underflows to 0, but the memory is so large that it still contributes: log 0 loses "
        "it, but an exact log σ(f̃) does not."
    ),
    "square-memory": "Keys are as wide as values, so that C and its transpose have the same shape.",
    "one-row": "A batch of one row.",
    "one-head": "One head, as wide as h.",
    "one-step": "A sequence of one step, without recurrence.",
    "no-step": "A sequence of no steps: the state and its cotangent are returned.",
    "padding": (
        "Rows of 7, 0 and 4 steps. Steps after the last change no state, have outputs of 0, get "
        "gradients of 0, and their cotangents are ignored."
    ),
    "chunks": "A sequence just below, at or above the size of a chunk.",
    "reset": "A forget gate so close to 0 that nothing of the previous memory is left.",
    "eps": "eps is 0, or so large that the place where it is added matters.",
    "ignored-targets": (
        "Some targets are the index to ignore: their positions are not part of the mean loss."
    ),
    "tie": "log f + m₋ equals log i: the maximum passes its cotangent to log f + m₋ alone.",
    "near-tie": (
        "log i is the next number above log f + m₋, and f′ rounds to 1: log i is the maximum and "
        "gets its cotangent."
    ),
    "kink": (
        "|q·n| equals e^−m: the maximum passes its cotangent to |q·n| alone. Or the argument of a "
        "ReLU is exactly 0: the derivative of the ReLU is 0 there."
    ),
}

EDGES = {
    "tie": "two numbers are exactly equal",
    "near-tie": "two numbers differ in their last digit",
    "kink": "a number is exactly at the kink of a function",
    "no-step": "a sequence has no steps",
    "empty-state": "a sequence begins without a state, as the first one does",
    "zero-memory": "a given state is 0 except for its m",
    "open-gates": "gates are saturated where all gradients are tiny; autograd loses them",
}
"""Flags of edge cases, and when they matter, as a clause after "only if"."""
