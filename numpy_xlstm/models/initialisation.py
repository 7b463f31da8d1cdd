"""Initial weights of the official models."""

import math
from typing import TypeVar

import numpy as np

from numpy_xlstm.layers import LinearGroup
from numpy_xlstm.module import Module
from numpy_xlstm.numerics import Array, check_positive

M = TypeVar("M", bound=Module)


def small_init(layer: M, dim: int, rng: np.random.Generator) -> M:
    """Draw weights with variance 2/(5 dim): "small init", Nguyen & Salazar 2019."""
    return _normal(layer, math.sqrt(2 / (5 * dim)), rng)


def wang_init(layer: M, dim: int, num_blocks: int, rng: np.random.Generator) -> M:
    """Draw weights with deviation 2/(num_blocks √dim), for maps into the residual stream."""
    return _normal(layer, 2 / (check_positive("num_blocks", num_blocks) * math.sqrt(dim)), rng)


def _normal(layer: M, deviation: float, rng: np.random.Generator) -> M:
    drawn = {}
    for name, array in layer.params.items():
        bias = name.endswith("bias")
        start = np.zeros(array.shape) if bias else rng.normal(0, deviation, array.shape)
        drawn[name] = start.astype(array.dtype, copy=False)
    return layer.over(drawn)


def start_gates(gates: LinearGroup, input_bias: float | Array) -> LinearGroup:
    """Set weights to 0, input biases to the given ones, and forget biases to 3 … 6."""
    NH, *_ = gates.widths.values()
    bias = np.concatenate((np.broadcast_to(input_bias, NH), np.linspace(3, 6, NH)))
    rows = gates.slices if gates.fused is None else [slice(None)]
    started = {}
    for name, linear, kept in zip(gates.parts, gates.linears, rows, strict=True):
        weight = linear.params["weight"]
        started[f"{name}.weight"] = np.zeros(weight.shape, weight.dtype)
        started[f"{name}.bias"] = bias[kept].astype(weight.dtype)
    return gates.over(started)
