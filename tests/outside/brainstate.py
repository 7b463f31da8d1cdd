"""BrainState: cells that hold their state. It adds 1 to f̃; its z keeps the new value."""

from collections.abc import Callable
from typing import Any

from numpy_xlstm.conformance import Case
from tests.outside.shared import Given, outside, rows, scanned

REQUIRES = "brainstate>=0.5,<0.7"


def cell_of(name: str, case: Case, given: Given) -> Callable[..., Any]:
    import brainstate
    from jax import numpy as jnp

    D, H = case.options["input_size"], case.options["hidden_size"]
    more = {"activation": case.options["nonlinearity"]} if "RNN" in name else {}
    cell = getattr(brainstate.nn, name[3:])(D, H, w_init=brainstate.nn.init.ZeroInit(), **more)
    both = jnp.concatenate([given["params.W"], given["params.R"]], 1)
    if name == "nn.LSTMCell":
        (i, f, z, o), (b_i, b_f, b_z, b_o) = rows(both, 4), rows(given["params.b"], 4)
        weights = {"W": ([i, z, f, o], [b_i, b_z, b_f - 1, b_o])}
    elif name == "nn.GRUCell":
        (r, z, n), (b_r, b_z, b_n) = rows(both, 3), rows(given["params.b"], 3)
        weights = {"Wrz": ([r, -z], [b_r, -b_z]), "Wh": ([n], [b_n])}
    else:
        weights = {"W": ([both], [given["params.b"]])}
    for part, (W, b) in weights.items():
        linear = getattr(cell, part)
        linear.weight.value = {"weight": jnp.concatenate(W).T, "bias": jnp.concatenate(b)}

    def step(state: Any, x: Any) -> Any:
        cell.init_state(len(x))
        for letter, array in zip("hc", state, strict=False):
            getattr(cell, letter).value = array
        y = cell.update(x)
        return tuple(getattr(cell, letter).value for letter in "hc"[: len(state)]), y

    return step


IMPLEMENTATIONS = outside(
    "brainstate",
    scanned(cell_of),
    "nn.LSTMCell lstm, nn.GRUCell original-gru, nn.ValinaRNNCell elman",
    differs={"nn.GRUCell original-gru": {"1 − z (32)": "closed-gates"}},
    absent=True,
)
