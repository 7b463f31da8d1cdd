"""Thinc: an LSTM with gates f, i, o, z in one vector of weights, in Cython and in NumPy.

Steps come after one another in the packed order of cuDNN; the state is a single one for all rows.
"""

from typing import Any

import numpy as np

from numpy_xlstm.conformance import Case
from numpy_xlstm.numerics import Arrays
from tests.outside.shared import outside, rows

REQUIRES = "thinc>=9.1,<10"
ORDER = (1, 0, 3, 2)


def port(name: str, case: Case) -> Arrays:
    from thinc import backends

    ops: Any = getattr(backends, name[:-5])()
    (B, T, D), H = case.inputs["x"].shape, case.options["hidden_size"]
    W, R, b = (
        np.concatenate([rows(case.inputs[f"params.{part}"], 4)[k] for k in ORDER]) for part in "WRb"
    )
    params = np.concatenate([W.ravel(), b, R.ravel(), 0 * b])
    start, sizes = np.zeros((1, 1, H), "f"), np.full(T, B, "i")
    packed = case.inputs["x"].swapaxes(0, 1).reshape(T * B, D)
    y, cache = ops.lstm_forward_training(params, start, start, packed, sizes)
    dy = case.inputs["dy"].swapaxes(0, 1).reshape(T * B, H)
    dx, grads = ops.backprop_lstm(dy.copy(), sizes, params, cache)
    sections = np.cumsum([W.size, b.size, R.size])
    dW, db, dR, _ = np.split(grads, sections)
    back = [part for _, part in sorted(zip(ORDER, range(4), strict=True))]
    results = {"grads.W": dW.reshape(W.shape), "grads.R": dR.reshape(R.shape), "grads.b": db}
    results = {n: np.concatenate([rows(a, 4)[k] for k in back]) for n, a in results.items()}
    axes = {"y": y, "dx": dx}
    return results | {n: a.reshape(T, B, -1).swapaxes(0, 1) for n, a in axes.items()}


IMPLEMENTATIONS = outside(
    "thinc",
    port,
    "NumpyOps.lstm lstm, Ops.lstm lstm",
    "lengths, no step, initial state",
    {"NumpyOps.lstm lstm": {"backward (13)": "*"}, "Ops.lstm lstm": {"rows (14)": "*"}},
    dtype="float32",
)
