"""Mistakes in single results: exchanged, scaled, in another place, or formed with other numbers."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from numpy_xlstm.conformance.bounds import is_gradient
from numpy_xlstm.conformance.bugs.around import (
    ChangedResults,
    Mistakes,
    axes_of,
    multiplied,
    rearranged,
    taken,
    transposed,
    with_inputs,
    without,
)
from numpy_xlstm.conformance.bugs.bug import Around, Run
from numpy_xlstm.conformance.case_data import CaseData
from numpy_xlstm.conformance.subjects import Options, gradient_of
from numpy_xlstm.numerics import Array, Arrays

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


def exchanges(case: CaseData) -> Mistakes:
    """Yield results that are returned in the place of others, and transposed memories."""
    for name in [name for name in case.expected if name == "final.C"]:
        what = f"a port that returns the transpose of {name}"
        yield f"{name}-transposed", what, ChangedResults(partial(_turned, name))
    for a, b in combinations(case.expected, 2):
        first, second = case.expected[a], case.expected[b]
        alike = is_gradient(a) == is_gradient(b) and first.shape == second.shape
        if alike and not np.array_equal(first, second):  # y of a step is its h
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


def gradients(case: CaseData) -> Mistakes:
    """Yield gradients that are averaged, counted twice, transposed, or of one row."""
    names = [name for name in case.expected if name[0] == "d" or name.startswith("grads.")]
    params = [name for name in names if name.startswith("grads.")]
    sizes = {w: size for w, (given, size) in SIZES.items() if np.ndim(case.inputs.get(given, 0))}
    if not case.subject.steps:
        sizes.pop("number of steps", None)
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


def through_x(case: CaseData) -> Mistakes:
    """Yield gradients of x through a part of its maps, and of a map with other numbers as x."""
    for name in _maps_of_x(case.inputs):
        short, pattern = name.removeprefix("params."), case.pattern(name)
        for number, gate in enumerate(axes_of(case.inputs[name], pattern).get("gate", ("",))):
            rest = partial(without, pattern, number) if gate else np.zeros_like
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
