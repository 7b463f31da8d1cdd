"""Whatever is to be checked, as one flat function: named arrays in, named arrays out.

The two protocols are (see also the documentation of :func:`numpy_xlstm.gradcheck.gradcheck`)::

    y, cache        = forward(*inputs)             *dinputs[, grads] = backward(dy, cache)
    y, state, cache = forward(*inputs[, state])    *dinputs, dstate0[, grads] = backward(
                                                       dy, cache, dstate)
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.gradcheck.target import (
    Arrays,
    argument_names,
    check_backward,
    check_inputs,
    check_outputs,
    check_target,
    check_tensors,
    function,
    is_floating,
    named_params,
    over,
)
from numpy_xlstm.trees import leaves, rebuild


class Change(NamedTuple):
    """An array that the target was given and has written to."""

    name: str
    shape: tuple[int, ...]
    by: str


class Call(NamedTuple):
    """One call of the forward: of which layer, with what, and what it returned."""

    target: Any
    given: Arrays
    results: tuple[Any, ...]


class Problem:
    """A layer or a pair of functions at one point.

    The target is given copies only, so that nothing it writes to is the caller's or ours.

    Attributes
    ----------
    tensors : dict[str, np.ndarray]
        Everything to differentiate with respect to: parameters, inputs, states. A parameter with
        the name of an input ``q`` is called ``params.q``.
    outputs : dict[str, np.ndarray]
        What the forward gives at that point, without the cache.
    changes : list of Change
        What the forward or the backward has written to.
    """

    def __init__(self, target: Any, inputs: tuple[Any, ...]) -> None:
        check_target(target)
        forward = function(target, "forward")
        check_inputs(forward, inputs)
        self._target, self._inputs = target, inputs
        self._arguments = argument_names(forward, len(inputs))
        given = dict(
            leaf
            for name, tree in zip(self._arguments, inputs, strict=True)
            for leaf in leaves(name, tree)
        )
        params = named_params(target)
        self._labels = _labels(params, given)
        point = {self._labels[name]: array for name, array in params.items()} | given
        self._point = _copies(point)
        self.tensors = {name: a for name, a in self._point.items() if is_floating(a)}
        check_tensors(self.tensors)
        self.changes: list[Change] = []
        self._call = self._forward(self.tensors)
        self._note_changes("forward", self._point, self._call.given)
        self.outputs = _copies(_named_outputs(self._call.results))
        check_outputs(self.outputs, next(iter(self.tensors.values())).dtype)
        check_backward(function(self._call.target, "backward"), len(self._call.results) == 3)

    def evaluate(self, tensors: Mapping[str, Any]) -> Arrays:
        """Outputs at another point, which may be complex."""
        return _named_outputs(self._forward(tensors).results)

    def backward(self, cotangents: Mapping[str, Any]) -> Arrays:
        """Gradients of all tensors as the backward under test gives them.

        A tensor for which there is no gradient is left out. What is returned beyond the tensors
        is kept, but for the gradient of a state that was not given, or of integers.
        """
        target, given, (*results, cache) = self._call
        before, handed = _copies(given), _copies({name: cotangents[name] for name in self.outputs})
        values = iter(handed.values())
        dy, *dstate = (rebuild(tree, values) for tree in results)
        if np.ndim(results[0]) == 0:
            dy = dy[()]
        found = function(target, "backward")(dy, cache, *dstate)
        self._note_changes("backward", before, given)
        self._note_changes("backward", cotangents, handed, prefix="d")
        dinputs, grads = self._split(found)
        return _copies(dict(self._named_grads(grads)) | dict(self._named_dinputs(dinputs)))

    def ignores_params(self) -> bool:
        """Whether the outputs stay as they are when all parameters move."""
        names = [name for name in self._labels.values() if name in self.tensors]
        moved = self.tensors | {name: self.tensors[name] + 1e-3 for name in names}
        found = self.evaluate(moved) if names else {}
        return bool(names) and all(_same(found[name], a) for name, a in self.outputs.items())

    def _forward(self, tensors: Mapping[str, Any]) -> Call:
        given = _copies(self._point | dict(tensors))
        params = {name: given[label] for name, label in self._labels.items()}
        target = over(self._target, params) if params else self._target
        inputs = [
            rebuild(tree, iter([given[n] for n, _ in leaves(name, tree)]))
            for name, tree in zip(self._arguments, self._inputs, strict=True)
        ]
        results = function(target, "forward")(*inputs)
        if not isinstance(results, tuple) or len(results) not in (2, 3):
            raise TypeError(
                "gradcheck: expected forward to return (y, cache) or (y, state, cache); "
                f"got {type(results).__name__}"
            )
        return Call(target, given, results)

    def _note_changes(
        self, by: str, before: Mapping[str, Any], after: Arrays, prefix: str = ""
    ) -> None:
        for name, array in after.items():
            change = Change(prefix + name, array.shape, by)
            if change not in self.changes and not _same(before[name], array):
                self.changes.append(change)

    def _split(self, found: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """What the backward returned: gradients of the inputs, and those of the parameters."""
        parts = found if isinstance(found, tuple) and not hasattr(found, "_fields") else (found,)
        if isinstance(self._target, tuple):
            return parts, {}
        if parts and isinstance(parts[-1], Mapping):
            return parts[:-1], parts[-1]
        if self._labels:
            got = ", ".join(type(part).__name__ for part in parts)
            raise TypeError(
                "gradcheck: expected backward to return the gradients of the inputs and a dict "
                f"with those of params; got {got or 'an empty tuple'}"
            )
        return parts, {}

    def _named_grads(self, grads: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for name, array in grads.items():
            label = self._labels.get(name) or _free(name, self._point)
            unasked = name not in self._labels
            if array is not None and (unasked or label in self.tensors):
                yield label, array

    def _named_dinputs(self, dinputs: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
        state_omitted = len(self._call.results) == 3
        asked = len(self._arguments) + state_omitted
        for n, tree in enumerate(dinputs):
            name = [*self._arguments, "", ""][n] if n < asked else f"gradient {n}"
            for leaf, array in leaves(name, tree):
                if n >= asked or leaf in self.tensors:
                    yield leaf, array


def _labels(params: Arrays, taken: Arrays) -> dict[str, str]:
    """Names of the parameters that no input has."""
    labels: dict[str, str] = {}
    for name in params:
        labels[name] = _free(name, {*taken, *labels.values(), *(params.keys() - {name})})
    return labels


def _free(name: str, taken: Collection[str]) -> str:
    """The name, with "params." before it as often as it takes."""
    while name in taken:
        name = f"params.{name}"
    return name


def _named_outputs(results: tuple[Any, ...]) -> Arrays:
    return {
        name: array
        for label, tree in zip(("y", "state"), results[:-1], strict=False)
        for name, array in leaves(label, tree)
    }


def _copies(arrays: Mapping[str, Any]) -> Arrays:
    return {name: np.array(array) for name, array in arrays.items()}


def _same(a: Any, b: Any) -> bool:
    return np.array_equal(a, b, equal_nan=is_floating(a))
