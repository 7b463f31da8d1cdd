"""JAX: ``jax.experimental.rnn.lstm_ref``, the reference of its LSTM of cuDNN."""

from numpy_xlstm import conformance
from numpy_xlstm.conformance import Case
from numpy_xlstm.gradcheck import from_jax
from tests.outside.shared import Given, outside

REQUIRES = "jax>=0.8,<0.12"


def forward(case: Case, given: Given) -> Given:
    from jax import numpy as jnp
    from jax.experimental.rnn import lstm_ref

    x, b = given["x"], given["params.b"]
    lengths = given.get("lengths", jnp.full(len(x), x.shape[1]))
    weights = ({0: given["params.W"]}, {0: given["params.R"]}, {0: b}, {0: 0 * b})
    sizes = (case.options["input_size"], case.options["hidden_size"], 1, 0.0, False)
    state = given["state.h"][None], given["state.c"][None]
    y, h, c = lstm_ref(x, *state, *weights, lengths.astype(jnp.int32), *sizes)
    return {"y": y, "final.h": h[0], "final.c": c[0]}


PORT = conformance.from_forward(from_jax, forward)
DIFFERS = {"empty row (#jax)": "lengths"}
NAME = "experimental.rnn.lstm_ref"
IMPLEMENTATIONS = [outside("jax", NAME, "lstm.sequence", PORT, "no step", DIFFERS, absent=True)]
