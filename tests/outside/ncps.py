"""ncps: an LSTM cell in PyTorch with gates z, i, f, o; it adds 1 to f̃."""

from numpy_xlstm import conformance
from numpy_xlstm.conformance import Case
from numpy_xlstm.gradcheck import from_torch
from tests.outside.shared import Given, outside, rows

REQUIRES = "ncps>=1,<2"


def forward(case: Case, given: Given) -> Given:
    import torch
    from ncps.torch.lstm import LSTMCell

    (i, f, z, o), (R_i, R_f, R_z, R_o), (b_i, b_f, b_z, b_o) = (
        rows(given[f"params.{name}"], 4) for name in "WRb"
    )
    weights = {
        "input_map.weight": torch.cat([z, i, f, o]),
        "recurrent_map.weight": torch.cat([R_z, R_i, R_f, R_o]),
        "input_map.bias": torch.cat([b_z, b_i, b_f - 1, b_o]),
    }
    state = given["state.h"], given["state.c"]
    cell = LSTMCell(**case.options)
    h, c = torch.func.functional_call(cell, weights, (given["x"], state))
    return {"y": h, "final.h": h, "final.c": c}


PORT = conformance.from_forward(from_torch, forward)
IMPLEMENTATIONS = [outside("ncps", "torch.LSTMCell", "lstm.step", PORT, absent=True)]
