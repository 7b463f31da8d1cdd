"""Equinox: cells without a batch, with the rows and gates of PyTorch."""

from collections.abc import Callable
from typing import Any

from numpy_xlstm.conformance import Case
from tests.outside.shared import Given, outside, scanned

REQUIRES = "equinox>=0.13,<0.14"


def lstm(case: Case, given: Given) -> Callable[..., Any]:
    import equinox
    import jax

    cell = equinox.nn.LSTMCell(**case.options, key=jax.random.key(0))
    weights = [given[f"params.{name}"] for name in "WRb"]
    cell = equinox.tree_at(lambda c: [c.weight_ih, c.weight_hh, c.bias], cell, weights)

    def step(state: Any, x: Any) -> Any:
        state = jax.vmap(cell)(x, state)
        return state, state[0]

    return step


def gru(case: Case, given: Given) -> Callable[..., Any]:
    import equinox
    import jax

    W, R, b, b_h = (given[f"params.{name}"] for name in ("W", "R", "b", "b_h"))
    n = slice(2 * case.options["hidden_size"], None)
    cell = equinox.nn.GRUCell(**case.options, key=jax.random.key(0))
    cell = equinox.tree_at(
        lambda c: [c.weight_ih, c.weight_hh, c.bias, c.bias_n],
        cell,
        [W, R, b + b_h.at[n].set(0), b_h[n]],
    )

    def step(state: Any, x: Any) -> Any:
        h = jax.vmap(cell)(x, state[0])
        return (h,), h

    return step


IMPLEMENTATIONS = [
    outside("equinox", "nn.LSTMCell", "lstm.sequence", scanned(lstm), absent=True),
    outside("equinox", "nn.GRUCell", "gru.sequence", scanned(gru), absent=True),
]
