"""Errors of float32 gradients, relative to the smaller error of PyTorch's and JAX's autograd.

``python -m benchmarks.float32_gradients --cases 500`` prints the table of
``docs/derivations/numerics.md``. It needs PyTorch and JAX.

A case is a sequence of up to 200 steps with an initial state, cotangents of the outputs and of the
final state, and pre-activations of up to ±40, some with spikes. The error of a tensor is relative
to its largest entry; the reference is PyTorch in float64. The error of an implementation is the
largest over the tensors of the case. Because the sum of roundings is random, the error of a case is
the root mean square over ``NEIGHBOURS`` inputs that differ by 1e-4. Errors below ``FLOOR`` are
replaced by it.
"""

import argparse
from collections.abc import Callable, Iterator
from copy import copy
from functools import cache
from typing import Any

import numpy as np

from numpy_xlstm import (
    mlstm_chunkwise,
    mlstm_chunkwise_backward,
    mlstm_parallel,
    mlstm_parallel_backward,
    mlstm_recurrent,
    mlstm_recurrent_backward,
    mLSTMState,
    slstm_recurrent,
    slstm_recurrent_backward,
    sLSTMCell,
    sLSTMState,
)
from numpy_xlstm.cells import mlstm as mlstm_cell
from numpy_xlstm.cells.unroll import unroll, unroll_backward
from numpy_xlstm.numerics import Array

EPS = 1e-6
FLOOR = 2.0**-21
"""Four units of float32, the size of the roundings of single operations."""

NEIGHBOURS = 12

SHAPES = ((2, 2, 1), (2, 2, 7), (1, 2, 33), (1, 1, 200))
"""Sizes of batch, heads and steps."""

WIDTH = 4
"""Sizes of a head: DK and DV of mLSTM, DH of sLSTM."""

Tensors = list[Array]


class Case:
    """Inputs, initial state, cotangents and kinds of the gates."""

    def __init__(self, kind: str, rng: np.random.Generator) -> None:
        self.kind, self.forget_gate = kind, str(rng.choice(["sigmoid", "exp"]))
        self.input_gate = "exp"
        B, NH, T = SHAPES[rng.integers(len(SHAPES))]
        self.i, self.f = (self.gate(rng, (B, NH, T)) for _ in "if")
        draw = rng.standard_normal
        if kind == "mlstm":
            self.inputs = [*draw((3, B, NH, T, WIDTH)), self.i, self.f]
            C, n, m = draw((B, NH, WIDTH, WIDTH)), draw((B, NH, WIDTH)), 10 * draw((B, NH))
            self.state = [C, n, m]
            outputs = [(B, NH, T, WIDTH), *(a.shape for a in self.state)]
        else:
            H = NH * WIDTH
            i, f = (self.gate(rng, (B, T, H)) for _ in "if")
            Wx = np.concatenate([i, f, draw((B, T, 2 * H))], axis=-1)
            self.inputs = [Wx, draw((NH, 4 * WIDTH, WIDTH)) / 4]
            c, n = draw((B, H)), rng.uniform(0.1, 2, (B, H))
            self.state = [np.tanh(draw((B, H))), c * n, n, 10 * draw((B, H))]
            outputs = [(B, T, H), *(a.shape for a in self.state)]
        self.cotangents = [draw(shape) * (rng.random() < 0.7) for shape in outputs]
        if not any(d.any() for d in self.cotangents):
            self.cotangents[0] = draw(outputs[0])

    def neighbour(self, rng: np.random.Generator) -> "Case":
        """Return the case with inputs that differ by 1e-4; all numbers are float32."""
        other = copy(self)
        other.inputs = [a * (1 + 1e-4 * rng.standard_normal(a.shape)) for a in self.inputs]
        for name in ("inputs", "state", "cotangents"):
            rounded = [a.astype(np.float32).astype(float) for a in getattr(other, name)]
            setattr(other, name, rounded)
        return other

    @staticmethod
    def gate(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Draw pre-activations of a size of 0.3 to 40, in half of the cases with spikes."""
        x: Array = np.clip(rng.standard_normal(shape) * 40 ** rng.uniform(-0.3, 0.8), -40, 40)
        if rng.random() < 0.5:
            spikes = rng.random(shape) < 3 / shape[-1 if shape[-1] != 2 * WIDTH else 1]
            x = np.where(spikes, rng.uniform(-40, 40, shape), x)
        return x

    def arrays(self, dtype: Any) -> tuple[Tensors, Tensors, Tensors]:
        """Return inputs, state and cotangents in a dtype."""
        groups = self.inputs, self.state, self.cotangents
        inputs, state, cotangents = ([a.astype(dtype) for a in group] for group in groups)
        return inputs, state, cotangents


def slstm_step(xp: Any, pre: Any, state: Any, exp_gate: bool) -> Any:
    """Compute a step of the sLSTM by the paper's equations, in any framework."""
    _, c, n, m = state
    i_pre, f_pre, z_pre, o_pre = pre
    A = (f_pre if exp_gate else xp.log_sigmoid(f_pre)) + m
    m = xp.maximum(A, i_pre)
    i, f = xp.exp(i_pre - m), xp.exp(A - m)
    c, n = f * c + i * xp.tanh(z_pre), f * n + i
    return xp.sigmoid(o_pre) * (c / n), c, n, m


def slstm_inputs(Wx: Any, R: Any, t: int, h: Any) -> Any:
    NH = R.shape[0]
    B, H = h.shape
    heads = h.reshape(B, NH, WIDTH)
    Rh = (R[None] @ heads[..., None])[..., 0].reshape(B, NH, 4, WIDTH)
    pre = Wx[:, t].reshape(B, 4, H)
    return [pre[:, g] + Rh[:, :, g].reshape(B, H) for g in range(4)]


def mlstm_step(xp: Any, x: Any, state: Any, exp_gate: bool) -> Any:
    """Compute a step of the mLSTM by the paper's equations, in any framework."""
    q, k, v, i_pre, f_pre = x
    C, n, m = state
    A = (f_pre if exp_gate else xp.log_sigmoid(f_pre)) + m
    m = xp.maximum(A, i_pre)
    i, f = xp.exp(i_pre - m)[..., None], xp.exp(A - m)[..., None]
    k = k / WIDTH**0.5
    C = f[..., None] * C + i[..., None] * k[..., None] * v[..., None, :]
    n = f * n + i * k
    den = xp.maximum(abs((q * n).sum(-1)), xp.exp(-m)) + EPS
    return (C * q[..., None]).sum(-2) / den[..., None], C, n, m


def run(xp: Any, kind: str, exp_gate: bool, inputs: Any, state: Any) -> Any:
    """Return the outputs of all steps and the final state."""
    outputs, state = [], list(state)
    axis = 1 if kind == "slstm" else 2
    for t in range(inputs[0].shape[axis]):
        if kind == "slstm":
            state = list(
                slstm_step(xp, slstm_inputs(inputs[0], inputs[1], t, state[0]), state, exp_gate)
            )
            outputs.append(state[0])
        else:
            y, *state = mlstm_step(xp, [a[:, :, t] for a in inputs], state, exp_gate)
            outputs.append(y)
    return [xp.stack(outputs, axis), *state]


def of_torch(case: Case, dtype: Any) -> Tensors:
    """Return gradients by PyTorch's autograd."""
    import torch

    class Namespace:
        exp, tanh, sigmoid = torch.exp, torch.tanh, torch.sigmoid
        maximum, stack = torch.maximum, torch.stack
        log_sigmoid = torch.nn.functional.logsigmoid

    inputs, state, cotangents = ([torch.tensor(a) for a in group] for group in case.arrays(dtype))
    leaves = [a.requires_grad_() for a in [*inputs, *state]]
    outputs = run(Namespace, case.kind, case.forget_gate == "exp", inputs, state)
    grads = torch.autograd.grad(outputs, leaves, cotangents)
    return [g.numpy() for g in grads]


@cache
def jax_backward(kind: str, exp_gate: bool) -> Any:
    """Compile the vector-Jacobian product with JAX, with a loop that is traced once."""
    import jax
    from jax import numpy as jnp

    class Namespace:
        exp, tanh, sigmoid = jnp.exp, jnp.tanh, jax.nn.sigmoid
        maximum, stack = jnp.maximum, jnp.stack
        log_sigmoid = jax.nn.log_sigmoid

    def forward(inputs: Any, state: Any) -> Any:
        def slstm(state: Any, Wx: Any) -> Any:
            pre = slstm_inputs(Wx[:, None], inputs[1], 0, state[0])
            state = tuple(slstm_step(Namespace, pre, state, exp_gate))
            return state, state[0]

        def mlstm(state: Any, x: Any) -> Any:
            y, *state = mlstm_step(Namespace, x, state, exp_gate)
            return tuple(state), y

        if kind == "slstm":
            after, ys = jax.lax.scan(slstm, tuple(state), inputs[0].swapaxes(0, 1))
            return [ys.swapaxes(0, 1), *after]
        steps = tuple(jnp.moveaxis(a, 2, 0) for a in inputs)
        after, ys = jax.lax.scan(mlstm, tuple(state), steps)
        return [jnp.moveaxis(ys, 0, 2), *after]

    def backward(inputs: Any, state: Any, cotangents: Any) -> Any:
        return jax.vjp(forward, inputs, state)[1](cotangents)

    return jax.jit(backward)


def of_jax(case: Case, dtype: Any) -> Tensors:
    """Return gradients by JAX's autograd."""
    backward = jax_backward(case.kind, case.forget_gate == "exp")
    inputs, state = backward(*case.arrays(dtype))
    return [np.asarray(a) for a in [*inputs, *state]]


def of_kernel(forward: Any, backward: Any, state_type: Any, **options: Any) -> Any:
    """Return gradients by a kernel of this package."""

    def gradients(case: Case, dtype: Any) -> Tensors:
        inputs, state, (dy, *dstate) = case.arrays(dtype)
        gates = {"forget_gate": case.forget_gate}
        _, _, kept = forward(*inputs, state_type(*state), **gates, **options)
        *grads, dstate0 = backward(dy, kept, state_type(*dstate))
        return [*grads, *dstate0]

    return gradients


def of_slstm_cell(case: Case, dtype: Any) -> Tensors:
    """Return gradients by the unrolled sLSTMCell, whose W is the identity."""
    (Wx, R), state, (dy, *dstate) = case.arrays(dtype)
    cell = sLSTMCell(
        Wx.shape[-1], Wx.shape[-1] // 4, num_heads=len(R), forget_gate=case.forget_gate, dtype=dtype
    ).with_params({"W": np.eye(Wx.shape[-1], dtype=dtype), "R": R, "b": np.zeros_like(Wx[0, 0])})
    _, _, kept = unroll(cell, Wx, sLSTMState(*state))
    dWx, dstate0, grads = unroll_backward(dy, kept, sLSTMState(*dstate))
    return [dWx, grads["R"], *dstate0]


def of_mlstm_cell(case: Case, dtype: Any) -> Tensors:
    """Return gradients by the unrolled mLSTMCell, whose matrices select q, k, v, ĩ and f̃ from x.

    õ is 40, so that o is 1.
    """
    inputs, state, (dy, *dstate) = case.arrays(dtype)
    B, NH, T, _ = inputs[0].shape
    rows = [np.moveaxis(a, 2, 1).reshape(B, T, -1) for a in inputs]
    x, places = np.concatenate(rows, axis=-1), np.cumsum([0, *(a.shape[-1] for a in rows)])
    cell = mlstm_cell.mLSTMCell(
        x.shape[-1], NH * WIDTH, num_heads=NH, forget_gate=case.forget_gate, eps=EPS, dtype=dtype
    )
    params = {name: np.zeros_like(array) for name, array in cell.params.items()}
    for g, start, stop in zip("qkvif", places[:-1], places[1:], strict=True):
        params[f"W_{g}"][:, start:stop] = np.eye(stop - start)
    params["b_o"][...] = 40
    cell = cell.with_params(params)
    _, _, kept = unroll(cell, x, mLSTMState(*state))
    dy = np.moveaxis(dy, 2, 1).reshape(B, T, -1)
    dx, dstate0, _ = unroll_backward(dy, kept, mLSTMState(*dstate))
    parts = np.split(dx, places[1:-1], axis=-1)
    shaped = [
        np.moveaxis(part.reshape(B, T, NH, *a.shape[3:]), 1, 2)
        for part, a in zip(parts, inputs, strict=True)
    ]
    return [*shaped, *dstate0]


MLSTM: dict[str, Any] = {
    "mLSTM, recurrent": (mlstm_recurrent, mlstm_recurrent_backward, {}),
    "mLSTM, chunkwise": (mlstm_chunkwise, mlstm_chunkwise_backward, {"chunk_size": 16}),
    "mLSTM, parallel": (mlstm_parallel, mlstm_parallel_backward, {}),
}

OURS: dict[str, dict[str, Callable[[Case, Any], Tensors]]] = {
    "slstm": {
        "sLSTM cell": of_slstm_cell,
        "sLSTM kernel": of_kernel(slstm_recurrent, slstm_recurrent_backward, sLSTMState),
    },
    "mlstm": {"mLSTM cell": of_mlstm_cell}
    | {
        name: of_kernel(forward, backward, mLSTMState, eps=EPS, **options)
        for name, (forward, backward, options) in MLSTM.items()
    },
}


def error(found: Tensors, exact: Tensors) -> float:
    """Return the largest error over the tensors, relative to the largest entry of each."""
    errors = [
        np.abs(a - b).max() / np.abs(b).max()
        for a, b in zip(found, exact, strict=True)
        if np.abs(b).max() > 1e-30
    ]
    return max(errors, default=0.0)


def errors(kind: str, cases: int, seed: int) -> Iterator[dict[str, float]]:
    """Yield, for each case, the error of every implementation."""
    contenders = {"torch": of_torch, "jax": of_jax, **OURS[kind]}
    for n in range(cases):
        rng = np.random.default_rng([seed, n])
        case = Case(kind, rng)
        squares = dict.fromkeys(contenders, 0.0)
        for _ in range(NEIGHBOURS):
            near = case.neighbour(rng)
            exact = of_torch(near, np.float64)
            for name, of in contenders.items():
                squares[name] += error(of(near, np.float32), exact) ** 2
        yield {name: (total / NEIGHBOURS) ** 0.5 for name, total in squares.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print("| | median | 90 % | 99 % | worst |\n|---|---|---|---|---|")
    for kind, ours in OURS.items():
        found = list(errors(kind, args.cases, args.seed))
        theirs = np.array([max(FLOOR, min(e["torch"], e["jax"])) for e in found])
        for name in ("torch", "jax", *ours):
            ratios = np.array([max(FLOOR, e[name]) for e in found]) / theirs
            numbers = " | ".join(f"{np.quantile(ratios, q):.2f}" for q in (0.5, 0.9, 0.99, 1))
            print(f"| {name} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
