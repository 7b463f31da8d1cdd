"""MyGrad: a GRU with a backward of its own, over (T, B, D); W and U are transposed."""

import numpy as np

from numpy_xlstm.conformance import Case
from numpy_xlstm.numerics import Arrays
from tests.outside.shared import outside, params, rows

REQUIRES = "mygrad>=2.3,<3 numba"


def port(_: str, case: Case) -> Arrays:
    import mygrad
    from mygrad.nnet.layers.gru import gru

    given = case.inputs
    x = mygrad.tensor(given["x"].swapaxes(0, 1).copy())
    r_z_n = zip(*(rows(array, 3) for array in params(given)), strict=True)
    r, z, n = ([mygrad.tensor(a.T.copy()) for a in gate] for gate in r_z_n)
    h = gru(x, *z, *r, *n, s0=given.get("state.h"))
    results = {"y": h.data[1:].swapaxes(0, 1).copy(), "final.h": h.data[-1].copy()}
    dh = np.concatenate([np.zeros_like(h.data[:1]), given["dy"].swapaxes(0, 1)])
    dh[-1] += given["dstate.h"]
    h.backward(dh)
    for k, name in enumerate("WRb"):
        results[f"grads.{name}"] = np.concatenate([gate[k].grad.T for gate in (r, z, n)])
    return results | {"dx": x.grad.swapaxes(0, 1)}


STEPS = "ordinary closed-gates large one-row one-step"
DIFFERS = {"": {"no gradient of the state (33)": STEPS}}
FUNCTIONS = "nnet.layers.gru original-gru"
IMPLEMENTATIONS = outside("mygrad", port, FUNCTIONS, "lengths, no step", DIFFERS)
