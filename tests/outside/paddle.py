"""Paddle: layers with the rows and biases of PyTorch, and lengths."""

from tests.outside.shared import Case, Tensor, differentiated, outside


def vjp(function: Tensor, arrays: list[Tensor], cotangents: list[Tensor]) -> Tensor:
    import paddle

    paddle.set_default_dtype(str(arrays[0].dtype))
    leaves = [paddle.to_tensor(array, stop_gradient=False) for array in arrays]
    outputs = function(*leaves)
    return outputs, paddle.grad(outputs, leaves, [*map(paddle.to_tensor, cotangents)])


def forward(name: str, case: Case, x: Tensor, state: Tensor, *params: Tensor) -> Tensor:
    import paddle

    sizes = case.options["input_size"], case.options["hidden_size"]
    more = {"activation": case.options["nonlinearity"]} if "RNN" in name else {}
    layer = getattr(paddle.nn, name[3:])(*sizes, **more)
    layer._all_weights = [*params, 0 * params[2]][:4]  # the second bias may be absent
    h, *c = (array[None] for array in state)
    lengths = paddle.to_tensor(case.inputs["lengths"]) if "lengths" in case.inputs else None
    y, last = layer(x, (h, *c) if c else h, lengths)
    return y, *(array[0] for array in (last if c else [last]))


PORT, FUNCTIONS = differentiated(vjp, forward), "nn.LSTM lstm, nn.GRU gru, nn.SimpleRNN elman"
IMPLEMENTATIONS = outside("paddlepaddle>=3.2,<4", PORT, FUNCTIONS, "no step")
