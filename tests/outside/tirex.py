"""TiRex: the sLSTM of its PyTorch path, with R (NH, DH, 4·DH); the gates are float32."""

from tests.outside.shared import Case, Tensor, forwarded, from_torch, outside


def forward(_: str, case: Case, x: Tensor, state: Tensor, *params: Tensor) -> Tensor:
    import torch
    from tirex.models.slstm.cell import sLSTMCellTorch

    (W, R, b), heads = params, case.options["num_heads"]
    R = R.reshape(heads, -1, case.options["hidden_size"] // heads).transpose(1, 2)
    Wx = x.transpose(0, 1) @ W.T
    y, last = sLSTMCellTorch.slstm_forward(Wx, torch.stack(state), R, b)
    return y.transpose(0, 1), *last


PORT, LACKS = forwarded(from_torch, forward), "exponential forget gate, lengths, no step"
IMPLEMENTATIONS = outside("tirex-ts>=1.4,<2", PORT, "sLSTMCellTorch slstm", LACKS, dtype="float32")
