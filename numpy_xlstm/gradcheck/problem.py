"""The target of a check as a function of named arrays."""

import contextlib
import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from numpy_xlstm.gradcheck.report import Places
from numpy_xlstm.gradcheck.target import (
    Arrays,
    accepts,
    check_backward,
    check_outputs,
    checked_target,
    checked_tensors,
    copies,
    input_names,
    is_floating,
    named_params,
    none_by_default,
    over,
    same,
)
from numpy_xlstm.trees import leaves, rebuild, tree_map


class Problem:
    """A layer or a pair of functions at one point.

    The target gets only copies, so that it cannot modify arrays of the caller or of this object.
    The arguments and results of a forward are not modified before its backward.

    ``tensors`` are all parameters, inputs and states with a gradient. If a parameter has the name
    of an input, each parameter ``q`` is ``params.q``. ``inputs`` are copies of all arguments;
    ``outputs`` are the results of the forward without the cache; ``state`` is as in a row of the
    report; ``places`` describe the entries of tensors; ``changes`` lists the arrays that forward or
    backward have written to.
    """

    def __init__(self, target: Any, inputs: tuple[Any, ...]) -> None:
        self._target = target = checked_target(target)
        self._inputs, self._names = inputs, input_names(target.forward, inputs)
        pairs = zip(self._names, inputs, strict=True)
        given = dict(leaf for name, tree in pairs for leaf in leaves(name, tree))
        params = named_params(target)
        prefix = ""
        while any(prefix + name in given for name in params):
            prefix += "params."
        self._labels = {name: prefix + name for name in params}
        self._point = copies({self._labels[name]: a for name, a in params.items()} | given)
        self.has_params, self.inputs = bool(params), copies(given)
        self.tensors = checked_tensors(self._point)
        self.dtype = next(iter(self.tensors.values())).dtype
        axes = getattr(target, "tensor_axes", {})
        patterns = {self._labels.get(name, name): pattern for name, pattern in axes.items()}
        self.places = {n: Places(n, a.shape, patterns.get(n, "")) for n, a in self.tensors.items()}
        self.changes: list[tuple[str, tuple[int, ...], str]] = []  # name, shape, function
        self._layer, self._given, self._results = self._forward(self.tensors)
        self._elsewhere = self._results
        self._note_changes("forward", self._point, self._given)
        self.outputs = copies(_named_outputs(self._results))
        check_outputs(self.outputs, self.dtype)
        self.stateful = len(self._results) == 3
        check_backward(target.backward, self.stateful)
        self.state, self._state_position = self._find_state()
        self.takes_no_dstate = self.stateful and accepts(target.backward, "dy", "cache")

    def evaluate(self, tensors: Mapping[str, Any]) -> Arrays:
        """Return the outputs at another point, which may be complex."""
        _, _, results = self._forward(tensors)
        return _named_outputs(results)

    def backward(self, cotangents: Arrays, layout: Any = np.array, alone: bool = False) -> Arrays:
        """Return the gradients from the backward under test, not copied.

        Tensors without a gradient are omitted. Additional gradients are included, except those of
        integers or of a state that was not given. ``layout`` is a function that copies a cotangent
        into a memory layout. ``alone`` omits dstate.
        """
        *results, cache = self._results
        before, returned = copies(self._given), copies(_named_outputs(self._results))
        handed = {name: layout(cotangents[name]) for name in self.outputs}
        values = iter(handed.values())
        dy, *dstate = (rebuild(tree, values) for tree in results)
        if isinstance(dy, np.ndarray) and dy.ndim == 0:
            dy = dy[()]
        gradients = self._layer.backward(dy, cache, *(() if alone else dstate))
        self._note_changes("backward", before, self._given)
        self._note_changes("backward", returned, _named_outputs(self._results))
        self._note_changes("backward", cotangents, handed, prefix="d")
        return self._named_gradients(gradients)

    def forward_elsewhere(self) -> None:
        """Run the forward of the same layer on other, similar inputs, if it accepts them."""
        factors = {name: 0.75 if is_floating(a) else 1 for name, a in self._given.items()}
        moved = {n: np.array(np.flip(a) * factors[n], a.dtype) for n, a in self._given.items()}
        with contextlib.suppress(Exception), np.errstate(all="ignore"):
            self._elsewhere = self._layer.forward(*self._arguments(moved))
        self._note_changes("next forward", self.outputs, _named_outputs(self._results))

    def from_returned_state(self) -> "Problem":
        """Return the problem with a state that a forward returned, for other inputs if possible."""
        _, state, _ = self._elsewhere
        state = tree_map(lambda a: a.astype(self.dtype) if is_floating(a) else a, state)
        problem = Problem(self._target, (*self._inputs[: self._state_position], state))
        problem.state = "returned"
        return problem

    def from_other_params(self, rng: np.random.Generator) -> "Problem":
        """Return the same problem with each parameter reduced by a random part of up to a quarter.

        Parameters keep their signs, but are no longer 1 or symmetric. The layer is copied together
        with its parts, which may contain the same arrays.
        """
        params = named_params(self._target)
        moved = {
            id(a): np.array(a * (1 - rng.random(a.shape) / 4), a.dtype)
            for a in params.values()
            if is_floating(a)
        }
        layer = copy.deepcopy(self._target, dict(moved))
        params = {name: moved.get(id(a), a) for name, a in params.items()}
        problem = Problem(over(layer, params), self._inputs)
        problem.state = self.state
        if not all(np.isfinite(a[a != -np.inf]).all() for a in problem.outputs.values()):
            raise ValueError("the forward gives NaN or infinity")
        return problem

    def ignores_params(self) -> bool:
        """Return whether the outputs do not change when all parameters change."""
        names = [name for name in self._labels.values() if name in self.tensors]
        moved = self.tensors | {name: self.tensors[name] + 1e-3 for name in names}
        outputs = self.evaluate(moved) if names else {}
        return bool(names) and all(same(outputs[name], a) for name, a in self.outputs.items())

    def _find_state(self) -> tuple[str, int]:
        """Return the attribute ``state``, and the position of the state in the arguments."""
        inputs, (_, *state, _) = self._inputs, self._results
        if inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        if state and none_by_default(self._target.forward, len(inputs)):
            return "none", len(inputs)
        last, returned = ([a.shape for _, a in leaves("", t)] for t in (inputs[-1:], state))
        return "given" if state and len(inputs) > 1 and last == returned else "", len(inputs) - 1

    def _forward(self, tensors: Mapping[str, Any]) -> tuple[Any, Arrays, tuple[Any, ...]]:
        """Call the forward; return the layer, the arguments, and the results."""
        given = copies(self._point | dict(tensors))
        params = {name: given[label] for name, label in self._labels.items()}
        layer = over(self._target, params) if params else self._target
        results = layer.forward(*self._arguments(given))
        if not isinstance(results, tuple) or len(results) not in (2, 3):
            raise TypeError(
                "gradcheck: expected forward to return (y, cache) or (y, state, cache); "
                f"got {type(results).__name__}"
            )
        return layer, given, results

    def _arguments(self, given: Arrays) -> list[Any]:
        pairs = zip(self._names, self._inputs, strict=True)
        return [rebuild(tree, (given[n] for n, _ in leaves(name, tree))) for name, tree in pairs]

    def _note_changes(self, by: str, before: Arrays, after: Arrays, prefix: str = "") -> None:
        for name, array in after.items():
            change = (prefix + name, array.shape, by)
            if change not in self.changes and not same(before[name], array):
                self.changes.append(change)

    def _named_gradients(self, gradients: Any) -> Arrays:
        """Return the results of the backward under the names of the tensors."""
        is_tuple = isinstance(gradients, tuple) and not hasattr(gradients, "_fields")
        parts: tuple[Any, ...] = gradients if is_tuple else (gradients,)
        grads: Mapping[str, Any] = {}
        if parts and isinstance(parts[-1], Mapping):
            parts, grads = parts[:-1], parts[-1]
        elif self._labels:
            got = ", ".join(type(part).__name__ for part in parts)
            raise TypeError(
                "gradcheck: expected backward to return the gradients of the inputs and a dict "
                f"with those of params; got {got or 'an empty tuple'}"
            )
        named: Arrays = {}
        for name, array in grads.items():
            label = self._labels.get(name, f"grads.{name}")
            if array is not None and (label in self.tensors or name not in self._labels):
                named[label] = array
        names = self._names + [""] * self.stateful  # for a state that was not given
        for n, tree in enumerate(parts):
            for name, array in leaves(names[n] if n < len(names) else f"gradient {n}", tree):
                if name in self.tensors or n >= len(names):
                    named[name] = array
        return named


def _named_outputs(results: tuple[Any, ...]) -> Arrays:
    return {
        name: array
        for label, tree in zip(("y", "state"), results[:-1], strict=False)
        for name, array in leaves(label, tree)
    }
