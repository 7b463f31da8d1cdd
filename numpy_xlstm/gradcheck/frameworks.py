"""Layers for :func:`gradcheck` whose backward is computed by PyTorch or JAX."""

import inspect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np

from numpy_xlstm.errors import DTypeError, MissingExtraError, OptionError, ShapeError
from numpy_xlstm.gradcheck.target import is_floating
from numpy_xlstm.numerics import Array, Arrays
from numpy_xlstm.trees import leaves, places, rebuild, tree_map, zeros_like


@dataclass(eq=False)
class AutodiffLayer:
    """A function written in PyTorch or JAX, as a layer whose parameters are NumPy arrays.

    ``evaluate(params, inputs, options, dtype)`` returns the result of the function, and a function
    from the cotangents of all arrays in it to the gradients of parameters and of inputs.
    ``to_array`` converts an array of the framework, one of ``kinds``.
    """

    target: Callable[..., Any]
    params: Arrays
    evaluate: Callable[..., tuple[Any, Callable[..., Any]]]
    to_array: Callable[[Any], Array]
    kinds: Any

    def with_params(self, params: Arrays) -> "AutodiffLayer":
        """Return the same function with other parameters of the same names."""
        if params.keys() != self.params.keys():
            expected, got = (", ".join(sorted(names)) or "none" for names in (self.params, params))
            raise OptionError(f"params: expected {expected}; got {got}")
        return replace(self, params={name: params[name] for name in self.params})

    @property
    def forward(self) -> Callable[..., Any]:
        """Evaluate the function: (y, cache), or (y, state, cache) if it returns more than y."""

        def forward(*inputs: Any, **options: Any) -> tuple[Any, ...]:
            dtype = self._dtype(inputs)
            if dtype.kind == "c":
                raise DTypeError("inputs: expected real numbers for a framework; got complex ones")
            result, pull_back = self.evaluate(self.params, inputs, options, dtype)
            outputs = self._arrays(result)
            if isinstance(outputs, tuple | list) and len(outputs) > 1:
                y, *rest = outputs
                state = rest[0] if len(rest) == 1 else tuple(rest)
                return y, state, (y, state, pull_back)
            return outputs, (outputs, None, pull_back)

        with suppress(ValueError):  # for a function that is written in C
            signature = inspect.signature(getattr(self.target, "forward", self.target))
            forward.__signature__ = signature  # type: ignore[attr-defined]
        return forward

    def backward(self, dy: Any, cache: tuple[Any, ...], dstate: Any = None) -> tuple[Any, ...]:
        """Return the gradients of the inputs and of the parameters from the framework."""
        y, state, pull_back = cache
        dstate = zeros_like(state) if dstate is None else dstate
        cotangents = [array for _, array in leaves("", (dy, dstate))]
        expected = [array.shape for _, array in leaves("", (y, state))]
        if [array.shape for array in cotangents] != expected:
            got = ", ".join(str(array.shape) for array in cotangents)
            shapes = ", ".join(map(str, expected))
            raise ShapeError(f"dy, dstate: expected cotangents of shapes {shapes}; got {got}")
        grads, dinputs = pull_back(cotangents)
        return *dinputs, grads

    def init_state(self, batch_size: int) -> Any:
        """Return the empty state if the function has a method ``init_state``, or else None."""
        init_state = getattr(self.target, "init_state", lambda batch_size: None)
        dtype = self._dtype(())
        return tree_map(lambda a: a.astype(dtype), self._arrays(init_state(batch_size)))

    def _dtype(self, inputs: tuple[Any, ...]) -> np.dtype[Any]:
        """Return the dtype of the computation; float64 if there are no floats."""
        arrays = (array for _, array in leaves("", (self.params, inputs)))
        return np.result_type(*[a for a in arrays if is_floating(a)] or [np.zeros(0)])

    def _arrays(self, tree: Any) -> Any:
        given = [leaf for _, leaf in places("", tree)]
        if others := [type(leaf).__name__ for leaf in given if not isinstance(leaf, self.kinds)]:
            raise TypeError(
                "outputs: expected arrays of the framework, or tuples, lists and dicts of them; "
                f"got {others[0]}"
            )
        return rebuild(tree, map(self.to_array, given))


def from_torch(target: Callable[..., Any]) -> AutodiffLayer:
    """Make a layer from a PyTorch module or function, whose backward is that of autograd.

    The check includes everything that autograd calls: an ``autograd.Function``, a kernel, a wrong
    ``detach``. A module is not modified: float64 copies of its parameters and buffers on the CPU
    are used instead, and ``torch.zeros`` returns float64. References are finite differences,
    because there is no complex step.

    Parameters
    ----------
    target : torch.nn.Module or callable
        Function of tensors, tuples, lists and dicts of tensors, and None, that returns the same
        kinds. The first of several outputs is y, and the others are the state. Parameters that
        require no gradient are constants.

    Returns
    -------
    AutodiffLayer
        A layer for :func:`numpy_xlstm.gradcheck`, with ``params``, ``forward`` and ``backward``.

    Raises
    ------
    TypeError
        If ``target`` is not callable.
    MissingExtraError
        If PyTorch is not installed.

    Examples
    --------
    .. code-block:: python

        report = gradcheck(from_torch(torch.nn.LSTM(3, 4)), rng.standard_normal((5, 2, 3)))
    """
    torch = _framework("torch", "PyTorch", target)
    module: Any = target if isinstance(target, torch.nn.Module) else None
    named = () if module is None else module.named_parameters()
    params = {n: _copy(p, torch.float64).numpy() for n, p in named if p.requires_grad}

    def tensor(array: Array) -> Any:
        return torch.tensor(array, requires_grad=is_floating(array))

    def evaluate(arrays: Arrays, inputs: Any, options: Any, dtype: np.dtype[Any]) -> Any:
        tensors, given, more = (tree_map(tensor, tree) for tree in (arrays, inputs, options))
        wide, before = getattr(torch, str(dtype)), torch.get_default_dtype()
        torch.set_default_dtype(wide)  # for a function that calls torch.zeros
        try:
            if module is not None:
                rest = {**dict(module.named_parameters()), **dict(module.named_buffers())}
                constants = {n: _copy(t, wide) for n, t in rest.items() if n not in tensors}
                result = torch.func.functional_call(module, constants | tensors, given, more)
            else:
                result = target(*given, **more)
        finally:
            torch.set_default_dtype(before)

        def pull_back(cotangents: list[Array]) -> tuple[Arrays, Any]:
            """Return zeros where the outputs do not use a parameter or an input."""
            into = [*tensors.values(), *(leaf for _, leaf in places("", given))]
            into = [tensor for tensor in into if tensor.requires_grad]
            outputs = [leaf for _, leaf in places("", result)]
            pairs = [(o, torch.tensor(c)) for o, c in zip(outputs, cotangents, strict=True)]
            pairs = [(output, cotangent) for output, cotangent in pairs if output.requires_grad]
            gradients = [torch.zeros_like(tensor) for tensor in into]
            if pairs and into:
                reached, back = zip(*pairs, strict=True)
                how = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
                gradients = torch.autograd.grad(reached, into, back, **how)
            named = {id(t): g.numpy() for t, g in zip(into, gradients, strict=True)}
            dinputs = rebuild(given, (named.get(id(leaf)) for _, leaf in places("", given)))
            return {name: named[id(tensor)] for name, tensor in tensors.items()}, dinputs

        return result, pull_back

    def to_array(tensor: Any) -> Array:
        return np.array(tensor.detach().cpu().numpy())

    return AutodiffLayer(target, params, evaluate, to_array, torch.Tensor)


def _copy(tensor: Any, dtype: Any) -> Any:
    """Return a copy on the CPU; a floating-point tensor is converted to this dtype."""
    copy = tensor.detach().cpu().clone()
    return copy.to(dtype) if copy.is_floating_point() else copy


def from_jax(target: Callable[..., Any]) -> AutodiffLayer:
    """Make a layer without ``params`` from a JAX function, whose backward is that of ``jax.vjp``.

    The check includes everything that JAX calls: a ``custom_vjp``, a kernel, a wrong
    ``stop_gradient``. The function is run in the dtype of its arguments, and compiled if possible.
    References are finite differences, because there is no complex step.

    Parameters
    ----------
    target : callable
        Function of arrays, tuples, lists and dicts of arrays, and None, that returns the same
        kinds. The first of several outputs is y, and the others are the state. Parameters are
        arguments, such as a dict.

    Returns
    -------
    AutodiffLayer
        A layer for :func:`numpy_xlstm.gradcheck`, with ``forward`` and ``backward``.

    Raises
    ------
    TypeError
        If ``target`` is not callable, or is a module that holds arrays.
    MissingExtraError
        If JAX is not installed.

    Examples
    --------
    .. code-block:: python

        report = gradcheck(from_jax(my_function), x, (h, c))
        report = gradcheck(from_jax(model.apply), params, x)
    """
    jax = _framework("jax", "JAX", target)
    if any(isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(target)):
        got = f"a {type(target).__name__} with arrays"
        raise TypeError(f"from_jax: expected a function whose parameters are arguments; got {got}")

    def call(inputs: Any, options: Any) -> Any:
        result = target(*inputs, **options)
        return jax.tree.map(lambda leaf: leaf, result)  # dict keys in the order of jax.jit

    def vjp(inputs: Any, options: Any, cotangents: list[Any]) -> Any:
        def outputs(inputs: Any) -> list[Any]:
            arrays = (leaf for _, leaf in places("", call(inputs, options)))
            return [leaf for leaf in arrays if is_floating(leaf)]

        (dinputs,) = jax.vjp(outputs, inputs)[1](cotangents)
        return dinputs

    def evaluate(params: Arrays, inputs: Any, options: Any, dtype: np.dtype[Any]) -> Any:
        def run(function: Callable[..., Any], *more: Any) -> Any:
            with jax.enable_x64(dtype == np.float64):
                try:
                    return jax.jit(function)(inputs, options, *more)
                except (jax.errors.JAXTypeError, jax.errors.JAXIndexError):
                    return function(inputs, options, *more)  # it needs concrete values

        def pull_back(cotangents: list[Array]) -> tuple[Arrays, Any]:
            dinputs = run(vjp, [c for c in cotangents if is_floating(c)])
            gradients = (leaf for _, leaf in places("", dinputs))
            float0 = jax.dtypes.float0  # the dtype of the gradients of integers
            arrays = (None if leaf.dtype == float0 else np.array(leaf) for leaf in gradients)
            return {}, rebuild(dinputs, arrays)

        return run(call), pull_back

    kinds = jax.Array | np.ndarray | np.generic | float | int
    return AutodiffLayer(target, {}, evaluate, np.array, kinds)


def _framework(name: str, title: str, target: Any) -> Any:
    """Return the module of a framework, for a target that can be called."""
    if not callable(target):
        raise TypeError(f"from_{name}: expected a function or a module; got {target!r}")
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtraError(f"from_{name} needs {title}: pip install {name}") from error
