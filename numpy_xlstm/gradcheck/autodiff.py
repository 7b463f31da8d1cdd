"""Layers for :func:`gradcheck` whose backward is computed by another framework."""

import copy
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.errors import DTypeError, OptionError, ShapeError
from numpy_xlstm.gradcheck.target import Arrays, is_floating
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves, places, rebuild, tree_map


class AutodiffCache(NamedTuple):
    """Residuals of an :class:`AutodiffLayer`."""

    outputs: tuple[Any, Any]  # y and the state
    record: Any  # residuals of the framework


class AutodiffLayer:
    """A function written in PyTorch or JAX, as a layer whose parameters are NumPy arrays.

    A subclass defines ``_evaluate``, which returns the result of the function and a record;
    ``_pull_back``, which returns the gradients of the parameters and of the inputs, or None; and
    ``_array``.
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
        return _with_signature(self._forward, self.target)

    def init_state(self, batch_size: int) -> Any:
        """Return the empty state if the function has a method ``init_state``, or else None."""
        init_state = getattr(self.target, "init_state", lambda batch_size: None)
        dtype = self._dtype(())
        return tree_map(lambda a: a.astype(dtype), self._arrays(init_state(batch_size)))

    def _dtype(self, inputs: tuple[Any, ...]) -> np.dtype[Any]:
        """Return the dtype of the computation; float64 if there are no floats."""
        arrays = (array for _, array in leaves("", (self.params, inputs)))
        return np.result_type(*[a for a in arrays if is_floating(a)] or [np.zeros(0)])

    def _forward(self, *inputs: Any, **more: Any) -> tuple[Any, ...]:
        if self._dtype(inputs).kind == "c":
            raise DTypeError("inputs: expected real numbers for a framework; got complex ones")
        found, record = self._evaluate(inputs, more)
        outputs = self._arrays(found)
        if isinstance(outputs, tuple | list) and len(outputs) > 1:
            y, *rest = outputs
            state = rest[0] if len(rest) == 1 else tuple(rest)
            return y, state, AutodiffCache((y, state), record)
        return outputs, AutodiffCache((outputs, None), record)

    def backward(self, dy: Any, cache: AutodiffCache, dstate: Any = None) -> tuple[Any, ...]:
        """Return the gradients of the inputs and of the parameters from the framework."""
        outputs, record = cache
        given = zip(("dy", "dstate"), outputs, (dy, dstate), strict=True)
        cotangents = [array for each in given for array in _cotangents(*each)]
        grads, dinputs = self._pull_back(record, cotangents)
        return *dinputs, dict(zip(self.params, grads, strict=True))

    def _evaluate(self, inputs: tuple[Any, ...], more: dict[str, Any]) -> tuple[Any, Any]:
        raise NotImplementedError

    def _pull_back(
        self, record: Any, cotangents: Sequence[Array]
    ) -> tuple[list[Array], tuple[Any, ...]]:
        raise NotImplementedError

    def _array(self, leaf: Any) -> Array:
        """Convert an array of the framework to NumPy; raise ``TypeError`` for other objects."""
        raise NotImplementedError

    def _arrays(self, tree: Any) -> Any:
        found = (self._array(leaf) for _, leaf in places("", tree))
        return rebuild(tree, found)


def _cotangents(name: str, output: Any, given: Any) -> Iterator[Array]:
    """Yield the cotangents of the arrays of an output, in order, with zeros for None."""
    if given is None:
        yield from (np.zeros_like(array) for _, array in leaves(name, output))
    elif isinstance(output, Mapping | tuple | list):
        parts, others = _parts(output), _parts(given)
        if parts.keys() != others.keys():
            expected, got = (", ".join(map(str, found)) or "none" for found in (parts, others))
            raise ShapeError(f"{name}: expected the parts {expected}; got {got}")
        for key, part in parts.items():
            yield from _cotangents(f"{name}.{key}", part, others[key])
    elif output is None:
        raise ShapeError(f"{name}: expected None; got {type(given).__name__}")
    else:
        yield np.asarray(given)


def _parts(tree: Any) -> dict[Any, Any]:
    """Return the direct parts of a tree by name or index; an array has none."""
    if isinstance(tree, Mapping):
        return dict(tree)
    return dict(enumerate(tree)) if isinstance(tree, tuple | list) else {}


def _with_signature(forward: Callable[..., Any], target: Any) -> Callable[..., Any]:
    """Return the forward with the target's signature, if Python knows it."""

    @functools.wraps(forward)
    def named(*inputs: Any, **more: Any) -> Any:
        return forward(*inputs, **more)

    try:
        signature = inspect.signature(getattr(target, "forward", target))
    except ValueError:  # for a function that is written in C
        return named
    named.__signature__ = signature  # type: ignore[attr-defined]
    return named
