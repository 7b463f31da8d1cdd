"""Random recurrent operators without equal or zero entries."""

from typing import Any

import numpy as np

from numpy_xlstm.numerics import Array
from tests.parity.outside.operators import GATES, Operator


def random_operator(
    kind: str, seed: int, dtype: Any, *, lengths: bool = True, relu: bool = True
) -> Operator:
    """Yield operators with normal weights, biases and states.

    Every second LSTM has peepholes, every second GRU ``linear_before_reset``, and, with ``relu``,
    every second RNN relu. Directions alternate. With ``lengths``, two of three operators have
    ``sequence_lens`` from 1 to T.
    """
    rng = np.random.default_rng(seed)
    B, T, D, H = rng.integers(1, (5, 9, 5, 6))
    direction = ("forward", "reverse", "bidirectional")[seed % 3]
    n, rows = 1 + (direction == "bidirectional"), GATES[kind] * H

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(dtype)

    inputs = {
        "X": normal(T, B, D),
        "W": normal(n, rows, D),
        "R": normal(n, rows, H) / dtype(np.sqrt(H)),
        "B": normal(n, 2 * rows),
        "initial_h": normal(n, B, H),
    }
    attributes: dict[str, Any] = {"hidden_size": int(H), "direction": direction}
    if kind == "LSTM":
        inputs["initial_c"] = normal(n, B, H)
        if seed // 3 % 2:
            inputs["P"] = normal(n, 3 * H)
    if kind == "GRU":
        attributes["linear_before_reset"] = seed // 3 % 2
    if kind == "RNN" and relu and seed // 3 % 2:
        attributes["activations"] = ["Relu"] * n
    if lengths and seed // 2 % 3:
        inputs["sequence_lens"] = rng.integers(1, T + 1, B).astype(np.int32)
    return Operator(kind, attributes, inputs)
