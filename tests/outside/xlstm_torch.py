"""xlstm-torch: an sLSTM cell with one head for a single row, which is a column here."""

from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from tests.outside.shared import Case, Tensor, forwarded, from_torch, outside, rows


def forward(_: str, case: Case, x: Tensor, state: Tensor, *params: Tensor) -> Tensor:
    import torch

    spec, module = find_spec("xlstm_torch.main"), ModuleType("main")
    text = Path(str(spec and spec.origin)).read_text("utf-8")
    exec(text.partition("x = torch.randn(1, 10, 64)")[0], module.__dict__)  # its example raises
    cell = module.sLSTMCell(case.options["input_size"], case.options["hidden_size"])
    tree: dict[str, Tensor] = {}
    gates = (rows(array.squeeze(), 4) for array in params)
    for gate, W, R, b in zip("ifzo", *gates, strict=True):
        tree |= {f"w_{gate}": W, f"r_{gate}": R, f"b_{gate}": b[:, None]}
    y, last = torch.func.functional_call(cell, tree, (x.T, tuple(array.T for array in state)))
    return y.T, *(array.T for array in last)


PORT, LACKS = forwarded(from_torch, forward), "exponential forget gate, heads"
REQUIRES = "xlstm-torch>=0.0.2,<0.1 torch>=2.9 PyxLSTM torchxlstm"  # two only on the page
IMPLEMENTATIONS = outside(REQUIRES, PORT, "sLSTMCell slstm.step", LACKS)
