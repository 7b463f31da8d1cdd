"""Public calls with valid arguments, which can be made repeatedly."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm import layers
from numpy_xlstm.conformance import suite
from numpy_xlstm.gradcheck.target import checked_target
from numpy_xlstm.module import Module
from numpy_xlstm.trees import tree_map


class Call(NamedTuple):
    """A function, and the names and values of its arguments."""

    function: Callable[..., Any]
    arguments: dict[str, Any]

    def __call__(self, **changed: Any) -> Any:
        """Call the function with some arguments replaced."""
        return self.function(**(self.arguments | changed))


Make = Callable[[Any], Call]
"""Function from a dtype to a new call."""

WITH_LENGTHS = layers.LSTM, layers.GRU, layers.RNN, layers.sLSTM, layers.mLSTM, layers.SequenceLayer

NOT_CHECKED = frozenset(
    """
    compute compute_backward run Cache State check check_backward check_input inner_start
    inner_state outer_state make_cell cell_params current_cell named named_grads count index
    prepared decode_step copied over allocated
    """.split()  # noqa: SIM905
)
"""Methods that modules call of one another, after validation, and methods of tuples."""


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def methods(name: str, case: suite.Case) -> dict[str, Make]:
    """Return calls of the public methods of a module, or of the two functions of a pair."""

    def call(method: str, dtype: Any) -> Call:
        target, inputs = case(np.random.default_rng(5), dtype)
        if not isinstance(target, Module):
            return _of_pair(method, target, inputs)
        return _of_module(method, target, inputs)

    target: Any = case(rng(), np.float64)[0]
    if isinstance(target, suite.Called):
        return {}
    names = ["forward", "backward"]
    if not isinstance(target, Module):
        forward: Any = checked_target(target).forward
        public = forward.func.__name__ if hasattr(forward, "func") else forward.__name__
    else:
        public = type(target).__name__
        found = [n for n in dir(target) if not n.startswith("_") and n not in NOT_CHECKED]
        names = [n for n in found if inspect.ismethod(getattr(target, n))]
        names += ["__call__"] * callable(target)
    return {f"{public}/{name}.{method}": partial(call, method) for method in names}


def _of_pair(method: str, target: Any, inputs: Any) -> Call:
    pair = checked_target(target)
    forward, backward = pair.forward, pair.backward
    kinds = inspect.signature(forward).parameters
    arguments: dict[str, Any] = dict(zip(kinds, inputs, strict=False))
    if method == "forward":
        options = {n: p.default for n, p in kinds.items() if p.kind is p.KEYWORD_ONLY}
        return Call(forward, arguments | options)
    return _backward(backward, forward(*inputs))


def _backward(backward: Any, results: Any) -> Call:
    y, *state, cache = results
    dy = np.cos(y) if isinstance(y, np.ndarray) else y.dtype.type(0.7)
    names = [*inspect.signature(backward).parameters]
    arguments = {names[0]: dy, names[1]: cache}
    if state:
        dstate = tree_map(
            lambda a: np.cos(np.where(np.isfinite(a), a, 0)).astype(a.dtype), state[0]
        )
        arguments[names[2]] = dstate
    return Call(backward, arguments)


def _of_module(method: str, target: Any, inputs: Any) -> Call:
    function = getattr(target, method)
    kinds = inspect.signature(function).parameters
    if method == "backward":
        return _backward(function, target.forward(*inputs))
    if method in ("forward", "__call__"):
        arguments: dict[str, Any] = dict(zip(kinds, inputs, strict=False))
        lengths = np.ones(len(inputs[0]), int) if isinstance(target, WITH_LENGTHS) else None
        more = {"lengths": lengths, "rng": rng()}
        return Call(function, arguments | {n: more[n] for n in more if n in kinds})
    known: dict[str, Any] = {
        "batch_size": 2,
        "dtype": np.float32,
        "params": dict(target.params),
        "arrays": dict(target.state_dict()) if hasattr(target, "state_dict") else None,
        "layout": "vanilla",
        "ids": np.array([[1, 2]]),
        "rng": rng(),
    }
    return Call(function, {n: known[n] for n in kinds if n in known})


def made(function: Callable[..., Any], /, **arguments: Any) -> Make:
    """Make a call with arguments for all dtypes; functions among them are called for each call."""

    def call(dtype: Any) -> Call:
        fresh = {n: v() if isinstance(v, Fresh) else v for n, v in arguments.items()}
        return Call(function, fresh)

    return call


class Fresh(NamedTuple):
    """Make an argument that a call may modify."""

    make: Callable[[], Any]

    def __call__(self) -> Any:
        return self.make()
