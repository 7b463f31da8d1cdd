"""Both GRUs, Elman, peephole and projected LSTM, with random parameters and in 50 digits."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from mpmath import exp, mp, mpf, tanh

from numpy_xlstm.cells.elman import ElmanCell
from numpy_xlstm.cells.gru import GRUCell
from numpy_xlstm.cells.gru_original import OriginalGRUCell
from numpy_xlstm.cells.lstmp import LSTMPCell
from numpy_xlstm.cells.peephole import PeepholeLSTMCell
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import tree_map

mp.dps = 50
Vector = list[Any]
CUSTOM_CELLS: dict[str, Callable[..., Any]] = {
    "GRU": GRUCell,
    "GRU-original": OriginalGRUCell,
    "Elman-tanh": ElmanCell,
    "Elman-relu": partial(ElmanCell, nonlinearity="relu"),
    "peephole": PeepholeLSTMCell,
    "projected": partial(LSTMPCell, proj_size=2),
}


def build(
    custom: str, B: int, T: int, D: int, H: int, *, seed: int = 0, dtype: Any = np.float64
) -> tuple[Any, Array, Any, np.random.Generator]:
    """Make a random cell, sequence and state, exact in float32 for every dtype."""
    rng = np.random.default_rng(seed)
    cell = CUSTOM_CELLS[custom](D, H, dtype=dtype, rng=rng)
    for array in cell.params.values():
        array[...] = normal(array, rng)
    xs = normal(np.zeros((B, T, D), dtype), rng)
    return cell, xs, normal(cell.init_state(B), rng), rng


def normal(tree: Any, rng: np.random.Generator) -> Any:
    """Return normal numbers in the shapes and dtypes of a tree."""
    return tree_map(lambda a: rng.standard_normal(a.shape).astype(np.float32).astype(a.dtype), tree)


def sigma(x: Any) -> Any:
    return 1 / (1 + exp(-x))


def exactly(array: Any) -> Any:
    """Convert a NumPy array to nested lists of mpf, each equal to the float."""
    return [exactly(part) for part in array] if np.ndim(array) else mpf(float(array))


def affine(W: Any, x: Vector, b: Any) -> Vector:
    return [
        sum((w * v for w, v in zip(row, x, strict=True)), bias)
        for row, bias in zip(W, b, strict=True)
    ]


class Untouched(np.ndarray):
    """An array that raises an error in any computation."""

    def __array_ufunc__(self, *args: Any, **options: Any) -> Any:
        raise AssertionError("something is computed")


def untouched(cell: Any) -> Any:
    """Return a cell that raises an error when it computes."""
    return cell.over({name: array.view(Untouched) for name, array in cell.params.items()})


def plain_step(custom: str, params: dict[str, Any], x: Vector, state: list[Vector]) -> list[Vector]:
    """Return the state of one row after a step, from the equations in the papers."""
    p = {name: exactly(array) for name, array in params.items()}
    h, units, H = state[0], range(len(state[-1])), len(state[-1])
    recurrent = affine(p["R"], h, p.get("b_h", [mpf(0)] * len(p["R"])))
    a = [u + v for u, v in zip(affine(p["W"], x, p["b"]), recurrent, strict=True)]
    if custom == "Elman-tanh":
        return [[tanh(a[j]) for j in units]]
    if custom == "Elman-relu":
        return [[max(a[j], mpf(0)) for j in units]]
    if custom == "GRU":
        r, z = [sigma(a[j]) for j in units], [sigma(a[H + j]) for j in units]
        s, u = recurrent[2 * H :], a[2 * H :]
        n = [tanh(u[j] - s[j] + r[j] * s[j]) for j in units]
        return [[(1 - z[j]) * n[j] + z[j] * h[j] for j in units]]
    if custom == "GRU-original":
        r, z = [sigma(a[j]) for j in units], [sigma(a[H + j]) for j in units]
        s = affine(p["R"][2 * H :], [r[j] * h[j] for j in units], [mpf(0)] * H)
        n = [tanh(a[2 * H + j] - recurrent[2 * H + j] + s[j]) for j in units]
        return [[(1 - z[j]) * n[j] + z[j] * h[j] for j in units]]
    if custom == "projected":
        i, f, o = ([sigma(a[k * H + j]) for j in units] for k in (0, 1, 3))
        c = [f[j] * state[1][j] + i[j] * tanh(a[2 * H + j]) for j in units]
        return [affine(p["W_hr"], [o[j] * tanh(c[j]) for j in units], [mpf(0)] * len(h)), c]
    c, P = state[1], p["P"]
    i = [sigma(a[j] + P[j] * c[j]) for j in units]
    f = [sigma(a[H + j] + P[H + j] * c[j]) for j in units]
    c = [f[j] * c[j] + i[j] * tanh(a[2 * H + j]) for j in units]
    o = [sigma(a[3 * H + j] + P[2 * H + j] * c[j]) for j in units]
    return [[o[j] * tanh(c[j]) for j in units], c]
