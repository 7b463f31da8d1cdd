"""Mistakes in gradients: scaled, of one row, without a part, or formed with other numbers."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations

import numpy as np

from numpy_xlstm.conformance.bugs.around import (
    Mistakes,
    axes_of,
    multiplied,
    of_one_row,
    of_row_0,
    rearranged,
    with_inputs,
    without,
)
from numpy_xlstm.conformance.bugs.bug import Run
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
    "an array turned to steps first": lambda x: x.swapaxes(0, 1).reshape(x.shape),
    "an array taken for steps first": lambda x: x.reshape(*x.shape[1::-1], *x.shape[2:]).swapaxes(
        0, 1
    ),
    "row 0": of_row_0,
}
OTHER_X: dict[str, Callable[[Array], Array]] = {
    "the step before": lambda x: np.concatenate([0 * x[:, :1], x[:, :-1]], axis=1),
    "the next step": lambda x: np.concatenate([x[:, 1:], 0 * x[:, :1]], axis=1),
    **REORDERED,
}
"""Steps and rows whose x a port may take."""


def gradients(case: CaseData) -> Mistakes:
    """Yield gradients that are negated, zero, counted twice, or multiplied by a size."""
    names = [name for name in case.expected if name[0] == "d" or name.startswith("grads.")]
    params = [name for name in names if name.startswith("grads.")]
    sizes = {w: size for w, (given, size) in SIZES.items() if np.ndim(case.inputs.get(given, 0))}
    if not case.subject.steps:
        sizes.pop("number of steps", None)
    for name in names:
        what = f"a backward that counts {name} twice"
        yield f"{name}-twice", what, multiplied([name], lambda _: 2)
        yield f"{name}-negated", f"a backward that negates {name}", multiplied([name], lambda _: -1)
        if name in params:
            what = f"a port by which {name[6:]} is not read: its gradient is exactly 0"
            yield f"{name}-zero", what, multiplied([name], lambda _: 0)
        for word, size in sizes.items():
            for verb, sign in (("multiplies", 1), ("divides", -1)):
                what = f"a backward that {verb} {name} by a number that is the {word}"
                resized = multiplied([name], partial(_power, size, sign))
                yield f"{name}-{verb[:-1]}d-by-{word}".replace(" ", "-"), what, resized


def over_rows(case: CaseData) -> Mistakes:
    """Yield gradients of parameters that are averaged, or those of one row or output alone."""
    params = [name for name in case.expected if name.startswith("grads.")]
    if not params or "x" not in case.inputs or "dy" not in case.inputs:
        return
    for own, word in [(params, "gradients"), *(([name], name) for name in params)]:
        what = f"a backward that averages {word} over the rows of the batch"
        yield f"{word}-averaged", what, multiplied(own, lambda inputs: 1 / len(inputs["x"]))
        for row, which in ((0, "first"), (-1, "last")):
            what = f"a backward whose {word} are those of the {which} row alone"
            yield f"{word}-of-{which}-row-alone", what, of_one_row(row, own)
    if case.subject.steps:
        what = "a backward that counts the cotangent of the last output twice, once as that of h"
        twice = with_inputs(["dy"], lambda dy: np.concatenate([dy[:, :-1], 2 * dy[:, -1:]], axis=1))
        yield "cotangent-of-last-output-doubled", what, twice


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
    yield "dy-twice", "a backward that counts dy twice", with_inputs(["dy"], lambda dy: 2 * dy)
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
