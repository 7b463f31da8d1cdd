"""MyGrad: a GRU with a backward of its own, over (T, B, D); its kernels are transposed."""

import numpy as np

from tests.outside.shared import Arrays, Case, gradients, outside, rows, weights


def port(_: str, case: Case) -> Arrays:
    import mygrad
    from mygrad.nnet.layers.gru import gru

    x = mygrad.tensor(case.inputs["x"].swapaxes(0, 1).copy())
    z_r_n = zip(*(rows(array, 3) for array in weights(case, "zrn")), strict=True)
    params = [mygrad.tensor(array.T.copy()) for gate in z_r_n for array in gate]
    h = gru(x, *params, s0=case.inputs.get("state.h"))
    results = {"y": h.data[1:].swapaxes(0, 1).copy(), "final.h": h.data[-1].copy()}
    dh = np.concatenate([np.zeros_like(h.data[:1]), case.inputs["dy"].swapaxes(0, 1)])
    dh[-1] += case.inputs["dstate.h"]
    h.backward(dh)
    W, R, b = (np.concatenate([a.grad.T for a in params[k::3]]) for k in range(3))
    return results | {"dx": x.grad.swapaxes(0, 1)} | gradients("zrn", W, R, b)


IMPLEMENTATIONS = outside("mygrad>=2,<3 numba", port, "nnet.layers.gru original-gru", absent=False)
