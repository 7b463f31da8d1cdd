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


def powerlaw_forget_bias(head_dim: int, block: int, num_blocks: int) -> Array:
    """5 − 12 u^(0.3 + 1.3 r) over a head, u from 0 to 1, r from the first block, 0, to the last, 1.

    A head of width 1 has u = 0, where the official package has 0/0.
    """
    u = np.arange(head_dim) / max(1, head_dim - 1)
    r = block / max(1, num_blocks - 1)
    return 5 - 12 * u ** (0.3 + 1.3 * r)
