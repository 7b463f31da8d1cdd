"""Forward + backward of the cells beside PyTorch: ``python -m benchmarks.cells``.

The vanilla sLSTM of ``xlstm`` is given what W x is in ours. So there are two tables: the
recurrences alone, on the same arrays, and our layer beside theirs behind a linear map. The peers
are optional: without PyTorch or ``xlstm`` only our own times and that of the matrix products alone
are shown. The second column is the ratio to our time in the first row: above 1, we are faster.
"""

import argparse
import importlib.util
from functools import partial
from typing import Any

import numpy as np

from benchmarks.timing import Setup, Work, child, machine, side_by_side
from numpy_xlstm import (
    LSTM,
    mLSTM,
    sLSTM,
    slstm_recurrent,
    slstm_recurrent_backward,
)
from numpy_xlstm.numerics import Array

OURS = "numpy_xlstm"
PRODUCTS = "matrix products alone"


def arrays(B: int, T: int, D: int, H: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((B, T, n)).astype(np.float32) for n in (D, H))
    return x, dy


def ours(cell: type[Any], B: int, T: int, D: int, H: int, *heads: int) -> Work:
    x, dy = arrays(B, T, D, H)
    layer = cell(D, H, *heads, dtype=np.float32, rng=np.random.default_rng(0))

    def work() -> None:
        _, _, cache = layer.forward(x)
        layer.backward(dy, cache)

    return work


def ours_alone(B: int, T: int, _: int, H: int, NH: int) -> Work:
    """Our recurrence over given pre-activations."""
    Wx, dy = arrays(B, T, 4 * H, H)
    R = sLSTM(1, H, NH, dtype=np.float32, rng=np.random.default_rng(0)).params["R"]

    def work() -> None:
        _, _, cache = slstm_recurrent(Wx, R)
        slstm_recurrent_backward(dy, cache)

    return work


def products(B: int, T: int, D: int, H: int, NH: int = 1) -> Work:
    """The matrix products of a forward and a backward of LSTM or sLSTM, and nothing else.

    With D = 0, those of the recurrence alone.
    """
    f32, DH = np.float32, H // NH
    x, g, W = np.ones((T * B, D), f32), np.ones((T * B, 4 * H), f32), np.ones((4 * H, D), f32)
    R, h = np.ones((NH, 4 * DH, DH), f32), np.ones((NH, B, DH), f32)
    gh, hs = np.ones((NH, B, 4 * DH), f32), np.ones((NH, T * B, DH), f32)
    gs = np.ones((NH, T * B, 4 * DH), f32)

    def work() -> None:
        np.matmul(x, W.T)
        for _ in range(T):
            np.matmul(h, R.swapaxes(1, 2))
            np.matmul(gh, R)
        np.matmul(g.T, x)
        np.matmul(g, W)
        np.matmul(gs.swapaxes(1, 2), hs)

    return work


def torch_lstm(B: int, T: int, D: int, H: int) -> Work:
    import torch

    x, dy = arrays(B, T, D, H)
    layer = torch.nn.LSTM(D, H, batch_first=True)
    tx, tdy = torch.tensor(x, requires_grad=True), torch.tensor(dy)

    def work() -> None:
        out, _ = layer(tx)
        out.backward(tdy)

    return work


def xlstm_slstm(input_product: bool, B: int, T: int, D: int, H: int, NH: int) -> Work:
    """The vanilla sLSTM of ``xlstm``, alone or behind a linear map."""
    import torch
    from xlstm.blocks.slstm.cell import sLSTMCell, sLSTMCellConfig

    f32 = {f"dtype{part}": "float32" for part in ("", "_b", "_r", "_w", "_g", "_s", "_a")}
    config = sLSTMCellConfig(
        hidden_size=H,
        num_heads=NH,
        backend="vanilla",
        enable_automatic_mixed_precision=False,
        **f32,
    )
    cell, linear = sLSTMCell(config), torch.nn.Linear(max(D, 1), 4 * H, bias=False)
    x, dy = arrays(B, T, D, H)
    tx, pre = torch.tensor(x, requires_grad=True), torch.randn(B, T, 4 * H, requires_grad=True)
    tdy = torch.tensor(dy).reshape(B, T, NH, H // NH).transpose(1, 2)

    def work() -> None:
        out, _ = cell(linear(tx) if input_product else pre)
        out.backward(tdy.reshape(out.shape))

    return work


def our_contenders(alone: Setup, *sizes: int) -> dict[str, Setup]:
    return {OURS: alone, PRODUCTS: partial(products, *sizes)}


def lstm_contenders(*sizes: int) -> dict[str, Setup]:
    found = our_contenders(partial(ours, LSTM, *sizes), *sizes)
    if importlib.util.find_spec("torch"):
        found["torch.nn.LSTM"] = partial(torch_lstm, *sizes)
    return found


def slstm_contenders(*sizes: int) -> dict[str, Setup]:
    """With a D, the layers; with D = 0, the recurrences."""
    input_product = sizes[2] > 0
    alone = partial(ours, sLSTM, *sizes) if input_product else partial(ours_alone, *sizes)
    found = our_contenders(alone, *sizes)
    if importlib.util.find_spec("torch") and importlib.util.find_spec("xlstm"):
        found["xlstm, vanilla"] = partial(xlstm_slstm, input_product, *sizes)
    return found


TABLES: dict[str, dict[str, Setup]] = {
    "LSTM, B 1, T 128, D 64, H 64": lstm_contenders(1, 128, 64, 64),
    "LSTM, B 32, T 128, D 256, H 256": lstm_contenders(32, 128, 256, 256),
    "sLSTM alone, B 1, T 128, H 64, 4 heads": slstm_contenders(1, 128, 0, 64, 4),
    "sLSTM alone, B 32, T 128, H 256, 4 heads": slstm_contenders(32, 128, 0, 256, 4),
    "sLSTM, B 1, T 128, D 64, H 64, 4 heads": slstm_contenders(1, 128, 64, 64, 4),
    "sLSTM, B 32, T 128, D 256, H 256, 4 heads": slstm_contenders(32, 128, 256, 256, 4),
    "mLSTM, B 8, T 128, D 256, H 256, 4 heads": {OURS: partial(ours, mLSTM, 8, 128, 256, 256, 4)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10, help="runs per process (default: 10)")
    parser.add_argument("--turns", type=int, default=3, help="processes each (default: 3)")
    parser.add_argument("--only", default="", help="tables whose title contains this")
    parser.add_argument("--child", nargs=2, metavar=("TABLE", "NAME"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        table, name = arguments.child
        child(TABLES, table, name, arguments.runs)
        return
    print(machine())
    print("forward + backward, float32: median, ratio to ours, range")
    for table, contenders in TABLES.items():
        if arguments.only in table:
            names = list(contenders)
            side_by_side("benchmarks.cells", table, names, arguments.turns, arguments.runs)


if __name__ == "__main__":
    main()
