"""numpy-ml: an LSTM cell with matrices for [h, x]; its methods take no state, so it is set."""

import collections.abc

import numpy as np

from tests.outside.shared import Arrays, Case, gradients, outside, rows, weights


def port(_: str, case: Case) -> Arrays:
    vars(collections).update({n: getattr(collections.abc, n) for n in collections.abc.__all__})
    from numpy_ml.neural_nets.layers import LSTMCell

    given, (_, T, D) = case.given, case.inputs["x"].shape
    cell = LSTMCell(case.options["hidden_size"])
    cell.n_in = D
    cell._init_params()
    W, R, b = (rows(array, 4) for array in weights(case, "ifzo"))
    gates = "ufco"  # i, f, z, o
    for k, gate in enumerate(gates):
        cell.parameters[f"W{gate}"] = np.concatenate([R[k], W[k]], 1).T
        cell.parameters[f"b{gate}"] = b[k][None]
    kept = cell.derived_variables
    kept["A"], kept["C"] = [given["state.h"]], [given["state.c"]]
    y = np.stack([cell.forward(given["x"][:, t])[0] for t in range(T)], 1)
    results = {"y": y, "final.h": kept["A"][-1], "final.c": kept["C"][-1]}
    dh, dc = "dLdA_accumulator", "dLdC_accumulator"
    kept[dh], kept[dc] = given["dstate.h"].copy(), given["dstate.c"].copy()
    dx = [cell.backward(given["dy"][:, t]) for t in reversed(range(T))]
    results |= {"dx": np.stack(dx[::-1], 1), "dstate0.h": kept[dh], "dstate0.c": kept[dc]}
    dW = np.concatenate([cell.gradients[f"W{gate}"].T for gate in gates])
    db = np.concatenate([cell.gradients[f"b{gate}"][0] for gate in gates])
    return results | gradients("ifzo", dW[:, -D:], dW[:, :-D], db)


IMPLEMENTATIONS = outside("numpy-ml>=0.1,<0.2", port, "LSTMCell lstm")
