"""MLX: layers with the rows of PyTorch, which return h and c of all steps."""

from tests.outside.shared import Case, Tensor, differentiated, one_bias, outside


def vjp(function: Tensor, arrays: list[Tensor], cotangents: list[Tensor]) -> Tensor:
    from mlx import core

    core.set_default_device(core.cpu)
    return core.vjp(function, [*map(core.array, arrays)], [*map(core.array, cotangents)])


def forward(name: str, case: Case, x: Tensor, state: Tensor, *params: Tensor) -> Tensor:
    from mlx import core, nn

    layer = getattr(nn, name[3:])(case.options["input_size"], case.options["hidden_size"])
    W, R, *b = params
    names = {"nn.LSTM": "Wx Wh bias", "nn.GRU": "Wx Wh b bhn", "nn.RNN": "Wxh Whh bias"}[name]
    for attribute, array in zip(names.split(), (W, R, *one_bias(*b)), strict=True):
        setattr(layer, attribute, array)
    if name == "nn.RNN":
        layer.nonlinearity = nn.relu if case.options["nonlinearity"] == "relu" else core.tanh
    steps = layer(x, *state) if name == "nn.LSTM" else [layer(x, *state)]
    return steps[0], *(array[:, -1] for array in steps)


PORT, FUNCTIONS = differentiated(vjp, forward), "nn.LSTM lstm, nn.GRU gru, nn.RNN elman"
IMPLEMENTATIONS = outside("mlx[cpu]>=0.29,<0.40", PORT, FUNCTIONS, dtype="float32")
