"""The cells over up to 200 steps against 50 digits, with an error bound for each case.

Sizes, lengths and magnitudes are random. Exponents are up to ±1e4; near ties of the maximum,
queries at the kink of the denominator and almost vanishing weights are frequent. The bound is a
first-order running error analysis, as in "What a float stabiliser costs" in
``docs/derivations/stabiliser.md``: each number is rounded once, and the equations
propagate the errors. The accepted error is SAFETY times the bound.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from mpmath import exp, log, mpf, tanh

from numpy_xlstm import LSTMCell, SequenceLayer, mLSTM, sLSTM
from numpy_xlstm.numerics import Array
from tests.cells.custom_cells import exactly, sigma

U = 2.0**-53
SAFETY = 4.0
ORDINARY = 1e-13
"""Bound of the error relative to the largest output, for ordinary gates."""
STEPS = (1, 2, 3, 7, 20, 64, 65, 130, 200)
KINDS = ("ordinary", "large", "tie", "kink", "empty")
CASES = 70
"""How many cases there are in a trial."""
GROUPS = [*range(3), *(pytest.param(n, marks=pytest.mark.long) for n in range(3, 6))]


@dataclass
class Case:
    """A layer of one batch row, its input and the state before it."""

    layer: Any
    x: Array
    state: Any
    kind: str


def build(seed: int) -> Case:
    """Draw a random case, in which every cell, gate and kind is frequent.

    With an exponential forget gate and a sigmoid input gate nothing bounds C: the numbers are then
    ordinary, and the steps few.
    """
    rng = np.random.default_rng(seed)
    T, D, NH, DH = int(rng.choice(STEPS)), int(rng.integers(1, 4)), 1 + seed % 2, 2
    kind, which = KINDS[seed // 7 % len(KINDS)], seed % 7
    if which == 5:
        kind, T = "ordinary", min(T, 65)
    forget = ("sigmoid", "exp")[which % 2]
    layer: Any
    if which == 0:
        layer = SequenceLayer(LSTMCell(D, NH * DH, rng=rng))
    elif which <= 2:
        layer = sLSTM(D, NH * DH, num_heads=NH, forget_gate=forget, rng=rng)
    else:
        gate = "exp" if which <= 4 else "sigmoid"
        layer = mLSTM(
            D, NH * DH, num_heads=NH, forget_gate=forget, input_gate=gate, eps=0.0, rng=rng
        )
    for array in layer.params.values():
        array[...] = rng.standard_normal(array.shape)
    for name, rows in gate_rows(layer):
        place_gates(layer.params[name], rows, kind, rng)
    if "R" in layer.params:
        layer.params["R"][...] *= 0.3
    x = rng.standard_normal((1, T, D))
    state = None if kind == "empty" else random_state(layer, rng)
    if kind == "kink" and which > 2:
        at_the_kink(layer)
    return Case(layer, x, state, kind)


def gate_rows(layer: Any) -> list[tuple[str, slice]]:
    """Return the slices of the rows of the input and the forget gate."""
    if isinstance(layer, mLSTM):
        return [(f"{kind}_{gate}", slice(None)) for gate in "if" for kind in "Wb"]
    H = layer.hidden_size
    return [(name, slice(0, 2 * H)) for name in "Wb"]


def place_gates(array: Array, rows: slice, kind: str, rng: np.random.Generator) -> None:
    """Make the pre-activations of i and f large or nearly tied, unless the kind is ordinary."""
    part = array[rows]
    if kind == "large":
        part *= 10 ** rng.uniform(0, 4)
    elif kind == "tie":
        part[...] = rng.choice([0.0, 40.0, 1e-17, 700.0]) if part.ndim == 1 else 0


def at_the_kink(layer: Any) -> None:
    """Make q·k = 1 and ĩ = 0, so that |q·n| is about e^−m at the first step of an empty memory."""
    for name in ("W_q", "W_k", "W_i", "b_q", "b_k", "b_i"):
        layer.params[name][...] = 0
    layer.params["b_q"][::2], layer.params["b_k"][::2] = 3.0, 1 / 3


def random_state(layer: Any, rng: np.random.Generator) -> Any:
    empty = layer.init_state(1)
    parts = {
        name: None if a is None else rng.standard_normal(a.shape)
        for name, a in zip(empty._fields, empty, strict=True)
    }
    state = type(empty)(**parts)
    return state._replace(n=np.abs(state.n) + 0.1) if isinstance(layer, sLSTM) else state


def affine(W: Any, x: Any, b: Any) -> tuple[list[Any], list[float]]:
    """Return the exact W x + b, and the bound of its rounding error."""
    pairs = [
        (sum((w * v for w, v in zip(row, x, strict=True)), c),
         float(sum((abs(w * v) for w, v in zip(row, x, strict=True)), abs(c))))
        for row, c in zip(W, b, strict=True)
    ]  # fmt: skip
    return [p for p, _ in pairs], [(len(x) + 2) * U * size for _, size in pairs]


def half_ulp(a: Any) -> float:
    return float(np.spacing(abs(float(a)))) / 2


def log_gate(pre: Any, kind: str) -> Any:
    return pre if kind == "exp" else -log(1 + exp(-pre))


def check_lstm(case: Case, y: Array) -> list[Any]:
    """Compute Eqs 28–33 of the paper with error bounds; return the exact outputs."""
    outputs = []
    W, R, b = (exactly(case.layer.params[name]) for name in "WRb")
    H = case.layer.hidden_size
    h, c = (
        ([mpf(0)] * H, [mpf(0)] * H)
        if case.state is None
        else map(exactly, (s[0] for s in case.state))
    )
    h, c, dh, dc = list(h), list(c), [0.0] * H, [0.0] * H
    for t, x in enumerate(exactly(case.x[0])):
        pre, dpre = affine([w + r for w, r in zip(W, R, strict=True)], x + h, b)
        dpre = [
            d + sum(float(abs(r)) * e for r, e in zip(row, dh, strict=True))
            for d, row in zip(dpre, R, strict=True)
        ]
        for j in range(H):
            i, f, z, o = (
                sigma(pre[j]),
                sigma(pre[H + j]),
                tanh(pre[2 * H + j]),
                sigma(pre[3 * H + j]),
            )
            di, df, dz, do = (
                slope * dpre[g * H + j] + 2 * U for g, slope in enumerate((0.25, 0.25, 1, 0.25))
            )
            before, c[j] = c[j], f * c[j] + i * z
            dc[j] = float(f) * dc[j] + float(abs(before)) * df + float(i) * dz + float(abs(z)) * di
            dc[j] += 3 * U * float(abs(f * before) + abs(i * z))
            dc_h = float(1 - tanh(c[j]) ** 2) * dc[j]
            h[j] = o * tanh(c[j])
            dh[j] = float(o) * dc_h + do * float(abs(tanh(c[j]))) + 3 * U * float(abs(h[j]))
            assert abs(mpf(float(y[0, t, j])) - h[j]) <= SAFETY * dh[j] + 1e-300, (t, j)
        outputs += h
    return outputs


def check_slstm(case: Case, y: Array, after: Any) -> list[Any]:
    """Compute Eqs 34–40 without a stabiliser; c/n is an average of weights with relative errors."""
    outputs: list[Any] = []
    layer, (W, b) = case.layer, (exactly(case.layer.params[name]) for name in "Wb")
    H, NH = layer.hidden_size, layer.num_heads
    DH, R = H // NH, exactly(layer.params["R"])
    h, c, n, m = ([mpf(0)] * H for _ in range(4))
    if case.state is not None:
        h, c, n, m = (exactly(part[0]) for part in case.state)
        c, n = ([a * exp(s) for a, s in zip(part, m, strict=True)] for part in (c, n))
    m = [s if n_j else -mpf("inf") for s, n_j in zip(m, n, strict=True)]
    dh, drho, dlog_n = [0.0] * H, [0.0] * H, [0.0] * H
    for t, x in enumerate(exactly(case.x[0])):
        pre, dpre = affine(W, x, b)
        for g in range(4):
            for j in range(H):
                head, row = divmod(j, DH)
                weights, places = R[head][g * DH + row], range(head * DH, (head + 1) * DH)
                pre[g * H + j] += sum(w * h[p] for w, p in zip(weights, places, strict=True))
                dpre[g * H + j] += sum(
                    float(abs(w)) * (dh[p] + 4 * U * float(abs(h[p])))
                    for w, p in zip(weights, places, strict=True)
                )
        new_h = list(h)
        for j in range(H):
            i_pre, f_pre, z_pre, o_pre = (pre[g * H + j] for g in range(4))
            ell, z, o = log_gate(f_pre, layer.forget_gate), tanh(z_pre), sigma(o_pre)
            past, now = exp(ell) * n[j], exp(i_pre)
            p = float(past / (past + now))
            A = ell + m[j]
            eta = dpre[H + j] + dpre[j] + 2 * U * float(abs(ell)) + (half_ulp(A) if n[j] else 0)
            eta += U * float(abs(i_pre - A)) * min(p, 1 - p) if n[j] else 0
            rho = c[j] / n[j] if n[j] else mpf(0)
            drho[j] = p * drho[j] + (1 - p) * (dpre[2 * H + j] + 2 * U) + 4 * U
            drho[j] += p * (1 - p) * float(abs(rho - z)) * (dlog_n[j] + eta)
            dlog_n[j] = p * (dlog_n[j] + eta) + (1 - p) * (dpre[j]) + 3 * U
            c[j], n[j] = exp(ell) * c[j] + now * z, past + now
            m[j] = max(A, i_pre)
            new_h[j] = o * c[j] / n[j]
            dh[j] = float(o) * drho[j] + (0.25 * dpre[3 * H + j] + 4 * U) * float(abs(c[j] / n[j]))
            assert abs(mpf(float(y[0, t, j])) - new_h[j]) <= SAFETY * dh[j], (t, j)
        h = new_h
        outputs += h
    for j in range(H):
        found = log(mpf(float(after.n[0, j]))) + mpf(float(after.m[0, j]))
        assert abs(found - log(n[j])) <= SAFETY * (dlog_n[j] + half_ulp(m[j])), j
    return outputs


class Memory:
    """The memory of one mLSTM head without a stabiliser; absolute sums give the conditioning.

    Every weight in C and n has the relative error E. A number that is read or written is a pair of
    the exact number and the bound of its error.
    """

    def __init__(self, layer: Any, C: Any, n: Any, m: Any) -> None:
        self.layer, self.exponential = layer, layer.input_gate == "exp"
        self.m = m if self.exponential else -mpf("inf")
        scale = exp(m) if self.exponential else mpf(1)
        self.C = [[a * scale for a in row] for row in C]
        self.n = [a * scale for a in n] if self.exponential else [mpf(0)] * len(C)
        self.Cabs = [[abs(a) for a in row] for row in self.C]
        self.nabs = [abs(a) for a in self.n]
        self.E = 0.0

    def gates(self, i: Any, f: Any) -> tuple[Any, Any]:
        """Return the exact gates; update E by their errors, and the largest exponent m."""
        (i, di), (f, df) = i, f
        log_i, ell = log_gate(i, self.layer.input_gate), log_gate(f, self.layer.forget_gate)
        A = ell + self.m if self.exponential else ell
        filled = self.m != -mpf("inf")
        self.E += di + df + 2 * U * float(abs(ell)) + 6 * U
        self.E += half_ulp(A) if filled else 0
        self.E += 0 if self.exponential else 2 * U * float(abs(log_i))
        self.E += U * min(float(abs(A - log_i)), 40.0) if filled or not self.exponential else 0
        self.m = max(A, log_i) if self.exponential else self.m
        return exp(log_i), exp(ell)

    def write(self, k: Any, v: Any, i: Any, f: Any) -> None:
        """Compute Eqs 19 and 20."""
        w_i, w_f = self.gates(i, f)
        for r, (k_r, dk_r) in enumerate(zip(*k, strict=True)):
            size = w_i * (abs(k_r) + 4 * dk_r / max(self.E, U))
            for s, (v_s, dv_s) in enumerate(zip(*v, strict=True)):
                self.C[r][s] = w_f * self.C[r][s] + w_i * k_r * v_s
                grown = size * (abs(v_s) + 4 * dv_s / max(self.E, U))
                self.Cabs[r][s] = w_f * self.Cabs[r][s] + grown
            self.n[r] = w_f * self.n[r] + w_i * k_r
            self.nabs[r] = w_f * self.nabs[r] + size

    def read(self, q: Any) -> list[tuple[Any, Any]]:
        """Compute Eq. 21, without the output gate."""
        sizes = [abs(b) + d / max(self.E, U) for b, d in zip(*q, strict=True)]
        den, dden = mpf(1), mpf(0)
        if self.exponential:
            den = max(abs(dot(q[0], self.n)), mpf(1))
            dden = self.E * (dot(sizes, self.nabs) + 1)
        columns = zip(zip(*self.C, strict=True), zip(*self.Cabs, strict=True), strict=True)
        found = [(dot(q[0], column), self.E * dot(sizes, size)) for column, size in columns]
        return [(num / den, dnum / den + abs(num) / den * dden / den) for num, dnum in found]


def dot(a: Any, b: Any) -> Any:
    return sum(x * y for x, y in zip(a, b, strict=True))


def check_mlstm(case: Case, y: Array, after: Any) -> list[Any]:
    """Compute Eqs 19–27 for each head."""
    outputs = []
    layer, p = case.layer, {name: exactly(array) for name, array in case.layer.params.items()}
    NH = layer.num_heads
    DK, DV = layer.qk_dim // NH, layer.hidden_size // NH
    state = layer.init_state(1) if case.state is None else case.state
    memories = [
        Memory(layer, *(part if part is None else exactly(part[0, a]) for part in state))
        for a in range(NH)
    ]
    tiny = mpf("1e-290")
    p["W_k"] = [[w / mpf(DK) ** mpf("0.5") for w in row] for row in p["W_k"]]
    for t, x in enumerate(exactly(case.x[0])):
        q, k, v, i, f, o = (affine(p[f"W_{g}"], x, p[f"b_{g}"]) for g in "qkvifo")
        for a, memory in enumerate(memories):
            keys, values = slice(a * DK, (a + 1) * DK), slice(a * DV, (a + 1) * DV)
            memory.write(rows(k, keys), rows(v, values), rows(i, a), rows(f, a))
            for where, (h, dh) in enumerate(memory.read(rows(q, keys)), a * DV):
                gate = sigma(o[0][where])
                bound = gate * dh + (0.25 * o[1][where] + 4 * U) * abs(h)
                error = abs(mpf(float(y[0, t, where])) - gate * h)
                assert error <= SAFETY * bound + tiny, (t, where)
                outputs.append(gate * h)
    for a, memory in enumerate(memories):
        shift = exp(mpf(float(after.m[0, a]))) if memory.exponential else mpf(1)
        for r, s in np.ndindex(DK, DV):
            error = abs(mpf(float(after.C[0, a, r, s])) * shift - memory.C[r][s])
            assert error <= SAFETY * memory.E * memory.Cabs[r][s] + tiny * shift
    return outputs


def rows(pair: Any, part: Any) -> Any:
    return pair[0][part], pair[1][part]


@pytest.mark.parametrize("group", GROUPS)
def test_random_cases(group: int, trials: int) -> None:
    for seed in range(group, CASES * trials, len(GROUPS)):
        case = build(seed)
        y, after, _ = case.layer.forward(case.x, case.state)
        try:
            if isinstance(case.layer, mLSTM):
                exact = check_mlstm(case, y, after)
            elif isinstance(case.layer, sLSTM):
                exact = check_slstm(case, y, after)
            else:
                exact = check_lstm(case, y)
            if case.kind == "ordinary":
                errors = [abs(mpf(a) - b) for a, b in zip(y.ravel().tolist(), exact, strict=True)]
                assert max(errors) <= ORDINARY * max(map(abs, exact))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
