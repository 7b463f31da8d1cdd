"""Correct ports of the three cells in JAX, from the papers' equations, with JAX's gradients."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import numpy as np

from numpy_xlstm.conformance import Case
from numpy_xlstm.numerics import Array
from tests.conformance.implementations.offers import Implementation
from tests.conformance.implementations.tensors import cotangent, gradient, is_cotangent

Arrays = dict[str, Any]
Options = Mapping[str, Any]
LEAST = -709.7
"""Below this m, e^−m is infinite, and its gradient by autograd is NaN."""


def _affine(p: Arrays, x: Any, h: Any) -> list[Any]:
    """Return the four pre-activations; R is block-diagonal, (NH, 4 DH, DH), or a full matrix."""
    import jax.numpy as jnp

    R = p["R"] if p["R"].ndim == 3 else p["R"][None]
    (NH, _, DH), B = R.shape, len(x)
    Rh = jnp.einsum("hgd,bhd->bhg", R, h.reshape(B, NH, DH)).reshape(B, NH, 4, DH)
    total = (x @ p["W"].T + p["b"]).reshape(B, 4, NH * DH)
    return [total[:, g] + Rh[:, :, g].reshape(B, NH * DH) for g in range(4)]


def lstm(options: Options, p: Arrays, state: Arrays, x: Any) -> tuple[Any, Arrays]:
    """One step of an LSTM."""
    import jax.numpy as jnp
    from jax.nn import sigmoid

    i, f, z, o = _affine(p, x, state["h"])
    c = sigmoid(f) * state["c"] + sigmoid(i) * jnp.tanh(z)
    h = sigmoid(o) * jnp.tanh(c)
    return h, {"h": h, "c": c}


def _stabilised(log_f: Any, log_i: Any, m: Any) -> tuple[Any, Any, Any]:
    """Return m, i′ and f′; at a tie, the maximum passes its cotangent to log f + m₋."""
    import jax.numpy as jnp

    A = log_f + m
    new = jnp.where(log_i > A, log_i, A)
    return new, jnp.exp(log_i - new), jnp.exp(A - new)


def _log_forget(options: Options, f: Any) -> Any:
    from jax.nn import log_sigmoid

    return log_sigmoid(f) if options["forget_gate"] == "sigmoid" else f


def slstm(options: Options, p: Arrays, state: Arrays, x: Any) -> tuple[Any, Arrays]:
    """One step of an sLSTM."""
    import jax.numpy as jnp
    from jax.nn import sigmoid

    i, f, z, o = _affine(p, x, state["h"])
    log_f = _log_forget(options, f)
    nothing = (state["n"] == 0) & (jnp.exp(i - log_f - state["m"]) == 0)
    m, i, f = _stabilised(log_f, i, jnp.where(nothing, -jnp.inf, state["m"]))
    c = f * state["c"] + i * jnp.tanh(z)
    n = f * state["n"] + i
    h = sigmoid(o) * c / n
    return h, {"h": h, "c": c, "n": n, "m": m}


def mlstm(options: Options, p: Arrays, state: Arrays, x: Any) -> tuple[Any, Arrays]:
    """One step of an mLSTM."""
    import jax.numpy as jnp
    from jax.nn import sigmoid

    B, NH = state["m"].shape
    DK = state["n"].shape[-1]
    q, v = ((x @ p[f"W_{g}"].T + p[f"b_{g}"]).reshape(B, NH, -1) for g in "qv")
    k = (x @ p["W_k"].T / np.sqrt(DK) + p["b_k"]).reshape(B, NH, DK)
    log_i, f, o = (x @ p[f"W_{g}"].T + p[f"b_{g}"] for g in "ifo")
    m, i, f = _stabilised(_log_forget(options, f), log_i, state["m"])
    C = f[..., None, None] * state["C"] + i[..., None, None] * k[..., None] * v[..., None, :]
    n = f[..., None] * state["n"] + i[..., None] * k
    qn = jnp.einsum("bhk,bhk->bh", q, n)
    low = jnp.where(m < LEAST, jnp.inf, jnp.exp(-jnp.maximum(m, LEAST)))
    size = jnp.where(qn >= 0, qn, -qn)
    den = jnp.where(size >= low, size, low) + options["eps"]
    h = jnp.einsum("bhkv,bhk->bhv", C, q) / den[..., None]
    return sigmoid(o) * h.reshape(B, -1), {"C": C, "n": n, "m": m}


@cache
def compiled(step: Callable[..., Any], cell: Any, options: tuple[tuple[str, Any], ...]) -> Any:
    """Return outputs and the gradients of all inputs, from inputs and cotangents of outputs."""
    import jax

    def results(inputs: Arrays, cotangents: Arrays) -> tuple[Arrays, Arrays]:
        start = cell(**dict(options)).init_state(len(inputs["x"]))._asdict()

        def run(inputs: Arrays) -> Arrays:
            state = {s: inputs.get(f"state.{s}", start[s]) for s in start}
            params = {n.partition(".")[2]: a for n, a in inputs.items() if n.startswith("params.")}

            def body(state: Arrays, x: Any) -> tuple[Arrays, Any]:
                h, state = step(dict(options), params, state, x)
                return state, h

            last, ys = jax.lax.scan(body, state, inputs["x"].swapaxes(0, 1))
            return {"y": ys.swapaxes(0, 1)} | {f"final.{s}": a for s, a in last.items()}

        outputs, pull = jax.vjp(run, inputs)
        return outputs, pull(cotangents)[0]

    return jax.jit(results)


def port(step: Callable[..., Any], case: Case) -> dict[str, Array]:
    """Return all results of a sequence of such steps."""
    import jax

    given = {n: a for n, a in case.inputs.items() if not is_cotangent(n)}
    outputs = [name for name in case.expected if name == "y" or name.startswith("final.")]
    cotangents = {name: case.inputs[cotangent(name)] for name in outputs}
    with jax.enable_x64(True):
        function = compiled(step, case.subject.specification, tuple(case.options.items()))
        found, gradients = function(given, cotangents)
    results = found | {gradient(name): a for name, a in gradients.items()}
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
