"""Whatever is to be checked, as one flat function: named arrays in, named arrays out.

The two protocols are (see also the documentation of :func:`numpy_xlstm.gradcheck.gradcheck`)::

    y, cache        = forward(*inputs)             *dinputs[, grads] = backward(dy, cache)
    y, state, cache = forward(*inputs[, state])    *dinputs, dstate0[, grads] = backward(
                                                       dy, cache, dstate)
"""

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from numpy_xlstm.errors import DTypeError
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves, rebuild

Arrays = dict[str, Array]


class Problem:
    """A layer or a pair of functions at one point.

    Attributes
    ----------
    tensors : dict[str, np.ndarray]
        Everything to differentiate with respect to: parameters, inputs, states.
    outputs : dict[str, np.ndarray]
        What the forward gives at that point, without the cache.
    """

    def __init__(self, target: Any, inputs: tuple[Any, ...]) -> None:
        _check_target(target)
        self._target = target
        self._inputs = inputs
        forward = target[0] if isinstance(target, tuple) else target.forward
        _check_inputs(forward, inputs)
        self._names = _argument_names(forward, len(inputs))
        self._params: Mapping[str, Array] = getattr(target, "params", {})
        self.tensors: Arrays = dict(self._params)
        for name, tree in zip(self._names, inputs, strict=True):
            self.tensors.update((n, a) for n, a in leaves(name, tree) if a.dtype.kind in "fc")
        if not self.tensors:
            raise DTypeError("gradcheck: expected a floating-point input or parameter; got none")
        *results, self._cache = self._forward(self.tensors)
        self._results = tuple(results)
        self.outputs = self._name_outputs(self._results)

    def evaluate(self, tensors: Mapping[str, Array]) -> Arrays:
        """Outputs at another point, which may be complex."""
        *results, _ = self._forward(tensors)
        return self._name_outputs(tuple(results))

    def backward(self, cotangents: Mapping[str, Array]) -> Arrays:
        """Gradients of all tensors as the backward under test gives them.

        A tensor for which there is no gradient is left out. What is returned beyond the tensors
        is kept, but for the gradient of a state that was not given, or of integers.
        """
        values = iter([cotangents[name] for name in self.outputs])
        dy, *dstate = (rebuild(tree, values) for tree in self._results)
        if np.ndim(self._results[0]) == 0:
            dy = dy[()]
        backward = self._function(1, "backward")
        found = backward(dy, self._cache, *dstate)
        found = found if isinstance(found, tuple) and not hasattr(found, "_fields") else (found,)
        gradients: Arrays = {}
        if hasattr(self._target, "params"):
            *found, grads = found
            gradients |= grads
        omitted = ["dstate0"] if dstate and len(found) > len(self._names) else []
        names = [*self._names, *omitted]
        names += [f"gradient {n}" for n in range(len(names), len(found))]
        for name, tree in zip(names, found, strict=False):
            gradients.update(leaves(name, tree))
        constant = {*self._names, *omitted}
        return {
            name: np.asarray(gradient)
            for name, gradient in gradients.items()
            if name in self.tensors or name.split(".")[0] not in constant
        }

    def _forward(self, tensors: Mapping[str, Array]) -> tuple[Any, ...]:
        def replaced(name: str, tree: Any) -> Any:
            return rebuild(tree, iter([tensors.get(n, a) for n, a in leaves(name, tree)]))

        inputs = map(replaced, self._names, self._inputs)
        results: tuple[Any, ...] = self._function(0, "forward", tensors)(*inputs)
        if not isinstance(results, tuple) or len(results) not in (2, 3):
            raise TypeError(
                "gradcheck: expected forward to return (y, cache) or (y, state, cache); "
                f"got {type(results).__name__}"
            )
        return results

    def _function(
        self, index: int, name: str, tensors: Mapping[str, Array] | None = None
    ) -> Callable[..., Any]:
        if isinstance(self._target, tuple):
            function: Callable[..., Any] = self._target[index]
            return function
        layer = self._target
        if tensors is not None and self._params:
            layer = _over(layer, {name: tensors[name] for name in self._params})
        method: Callable[..., Any] = getattr(layer, name)
        return method

    def _name_outputs(self, results: tuple[Any, ...]) -> Arrays:
        names = ("y", "state")[: len(results)]
        return {
            name: array
            for label, tree in zip(names, results, strict=True)
            for name, array in leaves(label, tree)
        }


def _check_target(target: Any) -> None:
    """Raise ``TypeError`` unless the target has a forward and a backward."""
    pair = isinstance(target, tuple)
    functions = target if pair else [getattr(target, n, None) for n in ("forward", "backward")]
    if isinstance(target, type) or len(functions) != 2 or not all(map(callable, functions)):
        got = f"the class {target.__name__}" if isinstance(target, type) else repr(target)
        raise TypeError(
            "gradcheck: expected a layer with forward and backward, or a tuple of two functions; "
            f"got {got}"
        )


def _check_inputs(forward: Callable[..., Any], inputs: tuple[Any, ...]) -> None:
    """Raise ``TypeError`` unless the forward takes so many inputs."""
    signature = inspect.signature(forward)
    try:
        signature.bind(*inputs)
    except TypeError as error:
        names = ", ".join(signature.parameters)
        raise TypeError(
            f"gradcheck: expected the inputs of forward({names}); got {len(inputs)}: {error}"
        ) from None


def _over(layer: Any, params: Arrays) -> Any:
    """The same layer over other parameters."""
    if hasattr(layer, "with_params"):
        return layer.with_params(params)
    clone = copy.copy(layer)
    clone.params = params
    return clone


def _argument_names(forward: Callable[..., Any], count: int) -> list[str]:
    """Names of the inputs: those of the forward's arguments where it names them."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(forward).parameters.values()
    named = [p.name for p in parameters if p.kind in kinds]
    return (named + [f"input{n}" for n in range(len(named), count)])[:count]
