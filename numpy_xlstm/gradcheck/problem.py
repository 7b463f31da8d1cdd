"""The target of a check as a function of named arrays."""

import contextlib
import copy
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.gradcheck.axes import Axes
from numpy_xlstm.gradcheck.target import (
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
from numpy_xlstm.numerics import Arrays
from numpy_xlstm.trees import leaves, rebuild, tree_map


class Call(NamedTuple):
    """A forward that has run."""

    layer: Any
    arguments: Arrays
    """Parameters and inputs by name."""
    results: tuple[Any, ...]
    """(y, cache) or (y, state, cache)."""

    @property
    def outputs(self) -> Arrays:
        """Results without the cache, by name."""
        pairs = zip(("y", "state"), self.results[:-1], strict=False)
        return dict(leaf for name, tree in pairs for leaf in leaves(name, tree))


class Problem:
    """A layer or a pair of functions at one point.

    The target gets only copies, so that it cannot modify arrays of the caller or of this object.
    The arguments and results of a forward are not modified before its backward. ``returned`` says
    that the initial state is one that a forward returned.

    Attributes
    ----------
    tensors, axes : dict
        All parameters, inputs and states with a gradient, and their axes. If a parameter has the
        name of an input, each parameter ``q`` is ``params.q``.
    inputs, outputs : dict
        Copies of all inputs, and of the results of the forward without the cache.
    call : Call
        The forward at this point, whose cache the backward gets.
    changes : list
        Arrays that the target has written to: name, shape, and "forward" or "backward".
    """

    def __init__(self, target: Any, inputs: tuple[Any, ...], *, returned: bool = False) -> None:
        self._target, self._inputs, self._returned = checked_target(target), inputs, returned
        self._names = input_names(self._target.forward, inputs)
        pairs = zip(self._names, inputs, strict=True)
        self.inputs = copies(dict(leaf for name, tree in pairs for leaf in leaves(name, tree)))
        params, prefix = named_params(self._target), ""
        while any(prefix + name in self.inputs for name in params):
            prefix += "params."
        self._labels = {name: prefix + name for name in params}  # names of params among all tensors
        self._point = copies({self._labels[n]: a for n, a in params.items()}) | self.inputs
        self.tensors = checked_tensors(self._point)
        named = getattr(self._target, "tensor_axes", {})
        patterns = {self._labels.get(name, name): pattern for name, pattern in named.items()}
        self.axes = {n: Axes(n, a.shape, patterns.get(n, "")) for n, a in self.tensors.items()}
        self.call = self._run(self.tensors)
        self.outputs = copies(self.call.outputs)
        self.changes: list[tuple[str, tuple[int, ...], str]] = []
        self.note_changes("forward", self._point, self.call.arguments)
        check_outputs(self.outputs, self.dtype)
        check_backward(self._target.backward, self.stateful)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of all tensors."""
        return next(iter(self.tensors.values())).dtype

    @property
    def has_params(self) -> bool:
        """Whether the target has parameters."""
        return bool(self._labels)

    @property
    def stateful(self) -> bool:
        """Whether the forward returns a state."""
        return len(self.call.results) == 3

    @cached_property
    def state(self) -> str:
        """Initial state, as in a row of the report."""
        if self._returned or not self.stateful:
            return "returned" if self._returned else ""
        inputs, returned = self._given(), self.call.results[1]
        if none_by_default(self._target.forward, len(inputs)):
            return "none"
        last, like = ([a.shape for _, a in leaves("", t)] for t in (inputs[-1], returned))
        return "given" if len(inputs) > 1 and last == like else ""

    def evaluate(self, tensors: Mapping[str, Any]) -> Arrays:
        """Return the outputs at another point, which may be complex."""
        return self._run(tensors).outputs

    def backward(self, cotangents: Arrays, layout: Any = np.array, alone: bool = False) -> Arrays:
        """Return the gradients from the backward under test, not copied.

        Tensors without a gradient are omitted. Additional gradients are included, except those of
        integers or of a state that was not given. ``layout`` is a function that copies a cotangent
        into a memory layout. ``alone`` omits dstate.
        """
        layer, arguments, (*results, cache) = self.call
        before, returned = copies(arguments), copies(self.call.outputs)
        handed = {name: layout(cotangents[name]) for name in self.outputs}
        values = iter(handed.values())
        dy, *dstate = (rebuild(tree, values) for tree in results)
        if isinstance(dy, np.ndarray) and dy.ndim == 0:
            dy = dy[()]
        gradients = layer.backward(dy, cache, *(() if alone else dstate))
        self.note_changes("backward", before, arguments)
        self.note_changes("backward", returned, self.call.outputs)
        self.note_changes("backward", cotangents, handed, prefix="d")
        return self._named_gradients(gradients)

    def forward_elsewhere(self) -> tuple[Any, ...]:
        """Return the results of another forward of the same layer, with similar inputs.

        If it does not accept these inputs, return those of the first forward.
        """
        layer, arguments, results = self.call
        # flipped and scaled, inputs are different but stay valid
        factors = {name: 0.75 if is_floating(a) else 1 for name, a in arguments.items()}
        moved = {n: np.array(np.flip(a) * factors[n], a.dtype) for n, a in arguments.items()}
        with contextlib.suppress(Exception), np.errstate(all="ignore"):
            results = layer.forward(*self._ordered(moved))
        return results

    def from_returned_state(self) -> "Problem":
        """Return the problem with a state that a forward returned, for other inputs if possible."""
        _, state, _ = self.forward_elsewhere()
        state = tree_map(lambda a: a.astype(self.dtype) if is_floating(a) else a, state)
        inputs = self._given()[:-1] if self.state == "given" else self._given()
        return Problem(self._target, (*inputs, state), returned=True)

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
        # deepcopy takes arrays in its memo for already copied: here, for the moved ones
        layer = copy.deepcopy(self._target, dict(moved))
        params = {name: moved.get(id(a), a) for name, a in params.items()}
        problem = Problem(over(layer, params), self._inputs, returned=self._returned)
        if not all(np.isfinite(a[a != -np.inf]).all() for a in problem.outputs.values()):
            raise ValueError("the forward gives NaN or infinity")
        return problem

    def from_specification(self) -> "Problem | None":
        """Return the problem of the target's ``specification``, or None if it has none."""
        target = getattr(self._target, "specification", None)
        return None if target is None else Problem(target, self._inputs)

    def ignores_params(self) -> bool:
        """Return whether the outputs do not change when all parameters change."""
        names = [name for name in self._labels.values() if name in self.tensors]
        moved = self.tensors | {name: self.tensors[name] + 1e-3 for name in names}
        outputs = self.evaluate(moved) if names else {}
        return bool(names) and all(same(outputs[name], a) for name, a in self.outputs.items())

    def _given(self) -> tuple[Any, ...]:
        """Return the inputs without a None in place of the state."""
        last_is_none = bool(self._inputs) and self._inputs[-1] is None
        return self._inputs[:-1] if last_is_none else self._inputs

    def _run(self, tensors: Mapping[str, Any]) -> Call:
        """Call the forward with copies of these tensors."""
        arguments = copies(self._point | dict(tensors))
        params = {name: arguments[label] for name, label in self._labels.items()}
        layer = over(self._target, params) if params else self._target
        results = layer.forward(*self._ordered(arguments))
        if not isinstance(results, tuple) or len(results) not in (2, 3):
            raise TypeError(
                "gradcheck: expected forward to return (y, cache) or (y, state, cache); "
                f"got {type(results).__name__}"
            )
        return Call(layer, arguments, results)

    def _ordered(self, arguments: Arrays) -> list[Any]:
        """Return the inputs of the forward, in its order."""
        pairs = zip(self._names, self._inputs, strict=True)
        return [
            rebuild(tree, (arguments[n] for n, _ in leaves(name, tree))) for name, tree in pairs
        ]

    def note_changes(self, by: str, before: Arrays, after: Arrays, prefix: str = "") -> None:
        """Add the arrays that are no longer as before to ``changes``, each once."""
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
