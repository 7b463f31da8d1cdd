"""MLX: layers with the rows of PyTorch, which return h and c of all steps and make their state."""

from typing import Any

import numpy as np

from numpy_xlstm.conformance import Case
from numpy_xlstm.conformance.subjects import cotangent_of, gradient_of
from numpy_xlstm.numerics import Arrays
from tests.outside.shared import Given, outside, params, states

REQUIRES = "mlx[cpu]>=0.29,<0.40"


def layer(name: str, case: Case, given: Given) -> list[Any]:
    from mlx import core, nn

    H = case.options["hidden_size"]
    module = getattr(nn, name[3:])(case.options["input_size"], H)
    W, R, b, *more = params(given)
    if name == "nn.RNN":
        module.Wxh, module.Whh, module.bias = W, R, b
        module.nonlinearity = core.tanh
        if case.options["nonlinearity"] == "relu":
            module.nonlinearity = nn.relu
    else:
        module.Wx, module.Wh, module.bias = W, R, b
    for b_h in more:
        module.b, module.bhn = b + core.concatenate([b_h[: 2 * H], core.zeros(H)]), b_h[2 * H :]
    result = module(given["x"], *(given.get(f"state.{part}") for part in states(case)))
    return list(result) if name == "nn.LSTM" else [result]


def port(name: str, case: Case) -> Arrays:
    from mlx import core

    core.set_default_device(core.cpu)
    inputs = [n for n in case.inputs if not n.startswith("d")]

    def outputs(*arrays: Any) -> list[Any]:
        steps = layer(name, case, dict(zip(inputs, arrays, strict=True)))
        return [steps[0], *(array[:, -1] for array in steps)]

    names = ["y", *(f"final.{part}" for part in states(case))]
    cotangents = [core.array(case.inputs[cotangent_of(n)]) for n in names]
    y, gradients = core.vjp(outputs, [core.array(case.inputs[n]) for n in inputs], cotangents)
    names += [gradient_of(n) for n in inputs]
    return dict(zip(names, map(np.array, [*y, *gradients]), strict=True))


FUNCTIONS = "nn.LSTM lstm, nn.GRU gru, nn.RNN elman"
IMPLEMENTATIONS = outside("mlx", port, FUNCTIONS, "lengths, no step", dtype="float32")
