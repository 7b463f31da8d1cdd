"""Keras on PyTorch: kernels are transposed; the gates of a GRU are z, r, n."""

import os
from typing import Any

from numpy_xlstm.conformance import Case
from numpy_xlstm.gradcheck import from_torch
from tests.outside.shared import FLOAT32, Given, finals, forwarded, outside, params, rows, states

REQUIRES = "keras>=3.12,<4 torch>=2.9"


def forward(name: str, case: Case, given: Given) -> Given:
    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    import torch

    more: dict[str, Any] = {"return_sequences": True, "return_state": True, "dtype": case.dtype}
    if name == "SimpleRNN":
        more["activation"] = case.options["nonlinearity"]
    else:
        more["zero_output_for_mask"] = True
    if name == "GRU":
        more["reset_after"] = case.subject.family == "gru"
    layer = getattr(keras.layers, name)(case.options["hidden_size"], **more)
    layer.build(given["x"].shape)
    order = {"LSTM": (0, 1, 2, 3), "GRU": (1, 0, 2), "SimpleRNN": (0,)}[name]
    split = [rows(a, len(order)) for a in params(given)]
    W, R, *b = (torch.cat([gates[k] for k in order]) for gates in split)
    mask = None
    if "lengths" in given:
        mask = torch.arange(given["x"].shape[1]) < given["lengths"][:, None]
    weights = [W.T, R.T, torch.stack(b) if b[1:] else b[0]]
    start = [given[f"state.{part}"] for part in states(case)]
    fixed = [v.value for v in layer.non_trainable_variables]
    (y, *last), _ = layer.stateless_call(weights, fixed, given["x"], initial_state=start, mask=mask)
    if mask is not None and name == "SimpleRNN":  # which repeats the last y
        y = torch.where(mask[..., None], y, 0)
    return {"y": y} | finals(case, last)


FUNCTIONS = "LSTM lstm, GRU gru, GRU original-gru, SimpleRNN elman"
PORT = forwarded(from_torch, forward)
IMPLEMENTATIONS = outside("keras", PORT, FUNCTIONS, "no step", **FLOAT32)
