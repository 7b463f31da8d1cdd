"""tinygrad: an LSTM cell with the rows and gates of PyTorch, and two biases."""

import os
from typing import Any

from numpy_xlstm.conformance import Case
from numpy_xlstm.conformance.subjects import cotangent_of, gradient_of
from numpy_xlstm.numerics import Arrays
from tests.outside.shared import FLOAT32, outside

REQUIRES = "tinygrad>=0.11,<0.15"


def port(_: str, case: Case) -> Arrays:
    os.environ.setdefault("DEV", "PYTHON")  # other devices need a compiler
    import tinygrad

    given: dict[str, Any] = {n: tinygrad.Tensor(array) for n, array in case.given.items()}
    leaves = {n: tensor for n, tensor in given.items() if not n.startswith("d")}
    for tensor in leaves.values():
        tensor.requires_grad = True
    cell = tinygrad.nn.LSTMCell(**case.options)
    cell.weight_ih, cell.weight_hh = given["params.W"], given["params.R"]
    cell.bias_ih, cell.bias_hh = given["params.b"], None
    h, c = cell(given["x"], (given["state.h"], given["state.c"]))
    results = {"y": h, "final.h": h, "final.c": c}
    loss: Any = sum((array * given[cotangent_of(n)]).sum() for n, array in results.items())
    gradients = zip(map(gradient_of, leaves), loss.gradient(*leaves.values()), strict=True)
    return {n: tensor.numpy() for n, tensor in (results | dict(gradients)).items()}


DIFFERS = {"": {"small tanh (11)": "closed-gates"}}
IMPLEMENTATIONS = outside("tinygrad", port, "nn.LSTMCell lstm.step", "", DIFFERS, **FLOAT32)
