"""Mistakes at the interface of a port: other options, inputs or cotangents, or changed results.

They change no line of the specification. A port that reads the gates in another order is the
specification with rearranged parameters, whose gradients are taken back through the same map. The
axes of a subject's tensors tell which maps are possible.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations, permutations
from math import prod
from typing import Any

import numpy as np

from numpy_xlstm.conformance.bounds import is_gradient
from numpy_xlstm.conformance.bugs.bug import Around, Bug, Run
from numpy_xlstm.conformance.case_data import CaseData
from numpy_xlstm.conformance.subjects import Options, Subject, gradient_of, positional
from numpy_xlstm.gradcheck.axes import Axes
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
SIZES: dict[str, tuple[str, Callable[[Arrays], float]]] = {
    "number of rows": ("dy", lambda inputs: len(inputs["dy"])),
    "number of steps": ("x", lambda inputs: max(1, inputs["x"].shape[-2])),
    "root of DK": ("dstate.C", lambda inputs: inputs["dstate.C"].shape[2] ** 0.5),
}
"""Numbers by which a gradient may be multiplied or divided, and the input with their axis."""
REORDERED: dict[str, Callable[[Array], Array]] = {
    "reversed steps": lambda x: x[:, ::-1],
    "steps and rows in the other order": lambda x: x.swapaxes(0, 1).reshape(x.shape),
    "row 0": lambda x: np.repeat(x[:1], len(x), axis=0),
}
OTHER_X: dict[str, Callable[[Array], Array]] = {
    "the step before": lambda x: np.concatenate([0 * x[:, :1], x[:, :-1]], axis=1),
    "the next step": lambda x: np.concatenate([x[:, 1:], 0 * x[:, :1]], axis=1),
    **REORDERED,
}
"""Steps and rows whose x a port may take."""
BY_ROW = ("x", "dy", "lengths", "state", "dstate")
Mistakes = Iterator[tuple[str, str, Around]]
"""Names, descriptions, and functions around the specification."""


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
            _results,
            _keys,
            _gradients,
            _through,
        )
        for name, description, around in kind(case)
    ]


def _options(case: CaseData) -> Mistakes:
    """Yield options that are ignored."""
    for option in [option for option in OPTIONS if option in case.options]:
        for value in OPTIONS[option]:
            what = f"a port with {option} = {value}, whatever the option says"
            yield f"{option}-always-{value}", what, partial(_with_option, option, value)


def _with_option(name: str, value: Any, run: Run, options: Options, inputs: Arrays) -> Arrays:
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
                without = with_inputs([name], partial(_without, case.pattern(name), number))
                yield f"{row}-of-{gate}-ignored", what, without


def _without(pattern: str, gate: int, array: Array) -> Array:
    """Set the part of an array that belongs to a gate to 0."""
    gates = np.indices([*map(len, axes_of(array, pattern).values())])
    number = gates[[*axes_of(array, pattern)].index("gate")].reshape(array.shape)
    return np.where(number == gate, array.dtype.type(0), array)


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
        if "from" in axes:
            what = f"a port that multiplies h by the transpose of {short}"
            turned = rearranged(case, [name], partial(read_as, first="unit", second="from"))
            yield f"{short}-transposed", what, turned
    for letters in ("q", "k", "v", "o", "qk", "qkv", "qkvo"):
        names = [f"params.{kind}_{gate}" for gate in letters for kind in "Wb"]
        if given.keys() >= {*names}:
            what = f"an mLSTM that gives neighbouring rows of {', '.join(letters)} to other heads"
            yield f"heads-of-{letters}-interleaved", what, rearranged(case, names, read_as)


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
    given = {f"state{n.removeprefix('final')}": n for n in case.expected if n[:5] == "final"}
    initial = [*given]
    for names in [*([name] for name in initial), *([initial] if initial[1:] else [])]:
        short = "state" if names[1:] else names[0].removeprefix("state.")
        if len(names) < len(initial):
            what = f"a port that takes 0 for the initial {short}"
            yield f"initial-{short}-ignored", what, with_inputs(names, np.zeros_like)
        what = f"a port that takes the initial {short} of row 0 for all rows"
        first = rearranged(case, names, lambda a, _: np.repeat(a[:1], len(a), 0))
        yield f"initial-{short}-of-row-0", what, first
        if not names[1:]:
            what = f"a backward that returns no gradient of the initial {short}"
            dropped = multiplied([gradient_of(names[0])], lambda _: 0)
            yield f"gradient-of-initial-{short}-dropped", what, dropped
        what = f"a backward that ignores the cotangent of the final {short}"
        dropped = with_inputs([f"d{name}" for name in names], np.zeros_like)
        yield f"cotangent-of-final-{short}-dropped", what, dropped
    if not initial:
        return
    what = "a port that begins in the empty state, whatever it is given"
    yield "initial-state-ignored", what, with_inputs(initial, lambda _: None)
    what = "a port that returns the state it was given, not the one after it"
    same = ChangedResults(lambda _, i: {given[n]: i[n] for n in given if n in i})
    yield "initial-state-returned", what, same
    pairs = {n: n.replace("state.1", "state.2") for n in initial if n.startswith("state.1")}
    if pairs.keys() | {*pairs.values()} <= {*initial} and "state.3.h" in initial:
        what = "a stack that takes the initial states of one direction after those of the other"
        yield "initial-states-by-direction", what, exchanged(pairs)
    if any(name.endswith(".m") for name in initial):
        what = "a port that begins with m = 0, not −∞, where it is given no state"
        yield "no-state-with-m-0", what, partial(_from_zeros, case.subject)
    what = "a port that computes padding like any other step"
    yield "lengths-ignored", what, with_inputs(["lengths"], lambda _: None)
    for word, shift in (("more", 1), ("less", -1)):  # the longest row cannot have one more
        what = f"a port whose mask of padding is off by one: each row has one step {word}"
        yield f"lengths-one-{word}", what, with_inputs(["lengths"], partial(_shifted, shift))


def _results(case: CaseData) -> Mistakes:
    """Yield results that are returned in the place of others, and transposed memories."""
    for name in [name for name in case.expected if name == "final.C"]:
        what = f"a port that returns the transpose of {name}"
        yield f"{name}-transposed", what, ChangedResults(partial(_turned, name))
    for a, b in combinations(case.expected, 2):
        if is_gradient(a) == is_gradient(b) and case.expected[a].shape == case.expected[b].shape:
            short = b.partition(".")[2] or b
            for name, others in (
                (f"{a}-and-{short}-exchanged", {b: a, a: b}),
                (f"{a}-for-{b}", {b: a}),
                (f"{b}-for-{a}", {a: b}),
            ):
                what = ", and ".join(f"{other} for {result}" for result, other in others.items())
                change = ChangedResults(partial(_taken_for, others))
                yield name, f"a port that returns {what}", change


def _turned(name: str, results: Arrays, _: Arrays) -> Arrays:
    """Transpose a memory, if keys are as wide as values."""
    turned = {name: results[name].swapaxes(-1, -2)} if name in results else {}
    return {n: array for n, array in turned.items() if array.shape == results[n].shape}


def _taken_for(others: Mapping[str, str], results: Arrays, _: Arrays) -> Arrays:
    return {name: results[other] for name, other in others.items() if other in results}


def _shifted(by: int, lengths: Array) -> Array:
    shifted: Array = np.clip(lengths + by, 0, lengths.max())
    return shifted


def _from_zeros(subject: Subject, run: Run, options: Options, inputs: Arrays) -> Arrays:
    """Begin with zeros where no state is given."""
    dtype = next(array.dtype for array in inputs.values() if array.dtype.kind in "fc")
    blank = subject.blank(options, len(inputs[positional(inputs)[0]]), 1)
    states = {name: array for name, array in blank.items() if name.split(".")[0] == "state"}
    return run(options, {name: np.zeros(a.shape, dtype) for name, a in states.items()} | inputs)


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


def _gradients(case: CaseData) -> Mistakes:
    """Yield gradients that are averaged, counted twice, transposed, or of one row."""
    names = [name for name in case.expected if name[0] == "d" or name.startswith("grads.")]
    params = [name for name in names if name.startswith("grads.")]
    sizes = {word: size for word, (given, size) in SIZES.items() if given in case.inputs}
    for name in names:
        array, what = case.expected[name], f"a backward that counts {name} twice"
        yield f"{name}-twice", what, multiplied([name], lambda _: 2)
        yield f"{name}-negated", f"a backward that negates {name}", multiplied([name], lambda _: -1)
        if name in params:
            what = f"a port by which {name[6:]} is not read: its gradient is exactly 0"
            yield f"{name}-zero", what, multiplied([name], lambda _: 0)
        axes = axes_of(array, case.pattern(name))
        square = array.ndim > 1 and array.shape[-1] == array.shape[-2]
        if square or "from" in axes:
            what = f"a backward that returns the transpose of {name}"
            yield f"{name}-transposed", what, transposed(case, name)
        yield from _recombined(case, name, axes)
        for word, size in sizes.items():
            for verb, sign in (("multiplies", 1), ("divides", -1)):
                what = f"a backward that {verb} {name} by a number that is the {word}"
                resized = multiplied([name], partial(_power, size, sign))
                yield f"{name}-{verb[:-1]}d-by-{word}".replace(" ", "-"), what, resized
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
        twice = with_inputs(["dy"], lambda dy: np.concatenate([dy[:, :-1], 2 * dy[:, -1:]], axis=1))
        yield "cotangent-of-last-output-doubled", what, twice


def _recombined(case: CaseData, name: str, axes: Mapping[str, Sequence[Any]]) -> Mistakes:
    """Yield a gradient with exchanged gates, or with one row or step in the place of all."""
    for a, b in combinations(axes.get("gate", ""), 2):
        places = [[*axes["gate"]].index({a: b, b: a}.get(gate, gate)) for gate in axes["gate"]]
        change = partial(taken, pattern=case.pattern(name), order=places)
        what = f"a backward that exchanges the gates {a} and {b} of {name} alone"
        yield f"{name}-gates-{a}-and-{b}-exchanged", what, _changed(name, change)
    for word in [word for word in ("row", "step") if word in axes]:
        axis = [*axes].index(word)
        for shift in (1, -1):
            what = f"a backward that writes {name} of {word} t to {word} t{shift:+d}"
            moved = _changed(name, partial(np.roll, shift=shift, axis=axis))
            yield f"{name}-at-other-{word}-{shift}", what, moved
        what = f"a backward that writes {name} from the last {word} to the first"
        yield f"{name}-{word}s-reversed", what, _changed(name, partial(np.flip, axis=axis))
        for place in ("first", "last"):
            for value in ("first", "last", "sum"):
                what = (
                    f"a backward whose {name} is 0 but for the {place} {word}: the {value} of all"
                )
                change = partial(_in_one_place, axis, place, value)
                yield f"{name}-{value}-in-{place}-{word}", what, _changed(name, change)


def _in_one_place(axis: int, place: str, value: str, array: Array) -> Array:
    """Write the first or last part of an array, or the sum over all, in one place of zeros."""
    parts = np.moveaxis(array, axis, 0)
    first, last = slice(0, 1), slice(-1, None)
    result = np.zeros_like(parts)
    values = {"first": parts[first], "last": parts[last], "sum": parts.sum(axis=0, keepdims=True)}
    result[first if place == "first" else last] = values[value]
    return np.moveaxis(result, 0, axis)


def _changed(name: str, change: Callable[[Array], Array]) -> Around:
    return ChangedResults(
        lambda results, _: {name: change(results[name])} if name in results else {}
    )


def _power(size: Callable[[Arrays], float], sign: int, inputs: Arrays) -> float:
    return float(size(inputs) ** sign)


def _through(case: CaseData) -> Mistakes:
    """Yield gradients of x through a part of its maps, and of a map with other numbers as x."""
    for name in _maps_of_x(case.inputs):
        short, pattern = name.removeprefix("params."), case.pattern(name)
        for number, gate in enumerate(axes_of(case.inputs[name], pattern).get("gate", ("",))):
            rest = partial(_without, pattern, number) if gate else np.zeros_like
            where = f"the gate {gate} of {short}" if gate else short
            for word, what in (("without", "lacks the part"), ("only", "has only the part")):
                what = f"a backward whose dx {what} through {where}"
                change = partial(_dx_through, name, rest, word == "only")
                yield f"dx-{word}-{short}-{gate}".strip("-"), what, change
        for word, other in OTHER_X.items() if case.subject.steps else ():
            what = f"a backward that forms the gradient of {short} with the x of {word}"
            yield f"{short}-with-x-of-{word}".replace(" ", "-"), what, partial(_with_x, name, other)
    for word, other in REORDERED.items() if case.subject.steps and "x" in case.inputs else ():
        taken_from = partial(lambda other, x, _: other(x), other)
        what = f"a port that reads the x of {word}"
        yield f"x-of-{word}".replace(" ", "-"), what, rearranged(case, ["x"], taken_from)


def _maps_of_x(inputs: Arrays) -> list[str]:
    """Return the names of the matrices that x is multiplied by."""
    names = [name for name in inputs if name.startswith("params.W") and "x" in inputs]
    return [name for name in names if inputs[name].shape[-1] == inputs["x"].shape[-1]]


def _dx_through(
    name: str,
    rest: Callable[[Array], Array],
    only: bool,
    run: Run,
    options: Options,
    inputs: Arrays,
) -> Arrays:
    """Take dx of one of two copies of x, one of which passes through some rows of a matrix."""
    kept = {n: rest(inputs[n]) if n == name else inputs[n] for n in _maps_of_x(inputs)}
    split = {n: np.concatenate([a, inputs[n] - a], axis=-1) for n, a in kept.items()}
    twice = _of_two(run, options, inputs | split, inputs["x"])
    return run(options, inputs) | {
        n: np.split(a, 2, -1)[only] for n, a in twice.items() if n == "dx"
    }


def _with_x(
    name: str, other: Callable[[Array], Array], run: Run, options: Options, inputs: Arrays
) -> Arrays:
    """Take the gradient of a matrix of zeros that other numbers are multiplied by."""
    wide = {n: np.concatenate([inputs[n], 0 * inputs[n]], axis=-1) for n in _maps_of_x(inputs)}
    own = _of_two(run, options, inputs | wide, other(inputs["x"])).get(gradient_of(name))
    results = run(options, inputs)
    return results if own is None else results | {gradient_of(name): np.split(own, 2, -1)[1]}


def _of_two(run: Run, options: Options, inputs: Arrays, second: Array) -> Arrays:
    """Return results with a second array next to x, for which the matrices have columns."""
    x = np.concatenate([inputs["x"], second], axis=-1)
    return run({**options, "input_size": x.shape[-1]}, {**inputs, "x": x})


def _of_last_row(run: Run, options: Options, inputs: Arrays) -> Arrays:
    last = {n: a[-1:] if n.split(".")[0] in BY_ROW else a for n, a in inputs.items()}
    own = {n: a for n, a in run(options, last).items() if n.startswith("grads.")}
    return run(options, inputs) | own


def with_inputs(names: Sequence[str], change: Callable[[Array], Array | None]) -> Around:
    """Run with inputs changed, or removed if they become None; gradients are not taken back."""

    def around(run: Run, options: Options, inputs: Arrays) -> Arrays:
        changed = {**inputs, **{name: change(inputs[name]) for name in names if name in inputs}}
        return run(options, {name: a for name, a in changed.items() if a is not None})

    return around


class ChangedResults:
    """Replace some results, from results and inputs; the specification need not run again."""

    def __init__(self, change: Callable[[Arrays, Arrays], Arrays]) -> None:
        self.change = change

    def __call__(self, run: Run, options: Options, inputs: Arrays) -> Arrays:
        """Return the results of a port with the mistake."""
        results = run(options, inputs)
        return results | self.change(results, inputs)


def scaled_with_gradients(factors: Callable[[Options], Mapping[str, float]]) -> Around:
    """Multiply inputs by numbers that depend on the options, and their gradients by the same."""

    def around(run: Run, options: Options, inputs: Arrays) -> Arrays:
        scales = {name: scale for name, scale in factors(options).items() if name in inputs}
        results = run(options, inputs | {n: inputs[n] * scale for n, scale in scales.items()})
        back = {gradient_of(name): scale for name, scale in scales.items()}
        return results | {n: results[n] * scale for n, scale in back.items() if n in results}

    return around


def multiplied(names: Sequence[str], factor: Callable[[Arrays], float]) -> Around:
    """Multiply results by a number that depends on the inputs."""
    return ChangedResults(
        lambda results, i: {n: results[n] * factor(i) for n in names if n in results}
    )


def rearranged(
    case: CaseData, names: list[str], taken_from: Callable[[Array, str], Array]
) -> Around:
    """Rearrange the entries of inputs, whose axes have patterns, and take their gradients back.

    The gradient of an entry is the sum of the gradients of the entries that are taken from its
    place.
    """

    def around(run: Run, options: Options, inputs: Arrays) -> Arrays:
        indices_of = {}
        for name in [name for name in names if name in inputs]:
            indices = np.arange(inputs[name].size).reshape(inputs[name].shape)
            pattern = case.subject.pattern(name, indices.ndim).format(**options)
            indices_of[name] = taken_from(indices, pattern)
        results = run(options, inputs | {n: inputs[n].ravel()[at] for n, at in indices_of.items()})
        for name, at in indices_of.items():
            gradient = results.get(gradient_of(name))
            if gradient is not None:
                back = np.zeros_like(gradient).ravel()
                np.add.at(back, at.ravel(), gradient.ravel())
                results[gradient_of(name)] = back.reshape(gradient.shape)
        return results

    return around


def axes_of(array: Array, pattern: str) -> dict[str, Sequence[Any]]:
    """Return the names of all axes of an array, joined ones apart, and their values."""
    return dict(Axes("", array.shape, pattern).parts)


def taken(array: Array, pattern: str, order: list[int]) -> Array:
    """Take the gates in another order."""
    axes = axes_of(array, pattern)
    apart = array.reshape([*map(len, axes.values())])
    return np.take(apart, order, axis=list(axes).index("gate")).reshape(array.shape)


def read_as(array: Array, pattern: str, first: str = "", second: str = "") -> Array:
    """Read the entries as if two axes, by default the first two, lay in the other order."""
    axes = axes_of(array, pattern)
    first, second = (first, second) if first else [*axes][:2]
    order = [{first: second, second: first}.get(axis, axis) for axis in axes]
    apart = array.reshape([len(axes[axis]) for axis in order])
    return apart.transpose([order.index(axis) for axis in axes]).reshape(array.shape)


def transposed(case: CaseData, name: str) -> Around:
    """Transpose a gradient: a square matrix, or each square block of gates in it."""

    def change(results: Arrays, _: Arrays) -> Arrays:
        if (array := results.get(name)) is None:
            return {}
        if array.shape[-1] == array.shape[-2]:
            return {name: array.swapaxes(-1, -2)}
        # Axes of the same length, read in the other order: each block is transposed.
        return {name: read_as(array, case.pattern(name), "unit", "from")}

    return ChangedResults(change)


def exchanged(pairs: dict[str, str]) -> Around:
    """Exchange inputs and their gradients."""
    both = pairs | {second: first for first, second in pairs.items()}

    def around(run: Run, options: Options, inputs: Arrays) -> Arrays:
        results = run(options, inputs | {name: inputs[other] for name, other in both.items()})
        taken_back = {gradient_of(n): gradient_of(other) for n, other in both.items()}
        return results | {n: results[other] for n, other in taken_back.items() if other in results}

    return around
