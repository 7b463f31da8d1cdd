"""JAX: ``jax.experimental.rnn.lstm_ref``, the reference of its LSTM of cuDNN."""

from numpy_xlstm.conformance import Case
from numpy_xlstm.gradcheck import from_jax
from tests.outside.shared import Given, forwarded, outside

REQUIRES = "jax>=0.8,<0.12"


def forward(_: str, case: Case, given: Given) -> Given:
    from jax import numpy as jnp
    from jax.experimental.rnn import lstm_ref

    x, b = given["x"], given["params.b"]
    lengths = given.get("lengths", jnp.full(len(x), x.shape[1]))
    weights = ({0: given["params.W"]}, {0: given["params.R"]}, {0: b}, {0: 0 * b})
    sizes = (case.options["input_size"], case.options["hidden_size"], 1, 0.0, False)
    state = given["state.h"][None], given["state.c"][None]
    y, h, c = lstm_ref(x, *state, *weights, lengths.astype(jnp.int32), *sizes)
    return {"y": y, "final.h": h[0], "final.c": c[0]}


IMPLEMENTATIONS = outside(
    "jax",
    forwarded(from_jax, forward),
    "experimental.rnn.lstm_ref lstm",
    "no step",
    {"": {"empty row (15)": "lengths"}},
    absent=True,
)
