"""tinygrad: an LSTM cell with the rows and gates of PyTorch, and two biases."""

import os

from tests.outside.shared import Case, Tensor, differentiated, outside


def vjp(function: Tensor, arrays: list[Tensor], cotangents: list[Tensor]) -> Tensor:
    os.environ.setdefault("DEV", "PYTHON")  # other devices need a compiler
    import tinygrad

    leaves = [*map(tinygrad.Tensor, arrays)]
    outputs, back = function(*leaves), map(tinygrad.Tensor, cotangents)
    loss: Tensor = sum((y * dy).sum() for y, dy in zip(outputs, back, strict=True))
    return [[a.numpy() for a in tensors] for tensors in (outputs, loss.gradient(*leaves))]


def forward(_: str, case: Case, x: Tensor, state: Tensor, *params: Tensor) -> Tensor:
    import tinygrad

    cell = tinygrad.nn.LSTMCell(**case.options)
    cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh = *params, None
    h, c = cell(x, state)
    return h, h, c


PORT, FUNCTION = differentiated(vjp, forward), "nn.LSTMCell lstm.step"
IMPLEMENTATIONS = outside("tinygrad>=0.11,<0.15", PORT, FUNCTION, "", dtype="float32")
