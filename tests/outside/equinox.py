"""Equinox: cells without a batch, with the rows and gates of PyTorch."""

from collections.abc import Callable
from typing import Any

from numpy_xlstm.conformance import Case
from tests.outside.shared import Given, outside, params, scanned

REQUIRES = "equinox>=0.13,<0.14"


def cell_of(name: str, case: Case, given: Given) -> Callable[..., Any]:
    import equinox
    import jax

    W, R, b, *b_h = params(given)
    n = slice(2 * case.options["hidden_size"], None)
    if b_h:
        b, b_h = b + b_h[0].at[n].set(0), [b_h[0][n]]
    names = ["weight_ih", "weight_hh", "bias", "bias_n"][: 3 + len(b_h)]
    cell = getattr(equinox.nn, name[3:])(**case.options, key=jax.random.key(0))
    cell = equinox.tree_at(lambda c: [getattr(c, n) for n in names], cell, [W, R, b, *b_h])

    def step(state: Any, x: Any) -> Any:
        found = jax.vmap(cell)(x, state if len(state) == 2 else state[0])
        state = found if len(state) == 2 else (found,)
        return state, state[0]

    return step


FUNCTIONS = "nn.LSTMCell lstm, nn.GRUCell gru"
IMPLEMENTATIONS = outside(
    "equinox", scanned(cell_of), "nn.LSTMCell lstm, nn.GRUCell gru", absent=True
)
