"""The unstabilised equations of the papers in 50 digits, independent of the package.

The code uses scalars and loops, and one row of a batch at a time. Exponential gates need no
stabiliser, because mpmath has no largest number.
"""

from collections.abc import Callable
from typing import Any

from mpmath import exp, fabs, matrix, mp, mpf, sqrt, tanh

mp.dps = 50
Vector = list[Any]


def sigma(x: Any) -> Any:
    return 1 / (1 + exp(-x))


GATE: dict[str, Callable[[Any], Any]] = {"sigmoid": sigma, "exp": exp}


def exactly(array: Any) -> Any:
    """Convert a NumPy array to nested lists of mpf, each equal to the float."""
    return [exactly(part) for part in array] if getattr(array, "ndim", 0) else mpf(float(array))


def affine(W: Any, x: Vector, b: Any) -> Vector:
    return [
        sum((w * v for w, v in zip(row, x, strict=True)), bias)
        for row, bias in zip(W, b, strict=True)
    ]


def recurrent(W: Any, R: Any, b: Any, x: Vector, h: Vector, NH: int) -> list[Vector]:
    """Return the pre-activations of i, f, z, o; R is (NH, 4·DH, DH)."""
    H = len(h)
    DH = H // NH
    flat = affine(W, x, b)
    for gate in range(4):
        for unit in range(H):
            head, row = divmod(unit, DH)
            weights = R[head][gate * DH + row]
            flat[gate * H + unit] += sum(w * h[head * DH + j] for j, w in enumerate(weights))
    return [flat[g * H : (g + 1) * H] for g in range(4)]


def lstm(params: dict[str, Any], xs: list[Vector], h: Vector, c: Vector) -> list[Vector]:
    """Compute Eqs 28–33 of paper 1."""
    outputs = []
    W, R, b = (exactly(params[name]) for name in "WRb")
    for x in xs:
        i, f, z, o = recurrent(W, [R], b, x, h, 1)
        c = [sigma(f[j]) * c[j] + sigma(i[j]) * tanh(z[j]) for j in range(len(c))]
        h = [sigma(o[j]) * tanh(c[j]) for j in range(len(c))]
        outputs.append(h)
    return outputs


def slstm(
    params: dict[str, Any], xs: list[Vector], h: Vector, c: Vector, n: Vector, NH: int, forget: str
) -> tuple[list[Vector], Vector, Vector]:
    """Compute Eqs 34–40 of paper 1, without Eqs 15–17."""
    outputs = []
    W, R, b = (exactly(params[name]) for name in "WRb")
    for x in xs:
        i, f, z, o = recurrent(W, R, b, x, h, NH)
        units = range(len(c))
        c = [GATE[forget](f[j]) * c[j] + exp(i[j]) * tanh(z[j]) for j in units]
        n = [GATE[forget](f[j]) * n[j] + exp(i[j]) for j in units]
        h = [sigma(o[j]) * c[j] / n[j] for j in units]
        outputs.append(h)
    return outputs, c, n


def mlstm(
    params: dict[str, Any], xs: list[Vector], C: Any, n: Any, options: Any, NH: int
) -> tuple[list[Vector], Any, Any]:
    """Compute Eqs 19–27 of paper 1 for each head, with C keys × values and k = W_k x/√DK + b_k.

    ``C`` and ``n`` are one matrix and one vector per head. eps must be 0.
    """
    p = {name: exactly(array) for name, array in params.items()}
    zero = {name: [mpf(0)] * len(p[f"b_{name}"]) for name in "qkvifo"}
    outputs = []
    DK, DV = len(p["W_q"]) // NH, len(p["W_v"]) // NH
    for x in xs:
        q, v, i, f, o = (affine(p[f"W_{g}"], x, p[f"b_{g}"]) for g in "qvifo")
        k = [
            w / sqrt(mpf(DK)) + bias
            for w, bias in zip(affine(p["W_k"], x, zero["k"]), p["b_k"], strict=True)
        ]
        h = []
        for head in range(NH):
            keys = range(head * DK, (head + 1) * DK)
            values = range(head * DV, (head + 1) * DV)
            gate_i = GATE[options.input_gate](i[head])
            gate_f = GATE[options.forget_gate](f[head])
            C[head] = gate_f * C[head] + gate_i * matrix(
                [[k[a] * v[b] for b in values] for a in keys]
            )
            n[head] = [gate_f * n[head][a] + gate_i * k[keys[a]] for a in range(DK)]
            dot = sum(q[keys[a]] * n[head][a] for a in range(DK))
            den = max(fabs(dot), mpf(1)) if options.input_gate == "exp" else mpf(1)
            for b in range(DV):
                read = sum(q[keys[a]] * C[head][a, b] for a in range(DK))
                h.append(sigma(o[head * DV + b]) * read / den)
        outputs.append(h)
    return outputs, C, n
