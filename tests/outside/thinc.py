"""Thinc: an LSTM with one vector of weights and cuDNN's packed order of steps, f, i, o, z."""

import numpy as np

from tests.outside.shared import Arrays, Case, Tensor, gradients, outside, weights


def port(name: str, case: Case) -> Arrays:
    from thinc import backends

    ops: Tensor = getattr(backends, name[:-5])()
    (B, T, H) = case.inputs["dy"].shape
    W, R, b = weights(case, "fioz")
    params = np.concatenate([W.ravel(), b, R.ravel(), 0 * b])
    start, sizes = np.zeros((1, 1, H), "f"), np.full(T, B, "i")
    x, dy = (case.inputs[n].swapaxes(0, 1).reshape(T * B, -1).copy() for n in ("x", "dy"))
    y, cache = ops.lstm_forward_training(params, start, start, x, sizes)
    dx, grads = ops.backprop_lstm(dy, sizes, params, cache)
    y, dx = (array.reshape(T, B, -1).swapaxes(0, 1) for array in (y, dx))
    dW, db, dR, _ = np.split(grads, np.cumsum([W.size, b.size, R.size]))
    return {"y": y, "dx": dx} | gradients("fioz", dW.reshape(W.shape), dR.reshape(R.shape), db)


FUNCTIONS, LACKS = "NumpyOps.lstm lstm, Ops.lstm lstm", "lengths, no step, initial state"
REQUIRES = 'thinc>=9.1,<10;python_version<"3.13"'  # no wheel of 9.1 is for a newer Python
IMPLEMENTATIONS = outside(REQUIRES, port, FUNCTIONS, LACKS, dtype="float32")
