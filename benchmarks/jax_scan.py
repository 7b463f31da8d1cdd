"""LSTM and sLSTM in JAX: a jitted ``lax.scan`` over time, and its vector-Jacobian product."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import log_sigmoid, sigmoid

from benchmarks.ours import draw, make_layer
from benchmarks.timing import Work


def set_up(
    step: Callable[..., Any], params: Any, state: Any, sizes: tuple[int, ...], backward: bool
) -> Work:
    """Set up a layer with parameters W, R and b over time-major arrays."""

    def outputs(params: Any, x: Any) -> Any:
        pre = x @ params["W"].T + params["b"]
        return jax.lax.scan(lambda *now: step(params["R"], *now), state, pre)[1]

    def pass_both_ways(params: Any, x: Any, dy: Any) -> Any:
        y, pullback = jax.vjp(outputs, params, x)
        return y[-1], y, pullback(dy)

    def forward(params: Any, x: Any, dy: Any) -> Any:
        y = outputs(params, x)
        return y[-1], y

    run: Any = jax.jit(pass_both_ways if backward else forward)

    x = jnp.asarray(draw(*sizes).swapaxes(0, 1).copy())
    params = {name: jnp.asarray(array) for name, array in params.items()}
    wait: Any = jax.block_until_ready
    return lambda: wait(run(params, x, x))[0]


def lstm(B: int, T: int, H: int, backward: bool = True) -> Work:
    def step(R: Any, state: Any, pre: Any) -> Any:
        h, c = state
        i, f, g, o = jnp.split(pre + h @ R.T, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
        h = sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    ours = make_layer("LSTM", H).params
    b = ours["bias_ih_l0"] + ours["bias_hh_l0"]
    params = {"W": ours["weight_ih_l0"], "R": ours["weight_hh_l0"], "b": b}
    return set_up(step, params, (jnp.zeros((B, H)),) * 2, (B, T, H), backward)


def slstm(B: int, T: int, H: int, NH: int, backward: bool = True) -> Work:
    def step(R: Any, state: Any, pre: Any) -> Any:
        h, c, n, m = state
        Rh = jnp.einsum("nkj,bnj->bnk", R, h.reshape(B, NH, -1))  # (B, NH, 4·DH)
        Rh = Rh.reshape(B, NH, 4, -1).swapaxes(1, 2).reshape(B, 4 * H)
        i_pre, f_pre, z_pre, o_pre = jnp.split(pre + Rh, 4, axis=-1)
        A = log_sigmoid(f_pre) + m
        m = jnp.maximum(A, i_pre)
        i, f = jnp.exp(i_pre - m), jnp.exp(A - m)
        c, n = f * c + i * jnp.tanh(z_pre), f * n + i
        h = sigmoid(o_pre) * (c / n)
        return (h, c, n, m), h

    zero = jnp.zeros((B, H))
    state = zero, zero, zero, jnp.full((B, H), -jnp.inf)
    return set_up(step, make_layer("sLSTM", H, NH).params, state, (B, T, H), backward)
