"""Import of targets such as ``my_module:MyCell(3, 4)`` for ``numpy-xlstm gradcheck``."""

import ast
import inspect
import pkgutil
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

FORM = "module:name or module:name(3, num_heads=2), with literals as arguments"
ROWS, STEPS = 2, 4
"""Sizes of an input x without a given shape."""


def imported_target(
    text: str, shapes: Sequence[tuple[int, ...]], rng: np.random.Generator, dtype: Any
) -> Target:
    """Import a class, a layer, a PyTorch module or a pair of functions, and make inputs for it.

    Without shapes of inputs, the target must have an ``input_size``.
    """
    name, arguments, keywords = _parsed(text)
    target = _looked_up(text, name)
    if isinstance(target, type) or arguments is not None:
        target = _called(text, target, arguments or [], keywords, {"rng": rng, "dtype": dtype})
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


def _parsed(text: str) -> tuple[str, list[Any] | None, dict[str, Any]]:
    """Return the name and its arguments; None as arguments if it is not called."""
    module, _, expression = text.partition(":")
    try:
        tree = ast.parse(expression, mode="eval").body
        if not isinstance(tree, ast.Call):
            return text, None, {}
        keywords = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in tree.keywords}
        arguments = [ast.literal_eval(argument) for argument in tree.args]
    except (SyntaxError, ValueError):
        raise OptionError(f"gradcheck: expected {FORM}; got {text!r}") from None
    return f"{module}:{ast.unparse(tree.func)}", arguments, keywords


def _looked_up(text: str, name: str) -> Any:
    """Import the named object, from the working directory first.

    Errors within its module are not caught.
    """
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    module = name.partition(":")[0]
    try:
        return pkgutil.resolve_name(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise OptionError(
            f"{text}: expected a module in this folder, or installed; got {module!r}"
        ) from None
    except AttributeError as error:
        raise OptionError(f"{text}: expected a name in the module; got {error}") from None
    except ValueError:
        raise OptionError(f"gradcheck: expected {FORM}; got {text!r}") from None


def _called(
    text: str, function: Any, arguments: list[Any], keywords: dict[str, Any], more: dict[str, Any]
) -> Any:
    """Call a function, also with a generator and a dtype if it has these parameters."""
    if not callable(function):
        raise OptionError(f"{text}: expected a class or a function before the brackets")
    shown = getattr(function, "__name__", type(function).__name__)
    try:
        signature = inspect.signature(function)  # ValueError: of a function that is written in C
        shown += str(signature)
        given = signature.bind_partial(*arguments, **keywords).arguments
        names = signature.parameters.keys() - given.keys()
        keywords = {**keywords, **{n: value for n, value in more.items() if n in names}}
        signature.bind(*arguments, **keywords)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{text}: expected the arguments of {shown}: {error}") from None
    return function(*arguments, **keywords)


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
