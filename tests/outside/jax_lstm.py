"""JAX: ``jax.experimental.rnn.lstm_ref``, the reference of its LSTM of cuDNN."""

from tests.outside.shared import Case, Tensor, forwarded, from_jax, outside


def forward(_: str, case: Case, x: Tensor, state: Tensor, *params: Tensor) -> Tensor:
    from jax import numpy as jnp
    from jax.experimental.rnn import lstm_ref

    W, R, b = params
    lengths = jnp.array(case.inputs.get("lengths", len(x) * [x.shape[1]]), jnp.int32)
    sizes = (case.options["input_size"], case.options["hidden_size"], 1, 0.0, False)
    h, c = (array[None] for array in state)
    y, h, c = lstm_ref(x, h, c, {0: W}, {0: R}, {0: b}, {0: 0 * b}, lengths, *sizes)
    return y, h[0], c[0]


PORT, FUNCTION = forwarded(from_jax, forward), "experimental.rnn.lstm_ref lstm"
IMPLEMENTATIONS = outside("jax>=0.8,<0.12", PORT, FUNCTION, "no step")
