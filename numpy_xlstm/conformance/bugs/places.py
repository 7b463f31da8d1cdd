"""Results in the place of others, along their axes, exchanged, transposed, added up or rounded."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from itertools import combinations, product

import numpy as np

from numpy_xlstm.conformance.bounds import FORMATS, SIXTEEN_BITS, is_gradient
from numpy_xlstm.conformance.bugs.around import (
    ChangedResults,
    Mistakes,
    axes_of,
    of_row_0,
    taken,
    transposed,
)
from numpy_xlstm.conformance.bugs.bug import Around
from numpy_xlstm.conformance.case_data import CaseData
from numpy_xlstm.numerics import Array, Arrays

PLACES: dict[str, tuple[Callable[[Array], Array], str]] = {
    "the first": (of_row_0, ""),
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
    return {name: results[a] + results[b] for name in (a, b) if {a, b} <= results.keys()}


def places(case: CaseData) -> Mistakes:
    """Yield results in other places along an axis, and with gates or axes in another order."""
    for name, array in case.expected.items():
        axes = axes_of(array, pattern := case.pattern(name))
        for word in [word for word in axes if len(axes[word]) > 1 and word != "gate"]:
            for other, (change, only) in PLACES.items():
                if not only or word in only:
                    what = f"a port whose {name} of each {word} is that of {other} {word}"
                    moved = _changed(name, partial(_along, word, pattern, change))
                    yield f"{name}-of-{other}-{word}".replace(" ", "-"), what, moved
        for a, b in combinations(axes.get("gate", ""), 2):
            order = [[*axes["gate"]].index({a: b, b: a}.get(gate, gate)) for gate in axes["gate"]]
            what = f"a backward that exchanges the gates {a} and {b} of {name} alone"
            turned = _changed(name, partial(taken, pattern=pattern, order=order))
            yield f"{name}-gates-{a}-and-{b}-exchanged", what, turned
        words = re.findall(r"\([^)]*\)|\S+", pattern)
        for axis in [axis for axis in range(array.ndim - 1) if min(array.shape[axis:][:2]) > 1]:
            what = f"a port that writes {name} with {' and '.join(words[axis:][:2])} exchanged"
            turned = _changed(name, partial(_axes_exchanged, axis))
            yield f"{name}-with-axes-{axis}-and-{axis + 1}-exchanged", what, turned
        square = array.ndim > 1 and array.shape[-1] == array.shape[-2]
        if is_gradient(name) and (square or "from" in axes):
            what = f"a backward that returns the transpose of {name}"
            yield f"{name}-transposed", what, transposed(case, name)
        wide = case.dtype not in SIXTEEN_BITS and not is_gradient(name)
        for word in SIXTEEN_BITS if wide else ():
            what = f"a port that rounds {name} to {word}"
            yield f"{name}-in-{word}", what, _changed(name, partial(_in_bits, word))


def in_one_place(case: CaseData) -> Mistakes:
    """Yield gradients with one row or step in the place of all."""
    for name in filter(is_gradient, case.expected):
        pattern = case.pattern(name)
        axes = axes_of(case.expected[name], pattern)
        for word in [word for word in ("row", "step") if word in axes]:
            for place, value in product(("first", "last"), ("first", "last", "sum")):
                what = f"a backward whose {name} is 0 but in the {place} {word}: the {value} of all"
                change = partial(_in_one_place, place, value)
                moved = _changed(name, partial(_along, word, pattern, change))
                yield f"{name}-{value}-in-{place}-{word}", what, moved


def _along(word: str, pattern: str, change: Callable[[Array], Array], array: Array) -> Array:
    """Change an array along the axis of this name."""
    axes = axes_of(array, pattern)
    apart, at = array.reshape([*map(len, axes.values())]), [*axes].index(word)
    return np.moveaxis(change(np.moveaxis(apart, at, 0)), 0, at).reshape(array.shape)


def _axes_exchanged(axis: int, array: Array) -> Array:
    """Read an array whose axis was exchanged with the next one, which has another length."""
    turned = array.swapaxes(axis, axis + 1)
    return array if turned.shape == array.shape else turned.reshape(array.shape)


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
