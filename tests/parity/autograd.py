"""Outputs and gradients of a computation here, and of the same one in PyTorch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves, rebuild

Arrays = tuple[Array, ...]
Ours = Callable[..., tuple[Arrays, Callable[..., Arrays]]]
"""Function that returns outputs, and a function of their cotangents that returns gradients."""


def apart(ours: Ours, theirs: Callable[..., Any], inputs: Arrays) -> float:
    """Return the largest relative error of outputs, and of gradients of all inputs.

    ``theirs`` takes and returns tensors. The cotangents of the outputs are random.
    """
    torch = pytest.importorskip("torch", reason="PyTorch (the extra 'peers') is not installed")
    tensors = [torch.tensor(array, requires_grad=True) for array in inputs]
    expected = theirs(*tensors)
    outputs, backward = ours(*inputs)
    rng = np.random.default_rng(7)
    cotangents = [rng.standard_normal(y.shape) for y in outputs]
    sum((y * torch.tensor(dy)).sum() for y, dy in zip(expected, cotangents, strict=True)).backward()
    got = outputs + backward(*cotangents)
    wanted = [*(y.detach().numpy() for y in expected), *(tensor.grad.numpy() for tensor in tensors)]
    return max(_error(a, b) for a, b in zip(got, wanted, strict=True))


def _error(a: Array, b: Array) -> float:
    """Return max |a − b| / max |b|, infinite for NaN or another shape."""
    if a.shape != b.shape or a.dtype != b.dtype or not np.isfinite(a).all():
        return np.inf
    scale = float(np.abs(b).max(initial=0)) or 1.0
    return float(np.abs(a - b).max(initial=0)) / scale


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
