"""Whatever is to be checked, as one flat function: named arrays in, named arrays out."""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.gradcheck.places import Places
from numpy_xlstm.gradcheck.target import (
    Arrays,
    accepts,
    argument_names,
    check_backward,
    check_inputs,
    check_outputs,
    check_tensors,
    checked_target,
    copies,
    is_floating,
    named_params,
    none_by_default,
    over,
    same,
)
from numpy_xlstm.trees import leaves, rebuild, tree_map

Change = tuple[str, tuple[int, ...], str]
"""Name and shape of an array that was written to, and by what."""


class Call(NamedTuple):
    """One call of the forward: of which layer, with what, and what it returned."""

    target: Any
    given: Arrays
    results: tuple[Any, ...]


class Problem:
    """A layer or a pair of functions at one point.

    The target is given copies only, so that nothing it writes to is the caller's or ours. Nothing
    that a forward was given or has returned is changed before its backward.

    ``tensors`` is everything to differentiate with respect to: parameters, inputs, states. A
    parameter with the name of an input ``q`` is called ``params.q``. ``outputs`` is what the
    forward gives, without the cache; ``state`` is as in a row of the report; ``places`` names the
    entries of tensors; ``changes`` lists what forward or backward have written to.
    """

    def __init__(self, target: Any, inputs: tuple[Any, ...]) -> None:
        self._target = target = checked_target(target)
        check_inputs(target.forward, inputs)
        self._inputs, self._arguments = inputs, argument_names(target.forward, len(inputs))
        pairs = zip(self._arguments, inputs, strict=True)
        given = dict(leaf for name, tree in pairs for leaf in leaves(name, tree))
        params = named_params(target)
        self._labels = _labels(params, given)
        self._point = copies({self._labels[name]: a for name, a in params.items()} | given)
        self.tensors = {name: a for name, a in self._point.items() if is_floating(a)}
        check_tensors(self.tensors)
        pattern = getattr(target, "tensor_axes", {}).get
        self.places = {n: Places(n, a.shape, pattern(n, "")) for n, a in self.tensors.items()}
        self.changes: list[Change] = []
        self._call = self._forward(self.tensors)
        self._elsewhere = self._call.results
        self._note_changes("forward", self._point, self._call.given)
        self.outputs = copies(_named_outputs(self._call.results))
        check_outputs(self.outputs, next(iter(self.tensors.values())).dtype)
        self.stateful = len(self._call.results) == 3
        check_backward(target.backward, self.stateful)
        self.state, self._state_position = self._find_state()
        self.takes_no_dstate = self.stateful and accepts(target.backward, "dy", "cache")

    def evaluate(self, tensors: Mapping[str, Any]) -> Arrays:
        """Outputs at another point, which may be complex."""
        return _named_outputs(self._forward(tensors).results)

    def backward(self, cotangents: Arrays, layout: Any = np.array, alone: bool = False) -> Arrays:
        """Gradients of all tensors as the backward under test gives them, not copied.

        A tensor without gradient is left out. What is returned beyond the tensors is kept, but for
        the gradient of integers or of a state that was not given. ``layout`` copies a cotangent;
        ``alone`` leaves out dstate.
        """
        target, given, (*results, cache) = self._call
        before, returned = copies(given), copies(_named_outputs((*results, cache)))
        handed = {name: layout(cotangents[name]) for name in self.outputs}
        values = iter(handed.values())
        dy, *dstate = (rebuild(tree, values) for tree in results)
        if np.ndim(results[0]) == 0:
            dy = dy[()]
        found = target.backward(dy, cache, *(() if alone else dstate))
        self._note_changes("backward", before, given)
        self._note_changes("backward", returned, _named_outputs((*results, cache)))
        self._note_changes("backward", cotangents, handed, prefix="d")
        dinputs, grads = self._split(found)
        return dict(self._named_grads(grads)) | dict(self._named_dinputs(dinputs))

    def forward_elsewhere(self) -> None:
        """Run the forward of the same layer on other inputs of much the same kind, if it can."""
        factors = {name: 0.75 if is_floating(a) else 1 for name, a in self._call.given.items()}
        moved = {n: np.array(np.flip(a) * factors[n], a.dtype) for n, a in self._call.given.items()}
        with contextlib.suppress(Exception), np.errstate(all="ignore"):
            self._elsewhere = self._call.target.forward(*self._arguments_from(moved))
        self._note_changes("next forward", self.outputs, _named_outputs(self._call.results))

    def from_returned_state(self) -> "Problem":
        """The same problem from the state that the forward returned, elsewhere if it could."""
        dtype, returned = next(iter(self.tensors.values())).dtype, self._elsewhere[1]
        state = tree_map(lambda a: a.astype(dtype) if is_floating(a) else a, returned)
        problem = Problem(self._target, (*self._inputs[: self._state_position], state))
        problem.state = "returned"
        return problem

    def _find_state(self) -> tuple[str, int]:
        """Whether the forward takes a state and was given one, and where its arguments have it."""
        inputs, (_, *state, _) = self._inputs, self._call.results
        if inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        if state and none_by_default(self._target.forward, len(inputs)):
            return "none", len(inputs)
        last, returned = ([a.shape for _, a in leaves("", t)] for t in (inputs[-1:], state))
        return "given" if state and len(inputs) > 1 and last == returned else "", len(inputs) - 1

    def ignores_params(self) -> bool:
        """Whether the outputs stay as they are when all parameters move."""
        names = [name for name in self._labels.values() if name in self.tensors]
        moved = self.tensors | {name: self.tensors[name] + 1e-3 for name in names}
        found = self.evaluate(moved) if names else {}
        return bool(names) and all(same(found[name], a) for name, a in self.outputs.items())

    def _forward(self, tensors: Mapping[str, Any]) -> Call:
        given = copies(self._point | dict(tensors))
        params = {name: given[label] for name, label in self._labels.items()}
        target = over(self._target, params) if params else self._target
        results = target.forward(*self._arguments_from(given))
        if not isinstance(results, tuple) or len(results) not in (2, 3):
            raise TypeError(
                "gradcheck: expected forward to return (y, cache) or (y, state, cache); "
                f"got {type(results).__name__}"
            )
        return Call(target, given, results)

    def _arguments_from(self, given: Arrays) -> list[Any]:
        pairs = zip(self._arguments, self._inputs, strict=True)
        return [rebuild(tree, (given[n] for n, _ in leaves(name, tree))) for name, tree in pairs]

    def _note_changes(self, by: str, before: Arrays, after: Arrays, prefix: str = "") -> None:
        for name, array in after.items():
            change = (prefix + name, array.shape, by)
            if change not in self.changes and not same(before[name], array):
                self.changes.append(change)

    def _split(self, found: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """What the backward returned: gradients of the inputs, and those of the parameters."""
        parts = found if isinstance(found, tuple) and not hasattr(found, "_fields") else (found,)
        if not isinstance(self._target, tuple) and parts and isinstance(parts[-1], Mapping):
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
        asked = len(self._arguments) + self.stateful
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
