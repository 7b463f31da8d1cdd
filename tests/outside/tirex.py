"""TiRex: the sLSTM of its PyTorch path, with R (NH, DH, 4·DH); the gates are float32."""

from numpy_xlstm.conformance import Case
from numpy_xlstm.gradcheck import from_torch
from tests.outside.shared import FLOAT32, Given, finals, forwarded, outside, states

REQUIRES = "tirex-ts>=1.4,<2"


def forward(_: str, case: Case, given: Given) -> Given:
    import torch
    from tirex.models.slstm.cell import sLSTMCellTorch

    heads, DH = case.options["num_heads"], case.options["hidden_size"] // case.options["num_heads"]
    R = given["params.R"].reshape(heads, 4 * DH, DH).transpose(1, 2)
    x = given["x"].transpose(0, 1) @ given["params.W"].T
    start = torch.stack([given[f"state.{part}"] for part in states(case)])
    y, last = sLSTMCellTorch.slstm_forward(x, start, R, given["params.b"])
    return {"y": y.transpose(0, 1)} | finals(case, last)


PORT, LACKS = forwarded(from_torch, forward), "exponential forget gate, lengths, no step"
ZERO = {"zero state (26)": "sigmoid.zero-state sigmoid.zero-memory"}
DIFFERS = {"": ZERO | {"f̃ at most 15 (34)": "sigmoid.open-gates"}}
IMPLEMENTATIONS = outside("tirex-ts", PORT, "sLSTMCellTorch slstm", LACKS, DIFFERS, **FLOAT32)
