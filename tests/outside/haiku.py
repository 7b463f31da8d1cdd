"""Haiku: one matrix for x and h. It adds 1 to f̃; its z keeps the new value, so here it is −z̃."""

from collections.abc import Callable
from typing import Any

from numpy_xlstm.conformance import Case
from tests.outside.shared import Given, outside, rows, scanned

REQUIRES = "dm-haiku>=0.0.16,<0.1"


def apply(make: Callable[[], Any], params: Given) -> Callable[..., Any]:
    import haiku

    def step(state: Any, x: Any) -> Any:
        core = make()
        y, state = core(x, haiku.LSTMState(*state) if len(state) == 2 else state[0])
        return (tuple(state) if isinstance(core, haiku.LSTM) else (state,)), y

    transformed = haiku.without_apply_rng(haiku.transform(step))
    return lambda state, x: transformed.apply(params, state, x)


def lstm(case: Case, given: Given) -> Callable[..., Any]:
    import haiku
    from jax import numpy as jnp

    W, R, b = (
        jnp.concatenate([rows(given[f"params.{name}"], 4)[k] for k in (0, 2, 1, 3)])
        for name in "WRb"
    )
    f = slice(2 * case.options["hidden_size"], 3 * case.options["hidden_size"])
    linear = {"w": jnp.concatenate([W, R], 1).T, "b": b.at[f].add(-1)}
    return apply(lambda: haiku.LSTM(case.options["hidden_size"]), {"lstm/linear": linear})


def gru(case: Case, given: Given) -> Callable[..., Any]:
    import haiku
    from jax import numpy as jnp

    names = {"w_i": "W", "w_h": "R", "b": "b"}
    r_z_n = {theirs: rows(given[f"params.{ours}"], 3) for theirs, ours in names.items()}
    params = {name: jnp.concatenate([-z, r, n]).T for name, (r, z, n) in r_z_n.items()}
    return apply(lambda: haiku.GRU(case.options["hidden_size"]), {"gru": params})


IMPLEMENTATIONS = outside(
    "dm-haiku",
    scanned(lambda name, case, given: (gru if name == "GRU" else lstm)(case, given)),
    "LSTM lstm, GRU original-gru",
    differs={"GRU original-gru": {"1 − z (32)": "closed-gates"}},
    absent=True,
)
