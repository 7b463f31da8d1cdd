"""Layers for :func:`gradcheck` whose backward is computed by another framework."""

import copy
import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from numpy_xlstm.errors import DTypeError, OptionError, ShapeError
from numpy_xlstm.gradcheck.target import Arrays, is_floating
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves, places, rebuild, tree_map, zeros_like


class AutodiffLayer:
    """A function written in PyTorch or JAX, as a layer whose parameters are NumPy arrays.

    A subclass defines ``_evaluate``, which returns the result of the function and a record;
    ``_pull_back``, which returns the gradients of the parameters and of the inputs, or None; and
    ``_array``, which converts an array of the framework or raises ``TypeError``.
    """

    def __init__(self, target: Callable[..., Any], params: Arrays) -> None:
        self.target, self.params = target, params

    def with_params(self, params: Arrays) -> "AutodiffLayer":
        """Return the same function with other parameters of the same names."""
        if params.keys() != self.params.keys():
            expected, got = (", ".join(sorted(names)) or "none" for names in (self.params, params))
            raise OptionError(f"params: expected {expected}; got {got}")
        other = copy.copy(self)
        other.params = {name: params[name] for name in self.params}
        return other

    @property
    def forward(self) -> Callable[..., Any]:
        """Evaluate the function: (y, cache), or (y, state, cache) if it returns more than y."""

        def forward(*inputs: Any, **more: Any) -> tuple[Any, ...]:
            return self._forward(inputs, more)

        with suppress(ValueError):  # for a function that is written in C
            signature = inspect.signature(getattr(self.target, "forward", self.target))
            forward.__signature__ = signature  # type: ignore[attr-defined]
        return forward

    def init_state(self, batch_size: int) -> Any:
        """Return the empty state if the function has a method ``init_state``, or else None."""
        init_state = getattr(self.target, "init_state", lambda batch_size: None)
        dtype = self._dtype(())
        return tree_map(lambda a: a.astype(dtype), self._arrays(init_state(batch_size)))

    def _dtype(self, inputs: tuple[Any, ...]) -> np.dtype[Any]:
        """Return the dtype of the computation; float64 if there are no floats."""
        arrays = (array for _, array in leaves("", (self.params, inputs)))
        return np.result_type(*[a for a in arrays if is_floating(a)] or [np.zeros(0)])

    def _forward(self, inputs: tuple[Any, ...], more: dict[str, Any]) -> tuple[Any, ...]:
        if self._dtype(inputs).kind == "c":
            raise DTypeError("inputs: expected real numbers for a framework; got complex ones")
        result, record = self._evaluate(inputs, more)
        outputs = self._arrays(result)
        if isinstance(outputs, tuple | list) and len(outputs) > 1:
            y, *rest = outputs
            state = rest[0] if len(rest) == 1 else tuple(rest)
            return y, state, (y, state, record)
        return outputs, (outputs, None, record)

    def backward(self, dy: Any, cache: tuple[Any, ...], dstate: Any = None) -> tuple[Any, ...]:
        """Return the gradients of the inputs and of the parameters from the framework."""
        y, state, record = cache
        dstate = zeros_like(state) if dstate is None else dstate
        cotangents = [array for _, array in leaves("", (dy, dstate))]
        expected = [array.shape for _, array in leaves("", (y, state))]
        if [array.shape for array in cotangents] != expected:
            got = ", ".join(str(array.shape) for array in cotangents)
            shapes = ", ".join(map(str, expected))
            raise ShapeError(f"dy, dstate: expected cotangents of shapes {shapes}; got {got}")
        grads, dinputs = self._pull_back(record, cotangents)
        return *dinputs, dict(zip(self.params, grads, strict=True))

    def _evaluate(self, inputs: tuple[Any, ...], more: dict[str, Any]) -> tuple[Any, Any]:
        raise NotImplementedError

    def _pull_back(
        self, record: Any, cotangents: Sequence[Array]
    ) -> tuple[list[Array], tuple[Any, ...]]:
        raise NotImplementedError

    def _array(self, leaf: Any) -> Array:
        raise NotImplementedError

    def _arrays(self, tree: Any) -> Any:
        return rebuild(tree, (self._array(leaf) for _, leaf in places("", tree)))
