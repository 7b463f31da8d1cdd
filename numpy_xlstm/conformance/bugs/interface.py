"""Mistakes at the interface of a port: other options, inputs or cotangents, or changed results.

They change no line of the specification. A port that reads the gates in another order is the
specification with rearranged parameters, whose gradients are taken back through the same map. The
axes of a subject's tensors tell which maps are possible.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations, permutations
from math import prod
from typing import Any

import numpy as np

from numpy_xlstm.conformance.bounds import is_gradient
from numpy_xlstm.conformance.bugs.around import (
    ChangedResults,
    Mistakes,
    axes_of,
    exchanged,
    left_padded,
    multiplied,
    of_row_0,
    read_as,
    rearranged,
    row_after_row,
    scaled_with_gradients,
    taken,
    with_inputs,
    without,
)
from numpy_xlstm.conformance.bugs.bug import Bug, Run
from numpy_xlstm.conformance.bugs.gradients import gradients, over_rows, through_x
from numpy_xlstm.conformance.bugs.places import exchanges, in_one_place, places
from numpy_xlstm.conformance.case_data import CaseData
from numpy_xlstm.conformance.subjects import Options, Subject, gradient_of, positional
from numpy_xlstm.numerics import Array, Arrays

CONVENTIONS = {
    "fizo": "as when the names igate and fgate in xlstm 2.0.6, which are exchanged, are taken "
    "literally",
    "iofz": "as if the port, but not its input, had the order of ONNX",
    "izof": "as if the input, but not the port, had the order of ONNX",
    "izfo": "as if the port or its input, but not both, had the order of TensorFlow 1",
    "zrn": "as if the port or its input, but not both, had the order of ONNX and Keras",
    "iof": "as if the port or its input, but not both, had the order of ONNX",
}
"""Orders of the gates in other packages; an exchange of two gates is its own inverse."""
OPTIONS: dict[str, tuple[Any, ...]] = {
    "forget_gate": ("sigmoid", "exp"),
    "eps": (0.0, 1e-5, 1e-6, 1e-8),
    "nonlinearity": ("tanh", "relu"),
    "gate_soft_cap": (None,),
    "output_logit_soft_cap": (None,),
}
"""Values that a port may use, whatever the option says."""
DIVIDED = {
    "scale-on-queries": "q by √DK, not k: h is the same, C and n are √DK times as large",
    "scale-missing": "neither q nor k by √DK",
    "scale-of-both": "both q and k by √DK",
    "scale-of-values": "k by √DV, not by √DK",
    "scale-of-all-heads": "k by the root of the width of all heads, not of one",
    "scale-twice": "k by DK, not by √DK",
    "scale-on-query-weights": "W_q by √DK, not W_k, and not the bias of q",
    "scale-on-key-bias-too": "the bias of k by √DK too, which Eq 23 of the paper does not",
}
"""The mistakes in the scales of an mLSTM, in words: what is divided, and by which number."""
POWERS: dict[str, tuple[str, float, tuple[float, float, float]]] = {
    "scale-on-queries": ("Wb", -0.5, (0.5, 0, 0)),
    "scale-missing": ("W", 0, (0.5, 0, 0)),
    "scale-of-both": ("W", -0.5, (0, 0, 0)),
    "scale-of-values": ("W", 0, (0.5, -0.5, 0)),
    "scale-of-all-heads": ("W", 0, (0, 0, -0.5)),
    "scale-twice": ("W", 0, (-0.5, 0, 0)),
    "scale-on-query-weights": ("W", -0.5, (0.5, 0, 0)),
    "scale-on-key-bias-too": ("b", 0, (-0.5, 0, 0)),
}
"""Factors that do the same: of weights, biases or both, the power of DK for q, and the powers of
DK, DV and the number of heads for k."""
SEEN = {
    "cotangent-of-final-n-dropped": ("mlstm_kernels 2.0.6",),
    "cotangent-of-final-m-dropped": ("mlstm_kernels 2.0.6",),
    "gradient-of-initial-m-dropped": ("mlstm_kernels 2.0.6", "flashrnn 1.0.8"),
    "lengths-ignored": ("onnx 1.23.2, op_lstm.py", "transformers 5.24"),
    "scale-on-queries": ("mlstm_kernels 2.0.6", "xlstm_large", "transformers 5.24"),
}
"""Packages in which a mistake was found."""


def interfaces(case: CaseData) -> list[Bug]:
    """Return the mistakes at the interface that are possible in the subject of a case."""
    return [
        Bug(name, (), (), "", description, seen_in=SEEN.get(name, ()), around=around)
        for kind in (
            _options,
            _gates,
            _layouts,
            _parameters,
            _states,
            _beginnings,
            _lengths,
            exchanges,
            _keys,
            gradients,
            over_rows,
            in_one_place,
            places,
            through_x,
        )
        for name, description, around in kind(case)
    ]


def _options(case: CaseData) -> Mistakes:
    """Yield options that are ignored."""
    for option in [option for option in OPTIONS if option in case.options]:
        for value in OPTIONS[option]:
            what = f"a port with {option} = {value}, whatever the option says"
            yield f"{option}-always-{value}", what, partial(with_option, option, value)


def with_option(name: str, value: Any, run: Run, options: Options, inputs: Arrays) -> Arrays:
    """Run with another value of an option."""
    return run({**options, name: value}, inputs)


def _gates(case: CaseData) -> Mistakes:
    """Yield other orders of the gates."""
    gates = {name: "".join(axes.get("gate", "")) for name, axes in _given(case).items()}
    for letters in dict.fromkeys(filter(None, gates.values())):
        names = [name for name in gates if gates[name] == letters]
        rows = ", ".join(name.removeprefix("params.") for name in names)
        for order in list(permutations(letters))[1:]:
            word, order_of_rows = "".join(order), [order.index(gate) for gate in letters]
            what = f"a port that reads the gates of {rows} in the order {', '.join(order)}"
            known = f", {CONVENTIONS[word]}" if word in CONVENTIONS else ""
            ordered = rearranged(case, names, partial(taken, order=order_of_rows))
            yield f"gates-in-order-{word}", what + known, ordered
        what = f"a port that reads {rows} unit by unit, not gate by gate"
        turned = partial(read_as, first="gate", second="unit")
        yield f"gates-{letters}-interleaved", what, rearranged(case, names, turned)
        # a stack has too many
        for name, row in zip(names, rows.split(", "), strict=True) if len(names) < 5 else ():
            for a, b in combinations(range(len(letters)), 2):
                rows_of = [{a: b, b: a}.get(gate, gate) for gate in range(len(letters))]
                pair = f"{letters[a]}-and-{letters[b]}"
                what = (
                    f"a port that exchanges the gates {letters[a]} and {letters[b]} of {row} alone"
                )
                ordered = rearranged(case, [name], partial(taken, order=rows_of))
                yield f"gates-{pair}-of-{row}-exchanged", what, ordered
            for number, gate in enumerate(letters):
                what = f"a port without the part of {row} that belongs to the gate {gate}"
                ignored = with_inputs([name], partial(without, case.pattern(name), number))
                yield f"{row}-of-{gate}-ignored", what, ignored


def _given(case: CaseData) -> dict[str, Mapping[str, Any]]:
    """Return the axes of parameters and given pre-activations."""
    names = [n for n in case.inputs if n.startswith("params.") or n in ("Wx", "R")]
    return {name: axes_of(case.inputs[name], case.pattern(name)) for name in names}


def _layouts(case: CaseData) -> Mistakes:
    """Yield other layouts of heads and matrices."""
    given = _given(case)
    for name, axes in given.items():
        short = name.removeprefix("params.")
        if "gate" in axes and "head" in axes:
            what = f"a port that reads {short} gate by gate instead of head by head, or vice versa"
            turned = rearranged(case, [name], partial(read_as, first="gate", second="head"))
            yield f"{short}-with-gates-and-heads-exchanged", what, turned
        shape = case.inputs[name].shape
        if len(shape) == 2 and 1 < shape[0] != shape[1] > 1:
            what = f"a port that reads {short} as if it were stored transposed"
            yield f"{short}-read-by-columns", what, rearranged(case, [name], _by_columns)
        if "from" in axes:
            what = f"a port that multiplies h by the transpose of {short}"
            turned = rearranged(case, [name], partial(read_as, first="unit", second="from"))
            yield f"{short}-transposed", what, turned
    for letters in ("q", "k", "v", "o", "qk", "qkv", "qkvo"):
        names = [f"params.{kind}_{gate}" for gate in letters for kind in "Wb"]
        if given.keys() >= {*names}:
            what = f"an mLSTM that gives neighbouring rows of {', '.join(letters)} to other heads"
            yield f"heads-of-{letters}-interleaved", what, rearranged(case, names, read_as)
    if "params.W_o" in given and "dy" in case.inputs:
        what = "an mLSTM that gives neighbouring entries of its output to other heads"
        yield "heads-of-output-interleaved", what, _heads_interleaved


def _by_columns(array: Array, _: str) -> Array:
    return array.reshape(array.shape[::-1]).T


def _heads_interleaved(run: Run, options: Options, inputs: Arrays) -> Arrays:
    """Return outputs whose heads are interleaved; the output gate is not."""
    NH = options["num_heads"]

    def turned(arrays: Arrays, axes: Mapping[str, int], first: int) -> Arrays:
        """Read these axes as two, the first of this size, in the other order."""
        moved = {}
        for name in axes.keys() & arrays.keys():
            parts = np.moveaxis(arrays[name], axes[name], 0)
            heads = parts.reshape(first, -1, *parts.shape[1:]).swapaxes(0, 1)
            moved[name] = np.moveaxis(heads.reshape(parts.shape), 0, axes[name])
        return arrays | moved

    inner = {"dy": -1, "params.W_o": 0, "params.b_o": 0}
    results = run(options, turned(inputs, inner, options["hidden_size"] // NH))
    return turned(results, {"y": -1, "grads.W_o": 0, "grads.b_o": 0}, NH)


def _parameters(case: CaseData) -> Mistakes:
    """Yield parameters that are ignored, or added twice."""
    for name in [name for name in case.inputs if name.startswith("params.")]:
        short, array = name.removeprefix("params."), case.inputs[name]
        yield f"{short}-ignored", f"a port that ignores {short}", with_inputs([name], np.zeros_like)
        if array.ndim == 1:
            what = f"a port that adds {short} twice"
            yield f"{short}-twice", what, scaled_with_gradients(partial(_twice, name))
            what += ", as when it is used for both biases of PyTorch, and counts its gradient once"
            yield f"{short}-for-both", what, with_inputs([name], lambda a: 2 * a)
        if short.endswith("norm.weight") and case.options.get("residual_weight"):
            what = f"a port that takes {short} for the factor itself, not for its distance from 1"
            yield f"{short}-as-factor", what, with_inputs([name], lambda a: a - a.dtype.type(1))
        gates = "f" if short == "b_f" else axes_of(array, case.pattern(name)).get("gate", "")
        if short in ("b", "b_f") and "f" in gates:
            what = "a port that adds 1 to the forget gate's pre-activation, as TensorFlow 1 did"
            yield "forget-bias-of-1-added", what, with_inputs([name], partial(_raised, gates))


def _twice(name: str, _: Options) -> dict[str, float]:
    return {name: 2}


def _raised(gates: Sequence[str], bias: Array) -> Array:
    """Add 1 to the rows of a bias that belong to the forget gate."""
    rows = np.array([[gate == "f"] for gate in gates])
    raised: Array = (bias.reshape(len(gates), -1) + rows).ravel()
    return raised


def _states(case: CaseData) -> Mistakes:
    """Yield parts of states, and of their cotangents, that are dropped or taken for others."""
    given = _initial(case)
    for names in [*([name] for name in given), *([[*given]] if len(given) > 1 else [])]:
        short = "state" if names[1:] else names[0].removeprefix("state.")
        if len(names) < len(given):
            what = f"a port that takes 0 for the initial {short}"
            yield f"initial-{short}-ignored", what, with_inputs(names, np.zeros_like)
        what = f"a port that takes the initial {short} of row 0 for all rows"
        yield f"initial-{short}-of-row-0", what, with_inputs(names, of_row_0)
        if not names[1:]:
            what = f"a backward that returns no gradient of the initial {short}"
            dropped = multiplied([gradient_of(names[0])], lambda _: 0)
            yield f"gradient-of-initial-{short}-dropped", what, dropped
        what = f"a backward that ignores the cotangent of the final {short}"
        cotangents = [f"d{name}" for name in names]
        yield f"cotangent-of-final-{short}-dropped", what, with_inputs(cotangents, np.zeros_like)
        what = f"a backward that counts the cotangent of the final {short} twice"
        yield f"cotangent-of-final-{short}-twice", what, with_inputs(cotangents, lambda a: 2 * a)
        what = f"a backward that takes the cotangent of the final {short} of row 0 for all rows"
        yield f"cotangent-of-final-{short}-of-row-0", what, with_inputs(cotangents, of_row_0)
    for a, b in combinations(given, 2):
        if case.expected[given[a]].shape == case.expected[given[b]].shape:
            parts = f"{a.removeprefix('state.')} and {b.removeprefix('state.')}"
            for kind, pair in (("initial", {a: b}), ("cotangents of final", {f"d{a}": f"d{b}"})):
                what = f"a port that exchanges the {kind} {parts}"
                yield f"{kind} {parts} exchanged".replace(" ", "-"), what, exchanged(pair)
    if given:
        what = "a port that returns the state it was given, not the one after it"
        same = ChangedResults(lambda _, i: {given[n]: i[n] for n in given if n in i})
        yield "initial-state-returned", what, same
        what = "a backward that does nothing: it returns the cotangents of the final state, and 0"
        nothing = ChangedResults(partial(_not_taken_back, [*given]))
        yield "not-taken-back", what, nothing
    if case.subject.steps and "final.h" in case.expected:
        what = "a sequence whose final h is the output of the last step, padded or not"
        yield "final-h-from-last-output", what, ChangedResults(_last_output)


def _not_taken_back(initial: list[str], results: Arrays, inputs: Arrays) -> Arrays:
    gradients = {name: 0 * array for name, array in results.items() if is_gradient(name)}
    return gradients | {gradient_of(n): inputs[f"d{n}"] for n in initial if f"d{n}" in inputs}


def _last_output(results: Arrays, _: Arrays) -> Arrays:
    y, h = results["y"], results["final.h"]
    return {"final.h": y[:, -1] if y.shape[1] else 0 * h} if y.shape[2:] == h.shape[1:] else {}


def _initial(case: CaseData) -> dict[str, str]:
    """Return the names of the parts of an initial state, and those of the final state."""
    return {f"state{n.removeprefix('final')}": n for n in case.expected if n[:5] == "final"}


def _beginnings(case: CaseData) -> Mistakes:
    """Yield other states in which a port begins."""
    if not (initial := [*_initial(case)]):
        return
    what = "a port that begins in the empty state, whatever it is given"
    yield "initial-state-ignored", what, with_inputs(initial, lambda _: None)
    pairs = {n: n.replace("state.1", "state.2") for n in initial if n.startswith("state.1")}
    if pairs.keys() | {*pairs.values()} <= {*initial} and "state.3.h" in initial:
        what = "a stack that takes the initial states of one direction after those of the other"
        yield "initial-states-by-direction", what, exchanged(pairs)
    for part, number in (("m", 0), ("n", 1)):
        if any(name.endswith(f".{part}") for name in initial):
            what = f"a port that begins with m = 0 and n = {number}, where it is given no state"
            yield f"no-state-with-{part}-{number}", what, partial(_from, case.subject, number)
    if "x" in case.inputs:
        what = "a port that begins each row where the row before has ended"
        forward = partial(row_after_row, "final", "state")
        yield "rows-begin-where-others-end", what, partial(forward, True)
        what += ", if it is given no state"
        yield "rows-without-state-begin-where-others-end", what, partial(forward, False)
        what = "a backward that begins each row with the gradients in which the row before ended"
        backward = partial(row_after_row, "dstate0", "dstate", True)
        yield "gradients-begin-where-others-end", what, backward


def _lengths(case: CaseData) -> Mistakes:
    """Yield other lengths of rows."""
    if not _initial(case):
        return
    if case.subject.steps and "x" in case.inputs:
        what = "a port that takes the last steps of shorter rows, as if padding came first"
        yield "padding-first", what, left_padded
        what = "a port that leaves out the last step of the longest rows"
        yield "last-step-left-out", what, _without_last_step
    what = "a port that computes padding like any other step"
    yield "lengths-ignored", what, with_inputs(["lengths"], lambda _: None)
    for word, shift in (("more", 1), ("less", -1)):  # the longest row cannot have one more
        what = f"a port whose mask of padding is off by one: each row has one step {word}"
        yield f"lengths-one-{word}", what, with_inputs(["lengths"], partial(_shifted, shift))


def _without_last_step(run: Run, options: Options, inputs: Arrays) -> Arrays:
    B, T, *_ = inputs["x"].shape
    lengths = np.minimum(inputs.get("lengths", np.full(B, T)), max(0, T - 1))
    return run(options, {**inputs, "lengths": lengths})


def _shifted(by: int, lengths: Array) -> Array:
    shifted: Array = np.clip(lengths + by, 0, lengths.max())
    return shifted


def _from(subject: Subject, n: float, run: Run, options: Options, inputs: Arrays) -> Arrays:
    """Begin with zeros, but for n, where no state is given."""
    dtype = next(array.dtype for array in inputs.values() if array.dtype.kind in "fc")
    blank = subject.blank(options, len(inputs[positional(inputs)[0]]), 1)
    states = {name: array for name, array in blank.items() if name.split(".")[0] == "state"}
    first = {name: np.full(a.shape, n * name.endswith(".n"), dtype) for name, a in states.items()}
    return run(options, first | inputs)


def _keys(case: CaseData) -> Mistakes:
    """Yield other scales of q and k, and projections in each other's place."""
    weights = "params.W_" if "params.W_q" in case.inputs else ""
    if f"{weights}q" not in case.inputs:
        return
    for name, what in DIVIDED.items():
        both = scaled_with_gradients(partial(_factors, *POWERS[name]))
        yield name, f"an mLSTM that divides {what}", both
    for a, b in ("qk", "if", "qv", "kv", "vo"):
        pairs = {f"{weights}{a}": f"{weights}{b}"}
        pairs |= {f"params.b_{a}": f"params.b_{b}"} if weights else {}
        if pairs.keys() | {*pairs.values()} <= case.inputs.keys():
            what = f"an mLSTM that takes {a} for {b}, and {b} for {a}"
            yield f"{a}-and-{b}-exchanged", what, exchanged(pairs)


def _factors(
    kinds: str, of_q: float, of_k: tuple[float, ...], options: Options
) -> dict[str, float]:
    """Return factors of q and k, or of their weights and biases, from powers of sizes."""
    NH = options["num_heads"]
    DK, DV = options["qk_dim"] / NH, options["hidden_size"] / NH
    q, k = DK**of_q, prod(size**power for size, power in zip((DK, DV, NH), of_k, strict=True))
    factors = {f"params.{kind}_{name}": f for kind in kinds for name, f in (("q", q), ("k", k))}
    return factors | ({"q": q, "k": k} if "W" in kinds else {})
