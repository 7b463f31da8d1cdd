"""Flax: cells of linen and of nnx. Kernels are transposed, and the carry of an LSTM is (c, h)."""

from collections.abc import Callable
from typing import Any

from numpy_xlstm.conformance import Case
from tests.outside.shared import Given, outside, params, rows, scanned

REQUIRES = "flax>=0.12,<0.13"


def stepped(cell: Callable[..., Any]) -> Callable[..., Any]:
    def step(state: Any, x: Any) -> Any:
        carry, y = cell(state[::-1] if len(state) == 2 else state[0], x)
        return (carry[::-1] if len(state) == 2 else (carry,)), y

    return step


def linen_cell(name: str, case: Case, given: Given) -> Callable[..., Any]:
    from flax import linen

    tree: Given = {}
    gates = "ifgo" if "LSTM" in name else "rzn"
    arrays = [rows(array, len(gates)) for array in params(given)]
    for gate, W, R, b, *b_h in zip(gates, *arrays, strict=True):
        into, again = {"kernel": W.T}, {"kernel": R.T}
        if "LSTM" in name:
            again["bias"] = b
        else:  # the bias of R h in r and z is that of W x
            into["bias"] = b if gate == "n" else b + b_h[0]
            again |= {"bias": b_h[0]} if gate == "n" else {}
        tree |= {f"i{gate}": into, f"h{gate}": again}
    cell = getattr(linen, name)(case.options["hidden_size"], param_dtype=case.dtype)
    return stepped(lambda carry, x: cell.apply({"params": tree}, carry, x))


def nnx_cell(name: str, case: Case, given: Given) -> Callable[..., Any]:
    from flax import nnx

    D, H = case.options["input_size"], case.options["hidden_size"]
    dtypes = {"param_dtype": case.dtype, "dtype": case.dtype}
    cell = getattr(nnx, name)(D, H, rngs=nnx.Rngs(0), **dtypes)
    W, R, b, *more = params(given)
    if name == "LSTMCell":
        for gate, *arrays in zip("ifgo", *(rows(a, 4) for a in (W, R, b)), strict=True):
            into = getattr(cell, "if_" if gate == "f" else f"i{gate}")
            again = getattr(cell, f"h{gate}")
            into.kernel, again.kernel, again.bias = (nnx.Param(a.T) for a in arrays)
        return stepped(cell)
    cell.dense_i.kernel, cell.dense_h.kernel = nnx.Param(W.T), nnx.Param(R.T)
    for b_h in more:
        b += b_h.at[2 * H :].set(0)
        cell.dense_i.bias = nnx.Param(b)
    if cell.dense_h.bias is not None:
        cell.dense_h.bias = nnx.Param(more[0].at[: 2 * H].set(0) if more else b)
    return stepped(cell)


def cell_of(name: str, case: Case, given: Given) -> Callable[..., Any]:
    api, _, kind = name.partition(".")
    return (linen_cell if api == "linen" else nnx_cell)(kind, case, given)


CELLS = ("LSTMCell lstm", "OptimizedLSTMCell lstm", "GRUCell gru")
FUNCTIONS = [f"{api}.{cell}" for api in ("linen", "nnx") for cell in CELLS]
STEPS = "ordinary no-state closed-gates large one-row one-step"
DIFFERS = {"nnx.GRUCell gru": {"no b_hn (10)": STEPS}}
IMPLEMENTATIONS = outside(
    "flax", scanned(cell_of), ", ".join(FUNCTIONS), differs=DIFFERS, absent=True
)
