"""Paddle: layers with the rows and biases of PyTorch, and lengths."""

import numpy as np

from numpy_xlstm.conformance import Case
from numpy_xlstm.conformance.subjects import cotangent_of, gradient_of
from numpy_xlstm.numerics import Arrays
from tests.outside.shared import finals, outside, states

REQUIRES = "paddlepaddle>=3.2,<4"


def port(name: str, case: Case) -> Arrays:
    import paddle

    paddle.set_default_dtype(case.dtype)
    leaves = [n for n in case.given if n == "x" or n.startswith(("params", "state"))]
    given = {n: paddle.to_tensor(case.given[n], stop_gradient=False) for n in leaves}
    more = {"activation": case.options["nonlinearity"]} if "RNN" in name else {}
    layer = getattr(paddle.nn, name[3:])(
        case.options["input_size"], case.options["hidden_size"], **more
    )
    b_h = layer.parameters()[3]
    b_h.set_value(0 * b_h)
    for n, parameter in zip(("W", "R", "b", "b_h"), layer.parameters(), strict=True):
        if f"params.{n}" in given:
            parameter.set_value(given[f"params.{n}"])
            given[f"params.{n}"] = parameter
    start = [given[f"state.{part}"][None] for part in states(case)]
    lengths = case.given.get("lengths")
    lengths = None if lengths is None else paddle.to_tensor(lengths)
    y, last = layer(given["x"], tuple(start) if start[1:] else start[0], lengths)
    results = {"y": y} | finals(case, (a[0] for a in (last if start[1:] else (last,))))
    cotangents = [paddle.to_tensor(case.inputs[cotangent_of(n)]) for n in results]
    unused = [] if "params.b_h" in given else [b_h]
    sources = [*given.values(), *unused]  # all, since it raises where a parameter is left out
    gradients = paddle.grad(list(results.values()), sources, cotangents)
    named = zip(map(gradient_of, given), gradients, strict=False)
    return {n: np.array(a) for n, a in (results | dict(named)).items()}


FUNCTIONS = "nn.LSTM lstm, nn.GRU gru, nn.SimpleRNN elman"
DIFFERS = {"nn.GRU gru": {"NaN (18)": "large"}}
IMPLEMENTATIONS = outside("paddlepaddle", port, FUNCTIONS, "no step", DIFFERS, absent=True)
