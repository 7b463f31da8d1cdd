"""Functions around the specification that make a mistake: changed inputs or results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from numpy_xlstm.conformance.bugs.bug import Around, Run
from numpy_xlstm.conformance.case_data import CaseData
from numpy_xlstm.conformance.subjects import Options, gradient_of
from numpy_xlstm.gradcheck.axes import Axes
from numpy_xlstm.numerics import Array, Arrays

Mistakes = Iterator[tuple[str, str, Around]]
"""Names, descriptions, and functions around the specification."""


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
        given = {name: other for name, other in both.items() if other in inputs}
        results = run(options, inputs | {name: inputs[other] for name, other in given.items()})
        taken_back = {gradient_of(n): gradient_of(other) for n, other in given.items()}
        return results | {n: results[other] for n, other in taken_back.items() if other in results}

    return around


def without(pattern: str, gate: int, array: Array) -> Array:
    """Set the part of an array that belongs to a gate to 0."""
    gates = np.indices([*map(len, axes_of(array, pattern).values())])
    number = gates[[*axes_of(array, pattern)].index("gate")].reshape(array.shape)
    return np.where(number == gate, array.dtype.type(0), array)


def of_one_row(row: int, names: Sequence[str]) -> Around:
    """Return a backward that forms gradients of parameters from one row of the batch alone."""

    def around(run: Run, options: Options, inputs: Arrays) -> Arrays:
        only = slice(row, row + 1 or None)
        own = run(options, {n: a[only] if _by_row(n) else a for n, a in inputs.items()})
        return run(options, inputs) | {name: own[name] for name in names if name in own}

    return around


def row_after_row(
    source: str, target: str, always: bool, run: Run, options: Options, inputs: Arrays
) -> Arrays:
    """Begin each row with a result of the row before, always or if it is given nothing."""
    results: dict[str, list[Array]] = {}
    before = Arrays()
    for row in range(len(inputs["x"])):
        own = {n: a[row : row + 1] if _by_row(n) else a for n, a in inputs.items()}
        for name, array in run(options, own | before if always else before | own).items():
            results.setdefault(name, []).append(array)
        names = [name for name in results if name.split(".")[0] == source]
        before = {name.replace(source, target): results[name][-1] for name in names}
    return {
        name: sum(arrays[1:], arrays[0]) if name.startswith("grads.") else np.concatenate(arrays)
        for name, arrays in results.items()
    }


def left_padded(run: Run, options: Options, inputs: Arrays) -> Arrays:
    """Take the last steps of shorter rows, not the first, and write outputs to them."""
    if "lengths" not in inputs:
        return run(options, inputs)
    steps = np.arange(inputs["x"].shape[1])
    padded = len(steps) - inputs["lengths"][:, None]
    moved = {n: _at(inputs[n], steps + padded) for n in ("x", "dy") if n in inputs}
    results = run(options, inputs | moved)
    return results | {n: _at(results[n], steps - padded) for n in ("y", "dx") if n in results}


def _at(array: Array, steps: Array) -> Array:
    """Return other steps of each row, counted cyclically."""
    others: Array = array[np.arange(len(array))[:, None], steps % max(1, array.shape[1])]
    return others


def _by_row(name: str) -> bool:
    return name.split(".")[0] in ("x", "dy", "lengths", "state", "dstate")


def of_row_0(array: Array) -> Array:
    """Return an array whose rows are all the first one."""
    return np.repeat(array[:1], len(array), axis=0)
