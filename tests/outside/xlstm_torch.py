"""xlstm-torch: an sLSTM cell with one head for a single row, which is a column here."""

from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from numpy_xlstm.conformance import Case
from numpy_xlstm.gradcheck import from_torch
from tests.outside.shared import Given, finals, forwarded, outside, rows, states

REQUIRES = "xlstm-torch>=0.0.2,<0.1 torch>=2.9"


def forward(_: str, case: Case, given: Given) -> Given:
    import torch

    spec, module = find_spec("xlstm_torch.main"), ModuleType("main")
    text = Path(str(spec and spec.origin)).read_text("utf-8")
    exec(text.partition("x = torch.randn(1, 10, 64)")[0], module.__dict__)  # its example raises
    cell = module.sLSTMCell(case.options["input_size"], case.options["hidden_size"])
    W, R, b = (rows(given[f"params.{part}"].squeeze(), 4) for part in "WRb")
    weights: dict[str, Any] = {}
    for k, gate in enumerate("ifzo"):
        weights |= {f"w_{gate}": W[k], f"r_{gate}": R[k], f"b_{gate}": b[k][:, None]}
    state = tuple(given[f"state.{part}"].T for part in states(case))
    y, state = torch.func.functional_call(cell, weights, (given["x"].T, state))
    return {"y": y.T} | finals(case, (a.T for a in state))


DIFFERS = {"": {"tanh(c/n) (19)": "*"}}
PORT, LACKS = forwarded(from_torch, forward), "exponential forget gate, heads"
IMPLEMENTATIONS = outside("xlstm-torch", PORT, "sLSTMCell slstm.step", LACKS, DIFFERS, absent=True)
