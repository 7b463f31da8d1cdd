"""Forward + backward of LSTM and sLSTM beside PyTorch, in one run: ``python -m benchmarks.cells``.

The peers are optional: without PyTorch or ``xlstm`` only our own times and the time of the matrix
products alone are shown. The last column is the ratio to our time: above 1, we are faster.
"""

import argparse
import importlib.util
from typing import Any

import numpy as np

from benchmarks.timing import Work, show, side_by_side
from numpy_xlstm import LSTM, mLSTM, sLSTM
from numpy_xlstm.numerics import Array

OURS = "numpy_xlstm"


def ours(layer: Any, x: Array, dy: Array) -> Work:
    def work() -> None:
        _, _, cache = layer.forward(x)
        layer.backward(dy, cache)

    return work


def products(B: int, T: int, D: int, H: int, NH: int) -> Work:
    """The matrix products of a forward and a backward, and nothing else."""
    f32 = np.float32
    x, g, W = np.ones((T * B, D), f32), np.ones((T * B, 4 * H), f32), np.ones((4 * H, D), f32)
    DH = H // NH
    R, h = np.ones((NH, 4 * DH, DH), f32), np.ones((NH, B, DH), f32)
    gh, hs = np.ones((NH, B, 4 * DH), f32), np.ones((NH, T * B, DH), f32)
    gs = np.ones((NH, T * B, 4 * DH), f32)

    def work() -> None:
        x @ W.T
        for _ in range(T):
            h @ R.swapaxes(1, 2)
            gh @ R
        g.T @ x
        g @ W
        gs.swapaxes(1, 2) @ hs

    return work


def torch_lstm(x: Array, dy: Array, H: int) -> Work:
    import torch

    layer = torch.nn.LSTM(x.shape[-1], H, batch_first=True)
    tx, tdy = torch.tensor(x, requires_grad=True), torch.tensor(dy)

    def work() -> None:
        out, _ = layer(tx)
        out.backward(tdy)

    return work


def xlstm_slstm(x: Array, dy: Array, H: int, NH: int, *, with_input_product: bool) -> Work:
    """The vanilla sLSTM of ``xlstm``, whose input is what W x + b is in ours."""
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
    cell, linear = sLSTMCell(config), torch.nn.Linear(x.shape[-1], 4 * H, bias=False)
    B, T, _ = x.shape
    tx, pre = torch.tensor(x, requires_grad=True), torch.randn(B, T, 4 * H, requires_grad=True)
    tdy = torch.tensor(dy).reshape(B, T, NH, H // NH).transpose(1, 2)

    def work() -> None:
        out, _ = cell(linear(tx) if with_input_product else pre)
        out.backward(tdy.reshape(out.shape))

    return work


def lstm_table(B: int, T: int, D: int, H: int, runs: int) -> None:
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((B, T, n)).astype(np.float32) for n in (D, H))
    works = {OURS: ours(LSTM(D, H, dtype=np.float32, rng=rng), x, dy)}
    works["matrix products alone"] = products(B, T, D, H, 1)
    if importlib.util.find_spec("torch"):
        works["torch.nn.LSTM"] = torch_lstm(x, dy, H)
    show(f"LSTM, B {B}, T {T}, D {D}, H {H}, float32", side_by_side(works, runs), OURS)


def slstm_table(B: int, T: int, H: int, NH: int, runs: int) -> None:
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, B, T, H)).astype(np.float32)
    works = {OURS: ours(sLSTM(H, H, NH, dtype=np.float32, rng=rng), x, dy)}
    works["matrix products alone"] = products(B, T, H, H, NH)
    if importlib.util.find_spec("xlstm") and importlib.util.find_spec("torch"):
        for extra in (False, True):
            name = "xlstm vanilla sLSTM" + (" + input product" if extra else "")
            works[name] = xlstm_slstm(x, dy, H, NH, with_input_product=extra)
    show(f"sLSTM, B {B}, T {T}, H {H}, {NH} heads, float32", side_by_side(works, runs), OURS)


def mlstm_table(B: int, T: int, H: int, NH: int, runs: int) -> None:
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, B, T, H)).astype(np.float32)
    works = {OURS: ours(mLSTM(H, H, NH, dtype=np.float32, rng=rng), x, dy)}
    show(f"mLSTM, B {B}, T {T}, H {H}, {NH} heads, float32", side_by_side(works, runs), OURS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15, help="counted runs of each (default: 15)")
    runs = parser.parse_args().runs
    lstm_table(1, 128, 64, 64, runs)
    lstm_table(32, 128, 256, 256, runs)
    slstm_table(1, 128, 64, 4, runs)
    slstm_table(32, 128, 256, 4, max(3, runs // 3))
    mlstm_table(8, 128, 256, 4, max(3, runs // 3))


if __name__ == "__main__":
    main()
