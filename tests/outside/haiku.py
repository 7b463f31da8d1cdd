"""Haiku: one matrix for x and h. It adds 1 to f̃; its z keeps the new value, so here it is −z̃."""

from tests.outside.shared import Case, Tensor, outside, reordered, scanned


def cell_of(name: str, case: Case, *params: Tensor) -> Tensor:
    import haiku
    from jax import numpy as jnp

    H = case.options["hidden_size"]
    if name == "LSTM":
        W, R, b = (reordered(array, "ifzo", "izfo") for array in params)
        w, b = jnp.concatenate([W, R], 1).T, b.at[2 * H : 3 * H].add(-1)
        tree = {"lstm/linear": {"w": w, "b": b}}
    else:
        W, R, b = (reordered(array, "rzn", "zrn").at[:H].multiply(-1) for array in params)
        tree = {"gru": {"w_i": W.T, "w_h": R.T, "b": b}}

    def step(state: Tensor, x: Tensor) -> Tensor:
        core, lstm = getattr(haiku, name)(H), name == "LSTM"
        y, state = core(x, haiku.LSTMState(*state) if lstm else state)
        return tuple(state) if lstm else state, y

    transformed = haiku.without_apply_rng(haiku.transform(step))
    return lambda state, x: transformed.apply(tree, state, x)


FUNCTIONS = "LSTM lstm, GRU original-gru"
IMPLEMENTATIONS = outside("dm-haiku>=0.0.16,<0.1", scanned(cell_of), FUNCTIONS, "lengths")
