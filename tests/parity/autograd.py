"""Outputs and gradients of a computation here, and of the same one in PyTorch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves, rebuild
from tests.parity.outside.suite import error

Arrays = tuple[Array, ...]
Ours = Callable[..., tuple[Arrays, Callable[..., Arrays]]]
"""Function that returns outputs, and a function of their cotangents that returns gradients."""


class Results(NamedTuple):
    """Outputs, and gradients of all inputs."""

    outputs: Arrays
    gradients: Arrays


def both(ours: Ours, theirs: Callable[..., Any], inputs: Arrays) -> tuple[Results, Results]:
    """Run both with random cotangents of the outputs; ``theirs`` takes and returns tensors."""
    torch = pytest.importorskip("torch", reason="PyTorch (the extra 'peers') is not installed")
    tensors = [torch.tensor(array, requires_grad=True) for array in inputs]
    expected = theirs(*tensors)
    outputs, backward = ours(*inputs)
    rng = np.random.default_rng(7)
    cotangents = [rng.standard_normal(y.shape) for y in outputs]
    sum((y * torch.tensor(dy)).sum() for y, dy in zip(expected, cotangents, strict=True)).backward()
    their_gradients = tuple(tensor.grad.numpy() for tensor in tensors)
    expected_results = Results(tuple(y.detach().numpy() for y in expected), their_gradients)
    return Results(outputs, backward(*cotangents)), expected_results


def apart(ours: Ours, theirs: Callable[..., Any], inputs: Arrays) -> float:
    """Return the largest relative error over outputs and gradients."""
    got, expected = both(ours, theirs, inputs)
    return error(got.outputs + got.gradients, expected.outputs + expected.gradients)


def of_layer(layer: Any) -> Ours:
    """Return a function of x and of the parameters, in order."""

    def run(x: Array, *params: Array) -> tuple[Arrays, Callable[..., Arrays]]:
        module = layer.with_params(dict(zip(layer.params, params, strict=True)))
        y, cache = module.forward(x)

        def backward(dy: Array) -> Arrays:
            dx, grads = module.backward(dy, cache)
            return dx, *(grads[name] for name in layer.params)

        return (y,), backward

    return run


def of_recurrent(layer: Any, **options: Any) -> Ours:
    """Return a function of x, of the parameters, and of the arrays of a state, if there is one."""

    def run(x: Array, *arrays: Array) -> tuple[Arrays, Callable[..., Arrays]]:
        params, state = arrays[: len(layer.params)], arrays[len(layer.params) :]
        module = layer.with_params(dict(zip(layer.params, params, strict=True)))
        before = rebuild(layer.init_state(1), iter(state)) if state else None
        y, after, cache = module.forward(x, before, **options)

        def backward(dy: Array, *dafter: Array) -> Arrays:
            dx, dbefore, grads = module.backward(dy, cache, rebuild(after, iter(dafter)))
            dstate = [array for _, array in leaves("", dbefore)] if state else []
            return dx, *(grads[name] for name in layer.params), *dstate

        return (y, *(array for _, array in leaves("", after))), backward

    return run
