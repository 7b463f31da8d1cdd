"""A correct port in JAX passes the kit in both dtypes, with a dict of parameters."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm import conformance
from numpy_xlstm.gradcheck import from_jax


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_lstm_passes(dtype: str) -> None:
    jax = pytest.importorskip("jax", reason="JAX (the extra 'peers') is not installed")
    jnp, sigmoid = jax.numpy, jax.nn.sigmoid

    def lstm(p: Any, x: Any, state: Any, lengths: Any = None) -> Any:
        B, H = len(x), p["R"].shape[1]
        state = (jnp.zeros((B, H)), jnp.zeros((B, H))) if state is None else tuple(state)

        def step(state: Any, now: Any) -> Any:
            (h, c), (x, t) = state, now
            i, f, z, o = jnp.split(x @ p["W"].T + h @ p["R"].T + p["b"], 4, 1)
            c_next = sigmoid(f) * c + sigmoid(i) * jnp.tanh(z)
            h_next = sigmoid(o) * jnp.tanh(c_next)
            live = jnp.full((B, 1), True) if lengths is None else (t < lengths)[:, None]
            after = jnp.where(live, h_next, h), jnp.where(live, c_next, c)
            return after, jnp.where(live, h_next, 0)

        steps = jnp.moveaxis(x, 1, 0), jnp.arange(x.shape[1])
        state, y = jax.lax.scan(step, state, steps)
        return jnp.moveaxis(y, 0, 1), state

    params = {"W": np.zeros((24, 5)), "R": np.zeros((24, 6)), "b": np.zeros(24)}
    layer = from_jax(jax.tree_util.Partial(lstm, params))
    chosen = [c for c in conformance.cases("lstm.sequence", dtype) if "empty-state" not in c.flags]
    report = conformance.verify(chosen, conformance.from_layer(lambda case: layer))
    assert report.passed, report
    assert len(report.verdicts) > 5
