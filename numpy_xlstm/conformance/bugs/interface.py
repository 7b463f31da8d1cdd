"""Mistakes at the interface of a port: other options, inputs or cotangents, or changed results.

They change no line of the specification. A port that reads the gates in another order is the
specification with rearranged parameters, whose gradients are taken back through the same map. The
axes of a subject's tensors tell which maps are possible.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np

from numpy_xlstm.conformance.bugs.bug import Around, Arrays, Bug, Options, Run
from numpy_xlstm.conformance.bugs.maps import (
    ChangedResults,
    axes_of,
    exchanged,
    interleaved,
    multiplied,
    patterns_of,
    read_as,
    rearranged,
    scaled,
    scaled_with_gradients,
    taken,
    turned,
    with_inputs,
    with_options,
)
from numpy_xlstm.conformance.case_data import CaseData
from numpy_xlstm.conformance.subjects import Subject, gradient_of, positional

CONVENTIONS = {
    "fizo": "as when the names igate and fgate in xlstm 2.0.6, which are exchanged, are taken "
    "literally",
    "iofz": "which is that of ONNX",
    "izfo": "which is that of TensorFlow 1",
    "zrn": "which is that of ONNX and Keras",
    "iof": "which is that of ONNX",
}
"""Orders of the gates in other packages."""
OPTIONS: dict[str, tuple[Any, ...]] = {
    "forget_gate": ("sigmoid", "exp"),
    "eps": (0.0, 1e-5, 1e-6, 1e-8),
    "nonlinearity": ("tanh", "relu"),
    "gate_soft_cap": (None,),
    "output_logit_soft_cap": (None,),
}
"""Values that a port may use, whatever the option says."""
SCALES: dict[str, tuple[str, Callable[[float, float, int], tuple[float, float]]]] = {
    "scale-missing": ("neither q nor k by √DK", lambda DK, DV, NH: (1, DK**0.5)),
    "scale-of-values": ("k by √DV, not by √DK", lambda DK, DV, NH: (1, (DK / DV) ** 0.5)),
    "scale-of-all-heads": (
        "k by the root of the width of all heads, not of one",
        lambda DK, DV, NH: (1, NH**-0.5),
    ),
    "scale-twice": ("k by DK, not by √DK", lambda DK, DV, NH: (1, DK**-0.5)),
    "scale-on-query-weights": (
        "W_q by √DK, not W_k, and not the bias of q",
        lambda DK, DV, NH: (DK**-0.5, DK**0.5),
    ),
}
"""What an mLSTM divides by what, and the factors of q and k that do the same."""
SEEN = {
    "cotangent-of-final-n-dropped": ("mlstm_kernels 2.0.6",),
    "cotangent-of-final-m-dropped": ("mlstm_kernels 2.0.6",),
    "gradient-of-initial-m-dropped": ("mlstm_kernels 2.0.6", "flashrnn 1.0.8"),
    "lengths-ignored": ("onnx 1.23.2, op_lstm.py", "transformers 5.24"),
    "scale-on-queries": ("mlstm_kernels 2.0.6", "xlstm_large", "transformers 5.24"),
}
"""Packages in which a mistake was found."""
BY_ROW = ("x", "dy", "lengths", "state", "dstate")
Mistakes = Iterator[tuple[str, str, Around]]
"""Names, descriptions, and functions around the specification."""


def interfaces(case: CaseData) -> list[Bug]:
    """Return the mistakes at the interface that are possible in the subject of a case."""
    return [
        Bug(name, (), (), "", description, seen_in=SEEN.get(name, ()), around=around)
        for kind in (_options, _gates, _layouts, _parameters, _states, _keys, _gradients)
        for name, description, around in kind(case)
    ]


def _options(case: CaseData) -> Mistakes:
    """Yield options that are ignored."""
    options = case.options
    for option in [option for option in OPTIONS if option in options]:
        for value in OPTIONS[option]:
            what = f"a port with {option} = {value}, whatever the option says"
            yield f"{option}-always-{value}", what, with_options(**{option: value})


def _gates(case: CaseData) -> Mistakes:
    """Yield other orders of the gates."""
    patterns = patterns_of(case)
    gates = {name: axes_of(pattern).get("gate") for name, pattern in patterns.items()}
    for letters in dict.fromkeys(filter(None, gates.values())):
        names = [name for name in patterns if gates[name] == letters]
        rows = ", ".join(name.removeprefix("params.") for name in names)
        for order in list(permutations(letters))[1:]:
            word, places = "".join(order), [order.index(gate) for gate in letters]
            what = f"a port that reads the gates of {rows} in the order {', '.join(order)}"
            known = f", {CONVENTIONS[word]}" if word in CONVENTIONS else ""
            ordered = rearranged(case, names, partial(taken, order=places))
            yield f"gates-in-order-{word}", what + known, ordered


def _layouts(case: CaseData) -> Mistakes:
    """Yield other layouts of heads and matrices."""
    patterns = patterns_of(case)
    for name, pattern in patterns.items():
        axes, short = axes_of(pattern), name.removeprefix("params.")
        if "gate" in axes and "head" in axes:
            what = f"a port that reads {short} gate by gate instead of head by head, or vice versa"
            turned = rearranged(case, [name], partial(read_as, first="gate", second="head"))
            yield f"{short}-with-gates-and-heads-exchanged", what, turned
        if "from" in axes:
            what = f"a port that multiplies h by the transpose of {short}"
            turned = rearranged(case, [name], partial(read_as, first="unit", second="from"))
            yield f"{short}-transposed", what, turned
    for letters in ("q", "qk", "qkv", "qkvo"):
        names = [f"params.{kind}_{gate}" for gate in letters for kind in "Wb"]
        if patterns.keys() >= {*names}:
            what = f"an mLSTM that gives neighbouring rows of {', '.join(letters)} to other heads"
            turned = rearranged(case, names, interleaved)
            yield f"heads-of-{letters}-interleaved", what, turned


def _parameters(case: CaseData) -> Mistakes:
    """Yield parameters that are ignored, or added twice."""
    for name in [name for name in case.inputs if name.startswith("params.")]:
        short = name.removeprefix("params.")
        yield f"{short}-ignored", f"a port that ignores {short}", scaled([name], 0)
        if case.inputs[name].ndim == 1:
            what = f"a port that adds {short} twice"
            yield f"{short}-twice", what, scaled_with_gradients(partial(_twice, name))
            what += ", as when it is used for both biases of PyTorch, and counts its gradient once"
            yield f"{short}-for-both", what, scaled([name], 2)
        if short.endswith("norm.weight") and case.options.get("residual_weight"):
            what = f"a port that takes {short} for the factor itself, not for its distance from 1"
            yield f"{short}-as-factor", what, with_inputs(partial(_lessened, name))
        gates = "f" if name == "params.b_f" else axes_of(case.pattern(name)).get("gate", "")
        if name in ("params.b", "params.b_f") and "f" in gates:
            what = "a port that adds 1 to the forget gate's pre-activation, as TensorFlow 1 did"
            yield "forget-bias-of-1-added", what, _raised(name, gates)


def _twice(name: str, _: Options) -> dict[str, float]:
    return {name: 2}


def _raised(name: str, gates: str) -> Around:
    """Add 1 to the rows of a bias that belong to the forget gate."""
    rows = np.array([[gate == "f"] for gate in gates])
    return with_inputs(lambda i: {name: (i[name].reshape(len(gates), -1) + rows).ravel()})


def _lessened(name: str, inputs: Arrays) -> Arrays:
    return {name: inputs[name] - inputs[name].dtype.type(1)}


def _states(case: CaseData) -> Mistakes:
    """Yield parts of states, and of their cotangents, that are dropped or taken for others."""
    given = {f"state{n.removeprefix('final')}": n for n in case.expected if n[:5] == "final"}
    initial, finals = [*given], [f"d{name}" for name in given]
    for name in initial:
        short = name.removeprefix("state.")
        if initial[1:]:
            what = f"a port that takes 0 for the initial {short}"
            yield f"initial-{short}-ignored", what, scaled([name], 0)
        what = f"a port that takes the initial {short} of row 0 for all rows"
        first = rearranged(case, [name], lambda a, _: np.repeat(a[:1], len(a), 0))
        yield f"initial-{short}-of-row-0", what, first
        what = f"a backward that returns no gradient of the initial {short}"
        dropped = multiplied([gradient_of(name)], 0)
        yield f"gradient-of-initial-{short}-dropped", what, dropped
        what = f"a backward that ignores the cotangent of the final {short}"
        yield f"cotangent-of-final-{short}-dropped", what, scaled([f"d{name}"], 0)
    if not initial:
        return
    if initial[1:]:
        what = "a port that takes the initial state of row 0 for all rows"
        first = rearranged(case, initial, lambda a, _: np.repeat(a[:1], len(a), 0))
        yield "initial-state-of-row-0", what, first
        what = "a backward that ignores the cotangent of the final state"
        yield "cotangent-of-final-state-dropped", what, scaled(finals, 0)
    what = "a port that begins in the empty state, whatever it is given"
    yield "initial-state-ignored", what, with_inputs(lambda _: dict.fromkeys(initial))
    what = "a port that returns the state it was given, not the one after it"
    same = ChangedResults(lambda _, i: {given[n]: i[n] for n in given if n in i})
    yield "initial-state-returned", what, same
    pairs = {n: n.replace("state.1", "state.2") for n in initial if n.startswith("state.1")}
    if pairs.keys() | {*pairs.values()} <= {*initial} and "state.3.h" in initial:
        what = "a stack that takes the initial states of one direction after those of the other"
        both = pairs | {second: first for first, second in pairs.items()}
        yield "initial-states-by-direction", what, exchanged(both)
    if any(name.endswith(".m") for name in initial):
        what = "a port that begins with m = 0, not −∞, where it is given no state"
        yield "no-state-with-m-0", what, partial(_from_zeros, case.subject)
    what = "a port that computes padding like any other step"
    yield "lengths-ignored", what, with_inputs(lambda _: {"lengths": None})
    for word, shift in (("more", 1), ("less", -1)):
        what = f"a port whose mask of padding is off by one: each row has one step {word}"
        yield f"lengths-one-{word}", what, with_inputs(partial(_lengthened, shift))


def _from_zeros(subject: Subject, run: Run, options: Options, inputs: Arrays) -> Arrays:
    """Begin with zeros where no state is given."""
    dtype = next(array.dtype for array in inputs.values() if array.dtype.kind in "fc")
    blank = subject.blank(options, len(inputs[positional(inputs)[0]]), 1)
    states = {name: array for name, array in blank.items() if name.split(".")[0] == "state"}
    return run(options, {name: np.zeros(a.shape, dtype) for name, a in states.items()} | inputs)


def _lengthened(shift: int, inputs: Arrays) -> Arrays:
    """Change the lengths; the longest row has all steps, and cannot have one more."""
    lengths = inputs.get("lengths")
    return {} if lengths is None else {"lengths": np.clip(lengths + shift, 0, lengths.max())}


def _keys(case: CaseData) -> Mistakes:
    """Yield other scales of q and k, and projections in each other's place."""
    weights = "params.W_" if "params.W_q" in case.inputs else ""
    q, k = f"{weights}q", f"{weights}k"
    if q not in case.inputs:
        return
    what = "an mLSTM that divides q by √DK, not k: h is the same, C and n are √DK times as large"
    whole = _keys_scaled([q, "params.b_q"], [k, "params.b_k"], SCALES["scale-on-query-weights"][1])
    yield "scale-on-queries", what, whole
    for name, (divided, factors) in SCALES.items():
        yield name, f"an mLSTM that divides {divided}", _keys_scaled([q], [k], factors)
    what = "an mLSTM that divides the bias of k by √DK too, which Eq 23 of the paper does not"
    bias = _keys_scaled([], ["params.b_k"], SCALES["scale-twice"][1])
    yield "scale-on-key-bias-too", what, bias
    for a, b in ("qk", "if", "qv", "kv", "vo"):
        pairs = {f"{weights}{a}": f"{weights}{b}"}
        pairs |= {f"params.b_{a}": f"params.b_{b}"} if weights else {}
        if pairs.keys() | {*pairs.values()} <= case.inputs.keys():
            both = pairs | {second: first for first, second in pairs.items()}
            what = f"an mLSTM that takes {a} for {b}, and {b} for {a}"
            yield f"{a}-and-{b}-exchanged", what, exchanged(both)


def _keys_scaled(queries: list[str], keys: list[str], factors: Any) -> Around:
    """Multiply queries and keys by factors of the sizes."""

    def scales(options: Options) -> dict[str, float]:
        NH = options["num_heads"]
        of_q, of_k = factors(options["qk_dim"] / NH, options["hidden_size"] / NH, NH)
        return dict.fromkeys(queries, of_q) | dict.fromkeys(keys, of_k)

    return scaled_with_gradients(scales)


def _gradients(case: CaseData) -> Mistakes:
    """Yield gradients that are averaged, counted twice, transposed, or of one row."""
    names = [name for name in case.expected if name[0] == "d" or name.startswith("grads.")]
    params = [name for name in names if name.startswith("grads.")]
    for name in names:
        yield f"{name}-twice", f"a backward that counts {name} twice", multiplied([name], 2)
        rows, columns = (1, 0, *case.expected[name].shape)[-2:]
        if "from" in axes_of(case.pattern(name)) or rows == columns:
            what = f"a backward that returns the transpose of {name}"
            yield f"{name}-transposed", what, turned(case, name)
    if not params or "x" not in case.inputs or "dy" not in case.inputs:
        return
    for own, word in [(params, "gradients"), *(([name], name) for name in params)]:
        what = f"a backward that averages {word} over the rows of the batch"
        yield f"{word}-averaged", what, multiplied(own, lambda inputs: 1 / len(inputs["x"]))
    what = (
        "a backward that resets the gradients of parameters for each row of the batch, and so "
        "keeps those of the last row"
    )
    yield "gradients-of-last-row-alone", what, _of_last_row
    if case.subject.steps:
        what = "a backward that counts the cotangent of the last output twice, once as that of h"
        yield "cotangent-of-last-output-doubled", what, with_inputs(_last_twice)


def _of_last_row(run: Run, options: Options, inputs: Arrays) -> Arrays:
    last = {n: a[-1:] if n.split(".")[0] in BY_ROW else a for n, a in inputs.items()}
    own = {n: a for n, a in run(options, last).items() if n.startswith("grads.")}
    return run(options, inputs) | own


def _last_twice(inputs: Arrays) -> Arrays:
    if "dy" not in inputs:
        return {}
    dy = inputs["dy"].copy()
    dy[:, -1:] *= 2
    return {"dy": dy}
