"""Maps at the interface of a port: from its options, inputs and cotangents, and to its results."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from numpy_xlstm.conformance.bugs.bug import Around, Arrays, Options, Run
from numpy_xlstm.conformance.case_data import CaseData
from numpy_xlstm.conformance.subjects import gradient_of
from numpy_xlstm.numerics import Array

AXIS = re.compile(r"\([^)]*\)|\S+")


def with_options(**changed: Any) -> Around:
    """Run with other options."""
    return lambda run, options, inputs: run({**options, **changed}, inputs)


def with_inputs(change: Callable[[Arrays], Mapping[str, Array | None]]) -> Around:
    """Run with some inputs replaced, or removed if they are None."""

    def around(run: Run, options: Options, inputs: Arrays) -> Arrays:
        changed = {**inputs, **change(inputs)}
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


def scaled(names: Iterable[str], factor: float) -> Around:
    """Multiply inputs by a number, but not their gradients; 0 times −∞ is 0."""
    return with_inputs(
        lambda i: {n: i[n] * factor if factor else np.zeros_like(i[n]) for n in names if n in i}
    )


def scaled_with_gradients(factors: Callable[[Options], Mapping[str, float]]) -> Around:
    """Multiply inputs by numbers that depend on the options, and their gradients by the same."""

    def around(run: Run, options: Options, inputs: Arrays) -> Arrays:
        scales = {name: scale for name, scale in factors(options).items() if name in inputs}
        results = run(options, inputs | {n: inputs[n] * scale for n, scale in scales.items()})
        back = {gradient_of(name): scale for name, scale in scales.items()}
        return results | {n: results[n] * scale for n, scale in back.items() if n in results}

    return around


def multiplied(names: Iterable[str], factor: float | Callable[[Arrays], float]) -> Around:
    """Multiply results by a number."""
    return ChangedResults(
        lambda results, inputs: {
            name: results[name] * (factor(inputs) if callable(factor) else factor)
            for name in names
            if name in results
        }
    )


def rearranged(case: CaseData, names: list[str], place: Callable[[Array, str], Array]) -> Around:
    """Rearrange the entries of inputs, whose axes have patterns, and take their gradients back.

    The gradient of an entry is the sum of the gradients of the entries that are taken from its
    place.
    """

    def around(run: Run, options: Options, inputs: Arrays) -> Arrays:
        places = {}
        for name in [name for name in names if name in inputs]:
            indices = np.arange(inputs[name].size).reshape(inputs[name].shape)
            places[name] = place(
                indices, case.subject.pattern(name, indices.ndim).format(**options)
            )
        results = run(options, inputs | {n: inputs[n].ravel()[at] for n, at in places.items()})
        for name, at in places.items():
            gradient = results.get(gradient_of(name))
            if gradient is not None:
                back = np.zeros_like(gradient).ravel()
                np.add.at(back, at.ravel(), gradient.ravel())
                results[gradient_of(name)] = back.reshape(gradient.shape)
        return results

    return around


def patterns_of(case: CaseData) -> dict[str, str]:
    """Return the patterns of the axes of parameters and given pre-activations."""
    return {n: case.pattern(n) for n in case.inputs if n.startswith("params.") or n in ("Wx", "R")}


def axes_of(pattern: str) -> dict[str, str]:
    """Return the names of all axes of a pattern, and their values, such as the gates."""
    return dict(axis.partition("=")[::2] for axis in re.sub(r"[()]", "", pattern).split())


def _sizes(pattern: str, shape: tuple[int, ...]) -> dict[str, int]:
    """Return the names and sizes of all axes of a pattern, with joined axes apart."""
    sizes: dict[str, int] = {}
    for axis, size in zip(AXIS.findall(pattern), shape, strict=True):
        rest = size
        for name, values in axes_of(axis).items():
            sizes[name] = (int(values) if values.isdigit() else len(values)) if values else rest
            rest //= max(sizes[name], 1)
    return sizes


def taken(array: Array, pattern: str, order: list[int]) -> Array:
    """Take the gates in another order."""
    sizes = _sizes(pattern, array.shape)
    apart = array.reshape(list(sizes.values()))
    return np.take(apart, order, axis=list(sizes).index("gate")).reshape(array.shape)


def read_as(array: Array, pattern: str, first: str, second: str) -> Array:
    """Read the entries as if two axes lay in the other order."""
    sizes = _sizes(pattern, array.shape)
    order = [{first: second, second: first}.get(axis, axis) for axis in sizes]
    apart = array.reshape([sizes[axis] for axis in order])
    return apart.transpose([order.index(axis) for axis in sizes]).reshape(array.shape)


def turned(case: CaseData, name: str) -> Around:
    """Transpose a gradient."""

    def change(results: Arrays, _: Arrays) -> Arrays:
        if (array := results.get(name)) is None:
            return {}
        if array.shape[-1] == array.shape[-2]:
            return {name: array.swapaxes(-1, -2)}
        return {name: read_as(array, case.pattern(name), "unit", "from")}

    return ChangedResults(change)


def exchanged(both: dict[str, str]) -> Around:
    """Exchange inputs and their gradients."""

    def around(run: Run, options: Options, inputs: Arrays) -> Arrays:
        results = run(options, inputs | {name: inputs[other] for name, other in both.items()})
        taken_back = {gradient_of(n): gradient_of(other) for n, other in both.items()}
        return results | {n: results[other] for n, other in taken_back.items() if other in results}

    return around


def interleaved(array: Array, pattern: str) -> Array:
    """Give neighbouring entries of the first two axes to different heads."""
    first, second, *_ = axes_of(pattern)
    return read_as(array, pattern, first, second)
