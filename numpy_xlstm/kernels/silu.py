"""SiLU, x σ(x), and the gate of an mLSTM layer, (ĥ + skip ∘ a) ∘ SiLU(z), each in one pass.

Derived in ``docs/derivations/blocks.md`` and ``docs/blocks/mlstm-block.md``.
"""

from typing import Any

import numpy as np

from numpy_xlstm.kernels.functions import compiled, exp, kernel, maximum, pointwise
from numpy_xlstm.kernels.parts import check_residual, for_loops
from numpy_xlstm.numerics import Array
from numpy_xlstm.numerics.activations import lowest


@pointwise
def value_and_gate(x: Any, least: Any) -> Any:
    """Return x σ(x) and σ(x)."""
    # Below ``least``, e^−x would overflow. The product also uses ``near``, because −1e38 times
    # σ(least) would not be near 0.
    near = maximum(x, least)
    s = 1 / (1 + exp(-near))
    return near * s, s  # [silu.1]


@pointwise
def slope(y: Any, s: Any) -> Any:
    """Return the derivative of x σ(x) with respect to x."""
    return s + y * (1 - s)  # [silu.2]


@kernel
def loop(x: Any, least: Any, y: Any, s: Any) -> None:
    """Write x σ(x) and σ(x)."""
    for i in range(x.size):
        y[i], s[i] = value_and_gate(x[i], least)


@kernel
def loop_backward(dy: Any, y: Any, s: Any, dx: Any) -> None:
    """Write the gradient of x."""
    for i in range(dy.size):
        dx[i] = dy[i] * slope(y[i], s[i])


def forward(x: Array) -> tuple[Array, Array]:
    """Return x σ(x) and σ(x)."""
    least = lowest(x.dtype)
    if not compiled(x.dtype):
        y, s = value_and_gate(x, least)
        return y, s
    y, s = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
    loop(flat(x), least, flat(y), flat(s))
    return y, s


def backward(dy: Array, y: Array, s: Array) -> Array:
    """Return the gradient of x."""
    for name, array in (("x σ(x)", y), ("σ(x)", s)):
        check_residual(name, array, dy.shape, dy.dtype)
    if not compiled(dy.dtype):
        dx: Array = dy * slope(y, s)
        return dx
    dx = np.empty(dy.shape, dy.dtype)
    loop_backward(flat(dy), flat(y), flat(s), flat(dx))
    return dx


def flat(array: Array) -> Array:
    """Return a one-dimensional view of the array, or a copy if it is not in C-order."""
    return np.ascontiguousarray(array).reshape(-1)


@pointwise
def gated(normed: Any, a: Any, skip: Any, z: Any, least: Any) -> Any:
    """Return r SiLU(z), r = skip a + ĥ, SiLU(z) and σ(z)."""
    read = skip * a + normed  # [mblock.6]
    gate, s = value_and_gate(z, least)
    return read * gate, read, gate, s


@pointwise
def gated_backward(dy: Any, read: Any, gate: Any, s: Any) -> Any:
    """Return the gradients of z and of r."""
    return dy * read * slope(gate, s), dy * gate  # [mblock.8] [mblock.9]


@pointwise
def active_backward(dread: Any, skip: Any, from_q: Any, from_k: Any, a: Any, s: Any) -> Any:
    """Return the gradient of c, where a = SiLU(c)."""
    return (dread * skip + from_q + from_k) * slope(a, s)  # [mblock.10] [mblock.13]


@kernel
def gate_loop(normed: Any, a: Any, skip: Any, z: Any, least: Any, results: Any) -> None:
    """Write the results of :func:`gated`."""
    y, read, gate, s = results
    for n in range(len(a)):
        for j in range(len(skip)):
            at = n, j
            y[at], read[at], gate[at], s[at] = gated(normed[at], a[at], skip[j], z[at], least)


@kernel
def gate_loop_backward(
    dy: Any, a: Any, read: Any, gate: Any, s: Any, dz: Any, dread: Any, dskip: Any
) -> None:
    """Write the gradients of z, r and the skip weight; the argument s is σ(z)."""
    dskip[:] = 0
    for n in range(len(a)):
        for j in range(len(dskip)):
            at = n, j
            dz[at], dread[at] = gated_backward(dy[at], read[at], gate[at], s[at])
            dskip[j] += dread[at] * a[at]  # [mblock.10]


@kernel
def active_loop(dread: Any, skip: Any, from_q: Any, from_k: Any, a: Any, s: Any, dc: Any) -> None:
    """Write the gradient of c."""
    for n in range(len(a)):
        for j in range(len(skip)):
            at = n, j
            dc[at] = active_backward(dread[at], skip[j], from_q[at], from_k[at], a[at], s[at])


def gate(normed: Array, a: Array, skip: Array, z: Array) -> tuple[Array, ...]:
    """Return r ∘ SiLU(z), r, SiLU(z) and σ(z)."""
    least = lowest(a.dtype)
    if not compiled(a.dtype):
        return gated(normed, a, skip, z, least)  # type: ignore[no-any-return]
    results = tuple(np.empty(a.shape, a.dtype) for _ in range(4))
    gate_loop(rows(normed), rows(a), for_loops(skip), rows(z), least, tuple(map(rows, results)))
    return results


def gate_backward(dy: Array, a: Array, read: Array, gate: Array, s: Array) -> tuple[Array, ...]:
    """Return the gradients of z, r and the skip weight; the argument s is σ(z)."""
    for name, array in (("a", a), ("r", read), ("SiLU(z)", gate), ("σ(z)", s)):
        check_residual(name, array, dy.shape, dy.dtype)
    if not compiled(a.dtype):
        dz, dread = gated_backward(dy, read, gate, s)
        return dz, dread, np.einsum("btd,btd->d", dread, a)  # [mblock.10]
    dz, dread, dskip = (np.empty(shape, a.dtype) for shape in (a.shape, a.shape, a.shape[-1]))
    dy, a, read, gate, s = map(rows, (dy, a, read, gate, s))
    gate_loop_backward(dy, a, read, gate, s, rows(dz), rows(dread), dskip)
    return dz, dread, dskip


def gate_backward_active(
    dread: Array, skip: Array, from_q: Array, from_k: Array, a: Array, s: Array
) -> Array:
    """Return the gradient of c."""
    for name, array in (("a", a), ("σ(c)", s)):
        check_residual(name, array, dread.shape, dread.dtype)
    if not compiled(a.dtype):
        return active_backward(dread, skip, from_q, from_k, a, s)  # type: ignore[no-any-return]
    dc = np.empty(a.shape, a.dtype)
    active_loop(rows(dread), for_loops(skip), *map(rows, (from_q, from_k, a, s, dc)))
    return dc


def rows(array: Array) -> Array:
    """Return an array (B, T, D) as a matrix (B·T, D) in C-order, a view if possible."""
    return for_loops(array).reshape(-1, array.shape[-1])
