"""Import of targets such as ``my_module:MyCell(3, 4)`` for ``numpy-xlstm gradcheck``."""

import importlib
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm.errors import OptionError
from numpy_xlstm.gradcheck import from_torch
from numpy_xlstm.gradcheck.target import checked_target, is_floating, named_params, over
from numpy_xlstm.numerics import Array
from numpy_xlstm.suite import Target

FORM = "module:name or module:name(3, num_heads=2, rng=rng)"
ROWS, STEPS = 2, 4
"""Sizes of an input x without a given shape."""


def imported_target(
    text: str, shapes: Sequence[tuple[int, ...]], rng: np.random.Generator, dtype: Any
) -> Target:
    """Evaluate a layer, a PyTorch module or a pair of functions, and make inputs for it.

    A class is called without arguments. ``rng`` and ``dtype`` are names that the text may contain.
    Without shapes of inputs, the target must have an ``input_size``.
    """
    target = _evaluated(text, {"rng": rng, "dtype": dtype})
    if isinstance(target, type):
        try:
            inspect.signature(target).bind()
        except TypeError as error:
            raise OptionError(f"{text}: expected {text}(…) with arguments: {error}") from None
        except ValueError:  # written in C, without a signature
            pass
        target = target()
    if "torch" in sys.modules and isinstance(target, sys.modules["torch"].nn.Module):
        target = from_torch(target)
    try:
        checked_target(target)
    except TypeError as error:
        raise OptionError(
            f"{text}: {str(error).removeprefix('gradcheck: ')}; from_torch and from_jax make "
            "layers from functions of PyTorch or JAX"
        ) from None
    if params := named_params(target):
        target = over(target, {n: _without_zeros(a, rng, dtype) for n, a in params.items()})
    return target, _inputs(text, target, shapes, rng, dtype)


def _evaluated(text: str, names: dict[str, Any]) -> Any:
    """Import the module, from the working directory first, and evaluate the expression there.

    Errors of the user's own code, which the expression is a part of, are not caught.
    """
    module, _, expression = text.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        code = compile(expression.strip(), text, "eval")
    except SyntaxError:
        code = None
    if code is None or not module or module.startswith("."):
        raise OptionError(f"gradcheck: expected {FORM}; got {text!r}")
    try:
        namespace = vars(importlib.import_module(module))
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise OptionError(
            f"{text}: expected a module in this folder, or installed; got {module!r}"
        ) from None
    return eval(code, {**namespace, **names})


def _without_zeros(array: Array, rng: np.random.Generator, dtype: Any) -> Array:
    """Replace zeros by small numbers, because a factor of zero hides mistakes."""
    if not is_floating(array):
        return array
    drawn = 0.1 * rng.standard_normal(array.shape)
    filled: Array = np.where(array == 0, drawn, array).astype(dtype)
    return filled


def _inputs(
    text: str, target: Any, shapes: Sequence[tuple[int, ...]], rng: np.random.Generator, dtype: Any
) -> tuple[Array, ...]:
    """Draw inputs; without shapes, an x for one step, or else for a sequence."""
    if shapes:
        return tuple(rng.standard_normal(shape).astype(dtype) for shape in shapes)
    width = getattr(getattr(target, "target", target), "input_size", None)
    if not isinstance(width, int):
        raise OptionError(f"{text}: expected --input with the shape of an input, such as 2,5,3")
    tried = []
    for shape in ((ROWS, width), (ROWS, STEPS, width)):
        x = rng.standard_normal(shape).astype(dtype)
        try:
            target.forward(x)
        except Exception as error:  # a forward under test may raise anything
            tried.append(f"{shape}: {type(error).__name__}: {error}")
        else:
            return (x,)
    raise OptionError(
        f"{text}: expected --input with the shape of an input, such as 2,5,3; tried "
        + "; ".join(tried)
    )
