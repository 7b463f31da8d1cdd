"""Flax: cells of linen and of nnx. Kernels are transposed, and the carry of an LSTM is (c, h)."""

from collections.abc import Callable
from functools import partial
from typing import Any

from numpy_xlstm.conformance import Case
from tests.outside.shared import Given, outside, rows, scanned

REQUIRES = "flax>=0.12,<0.13"


def stepped(cell: Callable[..., Any]) -> Callable[..., Any]:
    def step(state: Any, x: Any) -> Any:
        carry, y = cell(state[::-1] if len(state) == 2 else state[0], x)
        return (carry[::-1] if len(state) == 2 else (carry,)), y

    return step


def linen_cell(name: str, case: Case, given: Given) -> Callable[..., Any]:
    from flax import linen

    params: Given = {}
    gates = "ifgo" if "LSTM" in name else "rzn"
    arrays = [rows(array, len(gates)) for n, array in given.items() if n.startswith("params.")]
    for gate, W, R, b, *b_h in zip(gates, *arrays, strict=True):
        into, again = {"kernel": W.T}, {"kernel": R.T}
        if "LSTM" in name:
            again["bias"] = b
        else:  # the bias of R h in r and z is that of W x
            into["bias"] = b if gate == "n" else b + b_h[0]
            again |= {"bias": b_h[0]} if gate == "n" else {}
        params |= {f"i{gate}": into, f"h{gate}": again}
    cell = getattr(linen, name)(case.options["hidden_size"], param_dtype=case.dtype)
    return stepped(lambda carry, x: cell.apply({"params": params}, carry, x))


def nnx_cell(name: str, case: Case, given: Given) -> Callable[..., Any]:
    from flax import nnx

    dtypes = {"param_dtype": case.dtype, "dtype": case.dtype}
    cell = getattr(nnx, name)(**renamed(case), rngs=nnx.Rngs(0), **dtypes)
    W, R, b, *more = (array for n, array in given.items() if n.startswith("params."))
    if name == "LSTMCell":
        for gate, *arrays in zip("ifgo", *(rows(a, 4) for a in (W, R, b)), strict=True):
            into = getattr(cell, "if_" if gate == "f" else f"i{gate}")
            again = getattr(cell, f"h{gate}")
            into.kernel, again.kernel, again.bias = (nnx.Param(a.T) for a in arrays)
        return stepped(cell)
    cell.dense_i.kernel, cell.dense_h.kernel = nnx.Param(W.T), nnx.Param(R.T)
    if more:
        first = more[0].at[2 * case.options["hidden_size"] :].set(0)
        cell.dense_i.bias = nnx.Param(b + first)
        if cell.dense_h.bias is not None:
            cell.dense_h.bias = nnx.Param(more[0] - first)
    else:
        cell.dense_h.bias = nnx.Param(b)
    return stepped(cell)


def renamed(case: Case) -> dict[str, int]:
    sizes = case.options
    return {"in_features": sizes["input_size"], "hidden_features": sizes["hidden_size"]}


STEPS = "ordinary no-state closed-gates large one-row one-step"
IMPLEMENTATIONS = [
    outside("flax", f"{api}.{name}", subject, port, "lengths", differs, absent=True)
    for api, name, subject, cell, differs in (
        ("linen", "LSTMCell", "lstm.sequence", linen_cell, {}),
        ("linen", "OptimizedLSTMCell", "lstm.sequence", linen_cell, {}),
        ("linen", "GRUCell", "gru.sequence", linen_cell, {}),
        ("nnx", "LSTMCell", "lstm.sequence", nnx_cell, {}),
        ("nnx", "OptimizedLSTMCell", "lstm.sequence", nnx_cell, {}),
        ("nnx", "GRUCell", "gru.sequence", nnx_cell, {"no b_hn (#flax)": STEPS}),
    )
    for port in [scanned(partial(cell, name))]
]
