"""BrainState: cells that hold their state. It adds 1 to f̃; its z keeps the new value."""

from tests.outside.shared import Case, Tensor, outside, reordered, scanned


def cell_of(name: str, case: Case, W: Tensor, R: Tensor, b: Tensor) -> Tensor:
    from brainstate import nn
    from jax import numpy as jnp

    D, H = case.options["input_size"], case.options["hidden_size"]
    more = {"activation": case.options["nonlinearity"]} if "RNN" in name else {}
    cell = getattr(nn, name[3:])(D, H, w_init=nn.init.ZeroInit(), **more)
    w = jnp.concatenate([W, R], 1)
    maps = {"W": (w, b)}
    if name == "nn.LSTMCell":
        w, b = (reordered(array, "ifzo", "izfo") for array in (w, b))
        maps = {"W": (w, b.at[2 * H : 3 * H].add(-1))}
    elif name == "nn.GRUCell":
        w, b = (array.at[H : 2 * H].multiply(-1) for array in (w, b))
        maps = {"Wrz": (w[: 2 * H], b[: 2 * H]), "Wh": (w[2 * H :], b[2 * H :])}
    for part, (w, b) in maps.items():
        getattr(cell, part).weight.value = {"weight": w.T, "bias": b}

    def step(state: Tensor, x: Tensor) -> Tensor:
        cell.init_state(len(x))
        if name != "nn.LSTMCell":
            cell.h.value = state
            return 2 * (cell.update(x),)
        cell.h.value, cell.c.value = state
        y = cell.update(x)
        return (y, cell.c.value), y

    return step


FUNCTIONS = "nn.LSTMCell lstm, nn.GRUCell original-gru, nn.ValinaRNNCell elman"
IMPLEMENTATIONS = outside("brainstate>=0.5,<0.7", scanned(cell_of), FUNCTIONS, "lengths")
