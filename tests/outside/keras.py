"""Keras on PyTorch: kernels are transposed; the gates of a GRU are z, r, n."""

import os

from tests.outside.shared import Case, Tensor, forwarded, from_torch, outside, reordered


def forward(name: str, case: Case, x: Tensor, state: Tensor, *params: Tensor) -> Tensor:
    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    import torch

    more: dict[str, object] = {"zero_output_for_mask": True}
    if name == "GRU":
        more["reset_after"] = case.subject.family == "gru"
        params = tuple(reordered(array, "rzn", "zrn") for array in params)
    if name == "SimpleRNN":
        more = {"activation": case.options["nonlinearity"]}
    more |= {"return_sequences": True, "return_state": True, "dtype": case.dtype}
    layer = getattr(keras.layers, name)(case.options["hidden_size"], **more)
    layer.build(x.shape)
    W, R, *b = params
    mask = None
    if "lengths" in case.inputs:
        mask = torch.arange(x.shape[1]) < torch.tensor(case.inputs["lengths"])[:, None]
    trained = [W.T, R.T, torch.stack(b) if b[1:] else b[0]]
    fixed = [v.value for v in layer.non_trainable_variables]
    (y, *last), _ = layer.stateless_call(trained, fixed, x, initial_state=[*state], mask=mask)
    if mask is not None and name == "SimpleRNN":  # which repeats the last y
        y = torch.where(mask[..., None], y, 0)
    return y, *last


PORT = forwarded(from_torch, forward)
FUNCTIONS = "LSTM lstm, GRU gru, GRU original-gru, SimpleRNN elman"
IMPLEMENTATIONS = outside("keras>=3.12,<4 torch>=2.9", PORT, FUNCTIONS, "no step", dtype="float32")
