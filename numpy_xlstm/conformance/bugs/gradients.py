"""Mistakes in single results: exchanged, scaled, in another place, or formed with other numbers."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from numpy_xlstm.conformance.bounds import FORMATS, SIXTEEN_BITS, is_gradient
from numpy_xlstm.conformance.bugs.around import (
    ChangedResults,
    Mistakes,
    axes_of,
    multiplied,
    read_as,
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
PLACES: dict[str, tuple[Callable[[Array], Array], str]] = {
    "the first": (lambda parts: np.repeat(parts[:1], len(parts), axis=0), ""),
    "the last": (lambda parts: np.repeat(parts[-1:], len(parts), axis=0), "row step head"),
    "the next": (lambda parts: np.roll(parts, -1, axis=0), "row step head"),
    "the previous": (lambda parts: np.roll(parts, 1, axis=0), "row step head"),
    "the opposite": (lambda parts: parts[::-1], ""),
}
"""Places from which the parts of a result along an axis may be taken, and along which axes."""


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
            what = f"a port that adds up {a} and {b} in one array, and returns it for both"
            yield f"{a}-and-{short}-added", what, ChangedResults(partial(_added, a, b))


def _turned(name: str, results: Arrays, _: Arrays) -> Arrays:
    """Transpose a memory, if keys are as wide as values."""
    turned = {name: results[name].swapaxes(-1, -2)} if name in results else {}
    return {n: array for n, array in turned.items() if array.shape == results[n].shape}


def _taken_for(others: Mapping[str, str], results: Arrays, _: Arrays) -> Arrays:
    return {name: results[other] for name, other in others.items() if other in results}


def _added(a: str, b: str, results: Arrays, _: Arrays) -> Arrays:
    names = [name for name in (a, b) if name in results]
    return {name: sum(results[n] for n in names) for name in names}


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
    for own, words in [(params, "parameters"), *(([name], name) for name in params)]:
        for row, which in ((0, "first"), (-1, "last")):
            what = f"a backward whose gradient of {words} is that of the {which} row alone"
            yield f"gradient-of-{words}-of-{which}-row-alone", what, of_one_row(row, own)
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
        for place in ("first", "last"):
            for value in ("first", "last", "sum"):
                what = (
                    f"a backward whose {name} is 0 but for the {place} {word}: the {value} of all"
                )
                change = partial(_in_one_place, place, value)
                moved = _changed(name, partial(_along, word, case.pattern(name), change))
                yield f"{name}-{value}-in-{place}-{word}", what, moved


def places(case: CaseData) -> Mistakes:
    """Yield results in other places along one of their axes, or with axes in another order."""
    for name, array in case.expected.items():
        axes = axes_of(array, pattern := case.pattern(name))
        for word in [word for word in axes if len(axes[word]) > 1 and word != "gate"]:
            for other, (change, only) in PLACES.items():
                if not only or word in only:
                    what = f"a port whose {name} of each {word} is that of {other} {word}"
                    moved = _changed(name, partial(_along, word, pattern, change))
                    yield f"{name}-of-{other}-{word}".replace(" ", "-"), what, moved
        for axis in range(array.ndim - 1):
            words = re.findall(r"\([^)]*\)|\S+", pattern)[axis : axis + 2]
            if min(array.shape[axis : axis + 2]) > 1:
                what = f"a port that writes {name} with the axes {' and '.join(words)} exchanged"
                turned = partial(_axes_exchanged, axis)
                yield f"{name}-with-axes-{axis}-and-{axis + 1}-exchanged", what, _changed(name, turned)
        for word in SIXTEEN_BITS if not is_gradient(name) else ():
            what = f"a port that rounds {name} to {word}"
            yield f"{name}-in-{word}", what, _changed(name, partial(_in_bits, word))


def _along(
    word: str, pattern: str, change: Callable[[Array], Array], array: Array
) -> Array:
    """Change an array along the axis of this name."""
    axes = axes_of(array, pattern)
    apart, at = array.reshape([*map(len, axes.values())]), [*axes].index(word)
    return np.moveaxis(change(np.moveaxis(apart, at, 0)), 0, at).reshape(array.shape)


def _axes_exchanged(axis: int, array: Array) -> Array:
    """Read the entries of an array whose axis was exchanged with the next one."""
    return array.swapaxes(axis, axis + 1).reshape(array.shape)


def _in_bits(word: str, array: Array) -> Array:
    """Round to a format of 16 bits; float32 has the limits of bfloat16."""
    if word == "float16":
        return array.astype(word).astype(array.dtype)
    mantissa, exponent = np.frexp(array)
    unit = array.dtype.type(FORMATS[word].eps / 2)
    rounded: Array = np.ldexp(np.round(mantissa / unit) * unit, exponent)
    return rounded


def _in_one_place(place: str, value: str, parts: Array) -> Array:
    """Write the first or last part of an array, or the sum over all, in one place of zeros."""
    first, last = slice(0, 1), slice(-1, None)
    result = np.zeros_like(parts)
    values = {"first": parts[first], "last": parts[last], "sum": parts.sum(axis=0, keepdims=True)}
    result[first if place == "first" else last] = values[value]
    return result


def _changed(name: str, change: Callable[[Array], Array]) -> Around:
    return ChangedResults(
        lambda results, _: {name: change(results[name])} if name in results else {}
    )


def _power(size: Callable[[Arrays], float], sign: int, inputs: Arrays) -> float:
    return float(size(inputs) ** sign)


def through_x(case: CaseData) -> Mistakes:
    """Yield gradients of x through a part of its maps, and of a map with other numbers as x."""
    maps: dict[str, tuple[str, Callable[[Array], Array]]] = {}  # and what removes each
    for name in _maps_of_x(case.inputs):
        short, pattern = name.removeprefix("params."), case.pattern(name)
        for number, gate in enumerate(axes_of(case.inputs[name], pattern).get("gate", ("",))):
            rest = partial(without, pattern, number) if gate else np.zeros_like
            maps[f"the gate {gate} of {short}" if gate else short] = name, rest
        for word, other in OTHER_X.items() if case.subject.steps else ():
            what = f"a backward that forms the gradient of {short} with the x of {word}"
            yield f"{short}-with-x-of-{word}".replace(" ", "-"), what, partial(_with_x, name, other)
    for words in [*((each,) for each in maps), *combinations(maps, 2)]:
        for verb, what in (("without", "lacks the part"), ("only", "has only the part")):
            where = " and ".join(words)
            change = partial(_dx_through, [maps[each] for each in words], verb == "only")
            yield (
                f"dx-{verb}-{where}".replace(" ", "-"),
                f"a backward whose dx {what} through {where}",
                change,
            )
    for word, other in OTHER_X.items() if case.subject.steps and "x" in case.inputs else ():
        what = f"a backward that reads the cotangent dy of {word}"
        yield f"dy-of-{word}".replace(" ", "-"), what, with_inputs(["dy"], other)
        if word in REORDERED:
            taken_from = partial(lambda other, x, _: other(x), other)
            what = f"a port that reads the x of {word}"
            yield f"x-of-{word}".replace(" ", "-"), what, rearranged(case, ["x"], taken_from)


def _maps_of_x(inputs: Arrays) -> list[str]:
    """Return the names of the matrices that x is multiplied by."""
    names = [name for name in inputs if name.startswith("params.W") and "x" in inputs]
    return [name for name in names if inputs[name].shape[-1] == inputs["x"].shape[-1]]


def _dx_through(
    removed: Sequence[tuple[str, Callable[[Array], Array]]],
    only: bool,
    run: Run,
    options: Options,
    inputs: Arrays,
) -> Arrays:
    """Take dx of one of two copies of x, one of which does not pass through some rows."""
    kept = {n: inputs[n] for n in _maps_of_x(inputs)}
    for name, rest in removed:
        kept[name] = rest(kept[name])
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


def of_one_row(row: int, names: Sequence[str]) -> Around:
    """Return a backward that forms gradients of parameters from one row of the batch alone."""

    def around(run: Run, options: Options, inputs: Arrays) -> Arrays:
        only = slice(row, row + 1 or None)
        own = run(options, {n: a[only] if _by_row(n) else a for n, a in inputs.items()})
        return run(options, inputs) | {name: own[name] for name in names if name in own}

    return around


def row_after_row(always: bool, run: Run, options: Options, inputs: Arrays) -> Arrays:
    """Begin each row where the row before has ended, always or if no state is given."""
    results: dict[str, list[Array]] = {}
    state = Arrays()
    for row in range(len(inputs["x"])):
        own = {n: a[row : row + 1] if _by_row(n) else a for n, a in inputs.items()}
        first = own | state if always else state | own
        for name, array in run(options, first).items():
            results.setdefault(name, []).append(array)
        state = {n.replace("final", "state"): a[-1] for n, a in results.items() if n[:5] == "final"}
    return {
        name: sum(arrays[1:], arrays[0]) if name.startswith("grads.") else np.concatenate(arrays)
        for name, arrays in results.items()
    }


def _by_row(name: str) -> bool:
    return name.split(".")[0] in ("x", "dy", "lengths", "state", "dstate")
