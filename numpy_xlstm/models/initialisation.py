"""Initial values of the official models."""

import math

import numpy as np

from numpy_xlstm.layers import Linear, LinearGroup
from numpy_xlstm.numerics import Array, check_positive


def small_init(dim: int) -> float:
    """Return the deviation √(2/(5 dim)) of weights: "small init", Nguyen & Salazar 2019."""
    return math.sqrt(2 / (5 * dim))


def wang_init(dim: int, num_blocks: int) -> float:
    """Return the deviation 2/(num_blocks √dim) of the maps into the residual stream."""
    return 2 / (check_positive("num_blocks", num_blocks) * math.sqrt(dim))


def set_gate_biases(gates: Linear | LinearGroup, input_bias: float | Array) -> None:
    """Set the initial biases of maps to i and f: the given ones, and 3 … 6 over the heads."""
    biases = [linear.params["bias"] for linear in gates.linears]
    i, f = biases if len(biases) == 2 else np.split(biases[0], 2)
    i[...], f[...] = input_bias, np.linspace(3, 6, len(f))
