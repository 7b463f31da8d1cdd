"""How the weights of the official models start."""

import math

import numpy as np

from numpy_xlstm.layers import LinearGroup
from numpy_xlstm.module import Module
from numpy_xlstm.numerics import Array, check_positive


def small_init(layer: Module, dim: int, rng: np.random.Generator) -> None:
    """Weights of variance 2/(5 dim), biases 0: "small init", Nguyen & Salazar 2019."""
    _normal(layer, math.sqrt(2 / (5 * dim)), rng)


def wang_init(layer: Module, dim: int, num_blocks: int, rng: np.random.Generator) -> None:
    """Weights of deviation 2/(num_blocks √dim), biases 0, for what adds to the residual."""
    _normal(layer, 2 / (check_positive("num_blocks", num_blocks) * math.sqrt(dim)), rng)


def _normal(layer: Module, deviation: float, rng: np.random.Generator) -> None:
    for name, array in layer.params.items():
        array[...] = 0 if name.endswith("bias") else rng.normal(0, deviation, array.shape)


def start_gates(gates: LinearGroup, input_bias: float | Array) -> None:
    """Weights of i and f at 0, and their biases: the one that is given, and from 3 to 6."""
    for weight in gates.views("weight"):
        weight[...] = 0
    i, f = gates.views("bias")
    i[...], f[...] = input_bias, np.linspace(3, 6, len(f))
