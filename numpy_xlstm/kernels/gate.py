"""Skip connection and gate of an mLSTM layer, (ĥ + skip ∘ a) ∘ SiLU(z), in one pass.

Derived in ``docs/blocks/mlstm-block.md``.
"""

from typing import Any

import numpy as np

from numpy_xlstm.kernels.functions import compiled, kernel, pointwise
from numpy_xlstm.kernels.parts import check_residual, for_loops
from numpy_xlstm.kernels.silu import slope, value_and_gate
from numpy_xlstm.numerics import Array
from numpy_xlstm.numerics.activations import lowest


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
def loop(normed: Any, a: Any, skip: Any, z: Any, least: Any, found: Any) -> None:
    """Write the results of :func:`gated`."""
    y, read, gate, s = found
    for n in range(len(a)):
        for j in range(len(skip)):
            at = n, j
            y[at], read[at], gate[at], s[at] = gated(normed[at], a[at], skip[j], z[at], least)


@kernel
def loop_backward(
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
def loop_active(dread: Any, skip: Any, from_q: Any, from_k: Any, a: Any, s: Any, dc: Any) -> None:
    """Write the gradient of c."""
    for n in range(len(a)):
        for j in range(len(skip)):
            at = n, j
            dc[at] = active_backward(dread[at], skip[j], from_q[at], from_k[at], a[at], s[at])


def forward(normed: Array, a: Array, skip: Array, z: Array) -> tuple[Array, ...]:
    """Return r ∘ SiLU(z), r, SiLU(z) and σ(z)."""
    least = lowest(a.dtype)
    if not compiled(a.dtype):
        return gated(normed, a, skip, z, least)  # type: ignore[no-any-return]
    found = tuple(np.empty(a.shape, a.dtype) for _ in range(4))
    loop(rows(normed), rows(a), for_loops(skip), rows(z), least, tuple(map(rows, found)))
    return found


def backward(dy: Array, a: Array, read: Array, gate: Array, s: Array) -> tuple[Array, ...]:
    """Return the gradients of z, r and the skip weight; the argument s is σ(z)."""
    for name, array in (("a", a), ("r", read), ("SiLU(z)", gate), ("σ(z)", s)):
        check_residual(name, array, dy.shape, dy.dtype)
    if not compiled(a.dtype):
        dz, dread = gated_backward(dy, read, gate, s)
        return dz, dread, np.einsum("btd,btd->d", dread, a)  # [mblock.10]
    dz, dread, dskip = (np.empty(shape, a.dtype) for shape in (a.shape, a.shape, a.shape[-1]))
    dy, a, read, gate, s = map(rows, (dy, a, read, gate, s))
    loop_backward(dy, a, read, gate, s, rows(dz), rows(dread), dskip)
    return dz, dread, dskip


def backward_active(
    dread: Array, skip: Array, from_q: Array, from_k: Array, a: Array, s: Array
) -> Array:
    """Return the gradient of c."""
    for name, array in (("a", a), ("σ(c)", s)):
        check_residual(name, array, dread.shape, dread.dtype)
    if not compiled(a.dtype):
        return active_backward(dread, skip, from_q, from_k, a, s)  # type: ignore[no-any-return]
    dc = np.empty(a.shape, a.dtype)
    loop_active(rows(dread), for_loops(skip), *map(rows, (from_q, from_k, a, s, dc)))
    return dc


def rows(array: Array) -> Array:
    """Return an array (B, T, D) as a matrix (B·T, D) in C-order, a view if possible."""
    return for_loops(array).reshape(-1, array.shape[-1])
