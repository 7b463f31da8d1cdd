"""numpy-ml: an LSTM cell with f, i, z, o matrices for [h, x], written before Python 3.10.

Its state is set where the cell keeps it, since its methods take none.
"""

import collections
import collections.abc

import numpy as np

from numpy_xlstm.conformance import Case
from numpy_xlstm.numerics import Arrays
from tests.outside.shared import outside, rows

REQUIRES = "numpy-ml>=0.1,<0.2"


def port(_: str, case: Case) -> Arrays:
    for name in ("Hashable", "Iterable", "Mapping"):
        setattr(collections, name, getattr(collections.abc, name))
    from numpy_ml.neural_nets.layers import LSTMCell

    given, (_, T, D) = case.given, case.inputs["x"].shape
    cell = LSTMCell(case.options["hidden_size"])
    cell.n_in = D
    cell._init_params()
    gates = [rows(given[f"params.{part}"], 4) for part in "RWb"]
    for name, R, W, b in zip("ufco", *gates, strict=True):
        cell.parameters[f"W{name}"] = np.concatenate([R, W], 1).T
        cell.parameters[f"b{name}"] = b[None]
    kept = cell.derived_variables
    kept["A"], kept["C"] = [given["state.h"]], [given["state.c"]]
    y = np.stack([cell.forward(given["x"][:, t])[0] for t in range(T)], 1)
    results = {"y": y, "final.h": kept["A"][-1], "final.c": kept["C"][-1]}
    kept["dLdA_accumulator"] = given["dstate.h"].copy()
    kept["dLdC_accumulator"] = given["dstate.c"].copy()
    dx = [cell.backward(given["dy"][:, t]) for t in reversed(range(T))]
    results["dstate0.h"], results["dstate0.c"] = kept["dLdA_accumulator"], kept["dLdC_accumulator"]
    dR, dW = zip(*(np.split(cell.gradients[f"W{gate}"].T, [-D], 1) for gate in "ufco"), strict=True)
    db = [cell.gradients[f"b{gate}"][0] for gate in "ufco"]
    grads = {"grads.W": dW, "grads.R": dR, "grads.b": db}
    return (
        results | {n: np.concatenate(a) for n, a in grads.items()} | {"dx": np.stack(dx[::-1], 1)}
    )


FUNCTIONS = "LSTMCell lstm"
IMPLEMENTATIONS = outside("numpy-ml", port, FUNCTIONS, "lengths, no step", absent=True)
