"""A correct port in JAX passes the kit in both dtypes."""

from typing import Any

import pytest

from numpy_xlstm import conformance
from numpy_xlstm.gradcheck import from_jax


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_lstm_passes(dtype: str) -> None:
    jax = pytest.importorskip("jax", reason="JAX (the extra 'peers') is not installed")
    jnp, sigmoid = jax.numpy, jax.nn.sigmoid

    def forward(case: Any, given: dict[str, Any]) -> dict[str, Any]:
        x, W, R, b = given["x"], *(given[f"params.{name}"] for name in "WRb")
        lengths = given.get("lengths", jnp.full(len(x), x.shape[1]))

        def step(state: Any, now: Any) -> Any:
            (h, c), (x, t) = state, now
            i, f, z, o = jnp.split(x @ W.T + h @ R.T + b, 4, 1)
            c_next = sigmoid(f) * c + sigmoid(i) * jnp.tanh(z)
            h_next = sigmoid(o) * jnp.tanh(c_next)
            live = (t < lengths)[:, None]
            after = jnp.where(live, h_next, h), jnp.where(live, c_next, c)
            return after, jnp.where(live, h_next, 0)

        steps = jnp.moveaxis(x, 1, 0), jnp.arange(x.shape[1])
        (h, c), y = jax.lax.scan(step, (given["state.h"], given["state.c"]), steps)
        return {"y": jnp.moveaxis(y, 0, 1), "final.h": h, "final.c": c}

    port = conformance.from_forward(from_jax, forward)
    chosen = conformance.cases("lstm.sequence", dtype)[::2]
    assert {"no-step", "padding"} <= {flag for case in chosen for flag in case.flags}
    report = conformance.verify(chosen, port)
    assert report.passed, report
