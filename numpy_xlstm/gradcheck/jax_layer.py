"""Layers made from functions and modules of JAX."""

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any

import numpy as np

from numpy_xlstm.errors import MissingExtraError
from numpy_xlstm.gradcheck.autodiff import AutodiffLayer
from numpy_xlstm.gradcheck.target import Arrays, is_floating
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import places, rebuild


def from_jax(target: Callable[..., Any]) -> AutodiffLayer:
    """Make a layer from a JAX function or module, whose backward is that of ``jax.vjp``.

    The check includes everything that JAX calls: a ``custom_vjp``, a kernel, a wrong
    ``stop_gradient``. The function is run in the dtype of its arguments (parameters are float64 by
    default), and compiled if possible. References are differences, because there is no complex
    step.

    Parameters
    ----------
    target : callable
        Function of arrays, tuples, lists and dicts of arrays, and None, that returns the same
        kinds. The first of several outputs is y, and the others are the state. The arrays of a
        pytree, such as an Equinox module or a ``jax.tree_util.Partial``, are its parameters.

    Returns
    -------
    AutodiffLayer
        A layer for :func:`numpy_xlstm.gradcheck`, with ``params``, ``forward`` and ``backward``.

    Raises
    ------
    TypeError
        If ``target`` is not callable.
    MissingExtraError
        If JAX is not installed.

    Examples
    --------
    .. code-block:: python

        report = gradcheck(from_jax(my_function), x, (h, c))
        report = gradcheck(from_jax(jax.tree_util.Partial(apply, params)), x)

    >>> from numpy_xlstm.gradcheck import from_jax
    >>> from_jax(3)
    Traceback (most recent call last):
    TypeError: from_jax: expected a function or a module; got 3
    """
    if not callable(target):
        raise TypeError(f"from_jax: expected a function or a module; got {target!r}")
    held = _held(target).items()
    return _JaxLayer(target, {name: np.array(leaf, np.float64) for name, (_, leaf) in held})


class _JaxLayer(AutodiffLayer):
    """See :func:`from_jax`."""

    def __init__(self, target: Any, params: Arrays) -> None:
        super().__init__(target, params)
        self._call, self._vjp = _functions(target)

    def _evaluate(self, inputs: tuple[Any, ...], more: dict[str, Any]) -> tuple[Any, Any]:
        record = self.params, inputs, more
        return self._run(self._call, *record), record

    def _pull_back(
        self, record: Any, cotangents: Sequence[Array]
    ) -> tuple[list[Array], tuple[Any, ...]]:
        wanted = [c for c in cotangents if is_floating(c)]
        grads, dinputs = self._run(self._vjp, *record, wanted)
        gradients = (leaf for _, leaf in places("", dinputs))
        float0 = _jax().dtypes.float0  # the dtype of the gradients of integers
        arrays = (None if leaf.dtype == float0 else np.array(leaf) for leaf in gradients)
        return [np.array(grads[name]) for name in self.params], rebuild(dinputs, arrays)

    def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run the function, compiled unless it needs concrete values while it is traced."""
        jax = _jax()
        with jax.enable_x64(self._dtype(arguments) == np.float64):
            try:
                return jax.jit(function)(*arguments)
            except (jax.errors.JAXTypeError, jax.errors.JAXIndexError):
                return function(*arguments)

    def _array(self, leaf: Any) -> Array:
        if not isinstance(leaf, _jax().Array | np.ndarray | np.generic | float | int):
            raise TypeError(
                "from_jax: expected outputs of arrays, or tuples, lists and dicts of them; "
                f"got {type(leaf).__name__}"
            )
        return np.array(leaf)


def _functions(target: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the target as a function of parameters and inputs, and its vector-Jacobian product."""
    jax, held = _jax(), _held(target)
    named, structure = jax.tree_util.tree_flatten_with_path(target)

    def call(params: Any, inputs: Any, more: Any) -> Any:
        new = {path: params[name] for name, (path, _) in held.items()}
        module = structure.unflatten(new.get(path, leaf) for path, leaf in named)
        result = module(*inputs, **more)
        return jax.tree.map(lambda leaf: leaf, result)  # dict keys in the order of jax.jit

    def vjp(params: Any, inputs: Any, more: Any, cotangents: list[Any]) -> Any:
        def outputs(params: Any, inputs: Any) -> list[Any]:
            arrays = (leaf for _, leaf in places("", call(params, inputs, more)))
            return [leaf for leaf in arrays if is_floating(leaf)]

        return jax.vjp(outputs, params, inputs)[1](cotangents)

    return call, vjp


def _held(target: Any) -> dict[str, tuple[Any, Any]]:
    """Return path and array of each floating-point array of a pytree by name; a function has none.

    A name is the path without the beginning that all paths share.
    """
    jax = _jax()
    named, _ = jax.tree_util.tree_flatten_with_path(target)
    arrays = [(path, leaf) for path, leaf in named if isinstance(leaf, jax.Array | np.ndarray)]
    held = [(p, a) for p, a in arrays if jax.numpy.issubdtype(a.dtype, jax.numpy.floating)]
    levels = zip(*(path[:-1] for path, _ in held), strict=False)
    common = len(list(takewhile(lambda keys: len(set(keys)) == 1, levels)))
    return {
        jax.tree_util.keystr(path[common:], simple=True, separator="."): (path, leaf)
        for path, leaf in held
    }


def _jax() -> Any:
    try:
        import jax
    except ImportError as error:
        raise MissingExtraError("from_jax needs JAX: pip install jax") from error
    return jax
