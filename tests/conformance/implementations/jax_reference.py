"""The three cells in JAX, from the papers' equations, differentiated by JAX: right ports."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from numpy_xlstm.conformance import Case
from numpy_xlstm.numerics import Array
from tests.conformance.implementations.offers import Implementation
from tests.conformance.implementations.tensors import cotangent, gradient, is_cotangent

Arrays = dict[str, Any]


def _affine(p: Arrays, x: Any, h: Any) -> list[Any]:
    """The four pre-activations; R is block-diagonal, (NH, 4 DH, DH), or whole."""
    import jax.numpy as jnp

    R = p["R"] if p["R"].ndim == 3 else p["R"][None]
    (NH, _, DH), B = R.shape, len(x)
    Rh = jnp.einsum("hgd,bhd->bhg", R, h.reshape(B, NH, DH)).reshape(B, NH, 4, DH)
    total = (x @ p["W"].T + p["b"]).reshape(B, 4, NH * DH)
    return [total[:, g] + Rh[:, :, g].reshape(B, NH * DH) for g in range(4)]


def lstm(case: Case, p: Arrays, state: Arrays, x: Any) -> tuple[Any, Arrays]:
    """One step of an LSTM."""
    import jax.numpy as jnp
    from jax.nn import sigmoid

    i, f, z, o = _affine(p, x, state["h"])
    c = sigmoid(f) * state["c"] + sigmoid(i) * jnp.tanh(z)
    h = sigmoid(o) * jnp.tanh(c)
    return h, {"h": h, "c": c}


def _stabilised(log_f: Any, log_i: Any, m: Any) -> tuple[Any, Any, Any]:
    """m, i′ and f′; the maximum passes its cotangent on to the past where both are equal."""
    import jax.numpy as jnp

    A = log_f + m
    new = jnp.where(log_i > A, log_i, A)
    return new, jnp.exp(log_i - new), jnp.exp(A - new)


def _log_forget(case: Case, f: Any) -> Any:
    from jax.nn import log_sigmoid

    return log_sigmoid(f) if case.options["forget_gate"] == "sigmoid" else f


def slstm(case: Case, p: Arrays, state: Arrays, x: Any) -> tuple[Any, Arrays]:
    """One step of an sLSTM."""
    import jax.numpy as jnp
    from jax.nn import sigmoid

    i, f, z, o = _affine(p, x, state["h"])
    m, i, f = _stabilised(_log_forget(case, f), i, state["m"])
    c = f * state["c"] + i * jnp.tanh(z)
    n = f * state["n"] + i
    h = sigmoid(o) * c / n
    return h, {"h": h, "c": c, "n": n, "m": m}


def mlstm(case: Case, p: Arrays, state: Arrays, x: Any) -> tuple[Any, Arrays]:
    """One step of an mLSTM."""
    import jax.numpy as jnp
    from jax.nn import sigmoid

    B, NH = state["m"].shape
    DK = state["n"].shape[-1]
    q, v = ((x @ p[f"W_{g}"].T + p[f"b_{g}"]).reshape(B, NH, -1) for g in "qv")
    k = (x @ p["W_k"].T / np.sqrt(DK) + p["b_k"]).reshape(B, NH, DK)
    log_i, f, o = (x @ p[f"W_{g}"].T + p[f"b_{g}"] for g in "ifo")
    m, i, f = _stabilised(_log_forget(case, f), log_i, state["m"])
    C = f[..., None, None] * state["C"] + i[..., None, None] * k[..., None] * v[..., None, :]
    n = f[..., None] * state["n"] + i[..., None] * k
    qn, low = jnp.einsum("bhk,bhk->bh", q, n), jnp.exp(-m)
    size = jnp.where(qn >= 0, qn, -qn)
    den = jnp.where(size >= low, size, low) + case.options["eps"]
    h = jnp.einsum("bhkv,bhk->bhv", C, q) / den[..., None]
    return sigmoid(o) * h.reshape(B, -1), {"C": C, "n": n, "m": m}


def port(step: Callable[..., Any], case: Case) -> dict[str, Array]:
    """All results of a sequence of such steps."""
    import jax

    given = {n: a for n, a in case.inputs.items() if not is_cotangent(n)}
    cell = case.subject.specification(**case.options)
    start = cell.init_state(len(given["x"]))._asdict()

    def run(inputs: Arrays) -> Arrays:
        state = {s: inputs.get(f"state.{s}", start[s]) for s in start}
        params = {n.partition(".")[2]: a for n, a in inputs.items() if n.startswith("params.")}

        def body(state: Arrays, x: Any) -> tuple[Arrays, Any]:
            h, state = step(case, params, state, x)
            return state, h

        last, ys = jax.lax.scan(body, state, inputs["x"].swapaxes(0, 1))
        return {"y": ys.swapaxes(0, 1)} | {f"final.{s}": a for s, a in last.items()}

    with jax.enable_x64(True):
        outputs, pull = jax.vjp(run, given)
        (found,) = pull({name: case.inputs[cotangent(name)] for name in outputs})
    results = outputs | {gradient(name): a for name, a in found.items()}
    return {name: np.asarray(a) for name, a in results.items()}


IMPLEMENTATIONS = [
    Implementation(
        "jax",
        "reference of the tests",
        f"{step.__name__}.sequence",
        partial(port, step),
        ("lengths",),
    )
    for step in (lstm, slstm, mlstm)
]
