"""``torch.nn.LSTM``, ``GRU`` and ``RNN``."""

import re
from typing import Any

from numpy_xlstm.conformance import Case
from tests.conformance.implementations.offers import Implementation
from tests.conformance.implementations.tensors import Tensors, autograd

KINDS = {"lstm": "LSTM", "lstmp": "LSTM", "gru": "GRU", "elman": "RNN"}
NAMES = {"W": "weight_ih", "R": "weight_hh", "b": "bias_ih", "b_h": "bias_hh", "W_hr": "weight_hr"}


def _named(name: str) -> str:
    """W_l1_reverse is weight_ih_l1_reverse."""
    found = re.fullmatch(r"params\.(.+?)(_l\d.*)?", name)
    assert found is not None
    return f"{NAMES[found[1]]}{found[2] or '_l0'}"


def forward(case: Case, given: Tensors) -> Tensors:
    """The layer of PyTorch with the parameters of the case; one of its two biases is 0."""
    import torch

    kind = KINDS[case.subject.family]
    layer: Any = getattr(torch.nn, kind)(**case.options, batch_first=True).double()
    weights = {_named(n): tensor for n, tensor in given.items() if n.startswith("params.")}
    for name, parameter in layer.named_parameters():
        weights.setdefault(name, torch.zeros_like(parameter))
    letters = "hc" if kind == "LSTM" else "h"
    cells = len(layer.all_weights)
    places = [f"{n}." for n in range(cells)] if case.subject.name.endswith("stack") else [""]
    start: Any = None
    if f"state.{places[0]}h" in given:
        start = tuple(torch.stack([given[f"state.{p}{s}"] for p in places]) for s in letters)
        start = start if kind == "LSTM" else start[0]
    y, last = torch.func.functional_call(layer, weights, (given["x"], start))
    last = last if kind == "LSTM" else (last,)
    finals = {
        f"final.{place}{letter}": states[n]
        for letter, states in zip(letters, last, strict=True)
        for n, place in enumerate(places)
    }
    return {"y": y} | finals


IMPLEMENTATIONS = [
    Implementation(
        "torch", f"nn.{kind}", f"{family}.{shape}", autograd(forward), ("lengths", "no step")
    )
    for family, kind in KINDS.items()
    for shape in ("sequence", "stack")
]
