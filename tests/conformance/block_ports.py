"""Forwards of the blocks from the equations alone, with mistakes written by hand.

``wrong`` is the name of a mistake, or "". Nothing of the package is used, so that a known mistake
of the kit is compared with a port of another structure.
"""

from typing import Any

import numpy as np
from scipy.special import erf

from numpy_xlstm.conformance import Case
from numpy_xlstm.numerics import Array, Arrays


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def norm(x: Array, heads: int, eps: float, wrong: str, *, centred: bool, scale: Array) -> Array:
    """Return the norm of each head of the last axis, multiplied by a scale."""
    heads = 1 if wrong == "norm-over-all" else heads
    parts = x.reshape(*x.shape[:-1], heads, -1)
    if centred and wrong != "not-centred":
        parts = parts - parts.mean(-1, keepdims=True)
    square = (parts**2).mean(-1, keepdims=True)
    if wrong == "unbiased":
        square = (parts**2).sum(-1, keepdims=True) / (parts.shape[-1] - 1)
    root = np.sqrt(square) + eps if wrong == "eps-outside" else np.sqrt(square + eps)
    normed: Array = (parts / root).reshape(x.shape) * scale
    return normed


def gates_after(i: Array, f: Array, before: Array, wrong: str) -> tuple[Array, Array, Array]:
    """Return i′, f′ and m after a step."""
    log_f = f if wrong == "exp-forget" else -np.log1p(np.exp(-f))
    log_i = -np.log1p(np.exp(-i)) if wrong == "sigmoid-input" else i
    m = np.maximum(before if wrong == "m-without-forget" else log_f + before, log_i)
    exponents = {
        "stale-m": (log_i - before, log_f),
        "f-without-m": (log_i - m, log_f - m),
        "f-not-stabilised": (log_i - m, log_f),
    }
    of_i, of_f = exponents.get(wrong, (log_i - m, log_f + before - m))
    return np.exp(of_i), np.exp(of_f), m


def memory(
    q: Array, k: Array, v: Array, gates: tuple[Array, Array], state: Any, eps: float, wrong: str
) -> tuple[Array, Arrays]:
    """Run the functional mLSTM, step by step; q, k and v are (B, T, NH·D), and gates (B, T, NH)."""
    (B, T, NH), (i, f) = gates[0].shape, gates
    DK, DV = q.shape[-1] // NH, v.shape[-1] // NH
    root = {
        "no-root": 1.0,
        "root-of-values": DV**0.5,
        "root-of-all": (NH * DK) ** 0.5,
        "no-sqrt": float(DK),
    }.get(wrong, DK**0.5)
    apart = (B, T, NH, -1)
    if wrong == "interleaved":
        q, k, v = (a.reshape(B, T, -1, NH).swapaxes(2, 3) for a in (q, k, v))
    q, k, v = (a.reshape(apart) for a in (q, k, v))
    if wrong == "root-on-queries":
        q, root = q / root, 1.0
    k = k / root
    if state is None:
        state = np.zeros((B, NH, DK, DV)), np.zeros((B, NH, DK)), np.full((B, NH), -np.inf)
    (C, n, m), h = state, np.empty(v.shape)
    for t in range(T):
        before = m
        gate_i, gate_f, m = gates_after(i[:, t], f[:, t], before, wrong)
        n = gate_f[..., None] * n + gate_i[..., None] * k[:, t]
        C = gate_f[..., None, None] * C
        C = C + (gate_i[..., None] * k[:, t])[..., None] * v[:, t][..., None, :]
        qn = (q[:, t] * n).sum(-1)
        floor = np.ones_like(m) if wrong == "floor-1" else np.exp(-m)
        size = qn if wrong == "no-modulus" else np.abs(qn)
        den = np.maximum(size, floor)[..., None] + eps
        h[:, t] = np.einsum("bhkv,bhk->bhv", C, q[:, t]) / den
        m = before if wrong == "m-not-kept" else m
    if wrong == "interleaved":
        h = h.swapaxes(2, 3)
    return h.reshape(B, T, -1), {"C": C, "n": n, "m": m}


def state_of(case: Case, prefix: str) -> list[Array] | None:
    """Return C, n and m of a case; None if it has no state."""
    names = [f"state.{prefix}{name}" for name in "Cnm"]
    return [case.inputs[name] for name in names] if names[0] in case.inputs else None


def large(case: Case, wrong: str) -> Arrays:
    """The block of xLSTM Large."""
    o, x, NH = case.options, case.inputs["x"], case.options["num_heads"]

    def p(name: str) -> Array:
        return case.inputs[f"params.{name}"]

    def linear(a: Array, name: str) -> Array:
        return a @ p(f"{name}.weight").T + p(f"{name}.bias")

    def normed(a: Array, name: str, heads: int, centred: bool, wrong: str) -> Array:
        w, b = p(f"{name}.weight"), p(f"{name}.bias")
        return norm(a, heads, o["norm_eps"], wrong, centred=centred, scale=w) + b

    def capped(a: Array) -> Array:
        cap = o["gate_soft_cap"]
        return a if wrong == "no-cap" else cap * np.tanh(a / cap)

    outer = wrong if wrong in ("eps-outside",) else ""
    u = normed(x, "norm_mlstm", 1, wrong == "centred", outer)
    q, k, v, o_pre = (linear(u, f"mlstm_layer.{n}") for n in ("q", "k", "v", "ogate_preact"))
    gates = (
        capped(linear(u, "mlstm_layer.igate_preact")),
        capped(linear(u, "mlstm_layer.fgate_preact")),
    )
    if wrong == "i-and-f":
        gates = gates[::-1]
    h, final = memory(q, k, v, gates, state_of(case, ""), o["eps"], wrong)
    gate = sigmoid(o_pre)
    if wrong == "gate-before-norm":
        h, gate = gate * h, np.ones_like(gate)
    inner = wrong if wrong in ("norm-over-all", "not-centred", "eps-outside", "unbiased") else ""
    y = linear(
        gate * normed(h, "mlstm_layer.multihead_norm", NH, True, inner), "mlstm_layer.out_proj"
    )
    middle = y if wrong == "no-residual" else x + y
    z = normed(middle, "norm_ffn", 1, wrong == "centred", outer)
    g, up = linear(z, "ffn.proj_up_gate"), linear(z, "ffn.proj_up")
    product = silu(up) * g if wrong == "gate-and-up" else silu(g) * up
    if wrong == "ffn-sigmoid":
        product = sigmoid(g) * up
    down = linear(product, "ffn.proj_down")
    return {"y": middle + down} | {f"final.{n}": a for n, a in final.items()}


def convolved(
    case: Case, a: Array, wrong: str, name: str = "xlstm.conv1d.conv"
) -> tuple[Array, Array]:
    """Return the causal convolution and its last inputs."""
    w, b = (case.inputs[f"params.{name}.{n}"] for n in ("weight", "bias"))
    K, T = w.shape[-1], a.shape[1]
    past = case.inputs.get("state.conv", np.zeros((len(a), K - 1, a.shape[2])))
    padded = np.concatenate([past, a], axis=1)
    taps = w[:, 0, ::-1] if wrong == "reversed" else w[:, 0]
    y = np.stack([padded[:, j : j + T] * taps[:, j] for j in range(K)]).sum(0) + b
    return y, padded[:, T:]


def headwise(a: Array, W: Array, wrong: str) -> Array:
    parts = a.reshape(*a.shape[:-1], len(W), -1)
    axes = "bthi,hij->bthj" if wrong == "headwise-transposed" else "bthi,hji->bthj"
    y: Array = np.einsum(axes, parts, W).reshape(a.shape)
    return y


def mlstm(case: Case, wrong: str) -> Arrays:
    """The mLSTM block of the first paper."""
    o, x, NH = case.options, case.inputs["x"], case.options["num_heads"]

    def p(name: str) -> Array:
        return case.inputs[f"params.{name}"]

    def normed(a: Array, name: str, heads: int, kind: str) -> Array:
        weight = p(f"{name}.weight") + (0 if kind == "factor" else 1)
        return norm(a, heads, o["norm_eps"], kind, centred=True, scale=weight)

    own = ("factor", "not-centred", "eps-outside", "unbiased")
    u = normed(x, "xlstm_norm", 1, wrong if wrong in own else "")
    a, z = np.split(u @ p("xlstm.proj_up.weight").T, 2, axis=-1)
    if wrong == "halves":
        a, z = z, a
    conv, last = convolved(case, a, wrong)
    active = conv if wrong == "no-silu" else silu(conv)
    inputs = {"q": active, "k": active, "v": active if wrong == "v-of-conv" else a}
    q, k, v = (headwise(inputs[n], p(f"xlstm.{n}_proj.weight"), wrong) for n in "qkv")
    seen = np.concatenate([active, active, a] if wrong == "gates-see-u" else [q, k, v], axis=-1)
    i, f = (
        seen @ p(f"xlstm.mlstm_cell.{n}gate.weight").T + p(f"xlstm.mlstm_cell.{n}gate.bias")
        for n in "if"
    )
    h, final = memory(q, k, v, (i, f), state_of(case, "mlstm."), o["mlstm_eps"], wrong)
    skip, before = p("xlstm.learnable_skip") * active, wrong == "skip-before-norm"
    kind = wrong if wrong in (*own, "norm-over-all") else ""
    read = normed(h + skip * before, "xlstm.mlstm_cell.outnorm", NH, kind) + skip * (not before)
    gate = sigmoid(z) if wrong == "gate-sigmoid" else silu(z)
    y = (read * gate) @ p("xlstm.proj_down.weight").T
    return {"y": x + y, "final.conv": last} | {f"final.mlstm.{n}": a for n, a in final.items()}


def slstm(case: Case, wrong: str) -> Arrays:
    """The sLSTM block of the first paper, with its feed-forward layer."""
    o, x, NH = case.options, case.inputs["x"], case.options["num_heads"]
    B, T, D = x.shape

    def p(name: str) -> Array:
        return case.inputs[f"params.{name}"]

    def normed(a: Array, name: str, heads: int, kind: str) -> Array:
        weight = p(f"{name}.weight") + (0 if kind == "factor" else 1)
        return norm(a, heads, o["norm_eps"], kind, centred=True, scale=weight)

    own = ("factor", "not-centred", "eps-outside", "unbiased")
    outer = wrong if wrong in own else ""
    u = normed(x, "xlstm_norm", 1, outer)
    conv, last = convolved(case, u, wrong)
    active = conv if wrong == "no-silu" else silu(conv)
    names = {"i": "igate", "f": "fgate", "z": "zgate", "o": "ogate"}
    if wrong != "fed-as-named":
        names |= {"i": "fgate", "f": "igate"}
    sources = {"i": active, "f": active, "z": u, "o": u}
    if wrong == "all-of-conv":
        sources = dict.fromkeys("ifzo", active)
    pre = {g: headwise(sources[g], p(f"xlstm.{names[g]}.weight"), wrong) for g in "ifzo"}
    order = {"izfo": "izfo", "fizo": "fizo"}.get(wrong, "ifzo")
    b = dict(zip(order, p("xlstm.slstm_cell._bias_").reshape(4, NH, -1), strict=True))
    R = p("xlstm.slstm_cell._recurrent_kernel_").reshape(NH, 4, D // NH, D // NH)
    if wrong == "R-gate-by-gate":
        R = p("xlstm.slstm_cell._recurrent_kernel_").reshape(4, NH, D // NH, D // NH).swapaxes(0, 1)
    state = [np.zeros((B, D)) for _ in "hcn"] + [np.full((B, D), -np.inf)]
    if "state.slstm.h" in case.inputs:
        state = [case.inputs[f"state.slstm.{n}"] for n in "hcnm"]
    (h, c, n, m), out = state, np.empty(x.shape)
    for t in range(T):
        recurrent = np.einsum(
            "hgij,bhj->gbhi" if wrong != "R-transposed" else "hgji,bhj->gbhi",
            R,
            h.reshape(B, NH, -1),
        )
        Rh = dict(zip(order, recurrent, strict=True))
        i, f, z, o_pre = (
            (pre[g][:, t].reshape(B, NH, -1) + Rh[g] + b[g]).reshape(B, D) for g in "ifzo"
        )
        gate_i, gate_f, m = gates_after(i, f, m, wrong)
        c = gate_f * c + gate_i * (z if wrong == "no-tanh" else np.tanh(z))
        n = gate_f * n + gate_i
        h = sigmoid(o_pre) * (c / n)
        out[:, t] = h
    y = normed(out, "xlstm.group_norm", NH, wrong if wrong in (*own, "norm-over-all") else "")
    middle = y if wrong == "no-residual" else x + y
    z = normed(middle, "ffn_norm", 1, outer)
    g, up = np.split(z @ p("ffn.proj_up.weight").T, 2, axis=-1)
    if wrong == "gate-and-up":
        g, up = up, g
    act = g * (1 + erf(g / np.sqrt(2))) / 2
    if wrong == "gelu-tanh":
        act = g * (1 + np.tanh(np.sqrt(2 / np.pi) * (g + 0.044715 * g**3))) / 2
    down = (act * up) @ p("ffn.proj_down.weight").T
    return {"y": middle + down, "final.conv": last} | {
        f"final.slstm.{name}": a for name, a in zip("hcnm", (h, c, n, m), strict=True)
    }


BLOCKS = {"block.xlstm-large": large, "block.mlstm": mlstm, "block.slstm": slstm}
OF_NORMS = {
    "norm-over-all": "norm-over-all-heads",
    "not-centred": "norm-not-centred",
    "unbiased": "norm-variance-unbiased",
    "eps-outside": "norm-eps-outside-the-root",
}
OF_MEMORIES = {
    "exp-forget": "exp-for-sigmoid",
    "stale-m": "stabiliser-before-the-step",
    "f-without-m": "forget-gate-without-m-before",
}
OF_MATRIX_MEMORIES = OF_MEMORIES | {
    "no-root": "scale-missing",
    "root-on-queries": "scale-on-queries",
    "interleaved": "heads-interleaved",
    "sigmoid-input": "input-gate-other-kind",
    "m-without-forget": "stabiliser-without-forget-gate",
    "f-not-stabilised": "stabiliser-in-place",
    "m-not-kept": "stabiliser-not-kept",
    "floor-1": "floor-of-1",
    "no-modulus": "modulus-missing",
}
NAMED = {
    "block.xlstm-large": OF_NORMS
    | OF_MATRIX_MEMORIES
    | {
        "root-of-values": "scale-of-another-width",
        "root-of-all": "scale-of-another-width",
        "no-sqrt": "scale-of-another-width",
        "centred": "norm-centred",
        "no-cap": "gate_soft_cap-always-None",
        "gate-before-norm": "norm-after-output-gate",
        "no-residual": "residual-missing",
        "gate-and-up": "feed-forward-halves-swapped",
        "ffn-sigmoid": "feed-forward-gate-sigmoid",
    },
    "block.mlstm": OF_NORMS
    | OF_MATRIX_MEMORIES
    | {
        "halves": "up-projection-halves-swapped",
        "no-silu": "convolution-without-silu",
        "headwise-transposed": "headwise-blocks-transposed",
        "v-of-conv": "values-from-convolution",
        "gates-see-u": "gates-before-projections",
        "skip-before-norm": "skip-before-norm",
        "gate-sigmoid": "gate-of-second-half-sigmoid",
        "reversed": "kernel-reversed",
        "factor": "norm-weight-read-as-factor",
    },
    "block.slstm": OF_NORMS
    | OF_MEMORIES
    | {
        "no-silu": "convolution-without-silu-in-slstm",
        "headwise-transposed": "headwise-blocks-transposed",
        "fed-as-named": "gates-fed-as-named",
        "all-of-conv": "gates-from-inner",
        "no-tanh": "tanh-missing",
        "gate-and-up": "feed-forward-halves-swapped",
        "gelu-tanh": "gelu-by-tanh",
        "fizo": "gates-in-order-fizo",
    },
}
"""For each block the mistakes written here, and the names that the kit has for them."""


def port(case: Case, wrong: str = "") -> Arrays:
    """Return the results of a forward, computed in float64, in the dtype of a case."""
    with np.errstate(all="ignore"):
        results = BLOCKS[case.subject.name](case, wrong)
    return {name: array.astype(case.dtype) for name, array in results.items()}
