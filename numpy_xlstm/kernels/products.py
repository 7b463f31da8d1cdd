"""Products x Wᵀ with a matrix W as it is stored, which may have 16-bit numbers.

Such numbers are widened to float32, which is exact, while they are used, so the result is that of
float32 arithmetic with the stored numbers up to the order of the sums. W may be mapped from a file.

A product with few rows of x takes the time of reading W. A compiled kernel reads each number of W
once for all of these rows. BLAS would first copy W, which takes longer than the product. For more
rows, or without numba, some rows of W are widened at a time, so that they stay in the cache, and
given to BLAS.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from numpy_xlstm.kernels.functions import compiled, pointwise, summation
from numpy_xlstm.numerics import Array, is_narrow
from numpy_xlstm.numerics.threads import BLOCKS, WORTH_THREADS, matmul, parallel_map, spread

FEW, FEW_WIDE = 8, 4
"""Largest number of rows of x for which the compiled kernel is faster than BLAS, with 16 bits in W
and with float32."""

ROWS = 32
"""Least number of rows of W that are widened at a time."""

LARGE = 2**18
"""Smallest size of a float32 matrix for which the compiled kernel is faster than BLAS."""


def times(x: Array, W: Array, out: Array) -> None:
    """Write x Wᵀ, shape (B, O), for x (B, D) and W (O, D)."""
    B, narrow, in_order = len(x), is_narrow(W), W.flags.c_contiguous
    few = 0 < B <= FEW and x.dtype == np.float32 and compiled(x.dtype)
    product: Callable[[Array, Array, Array], None]
    if narrow and not few:
        product = _in_blocks
    elif narrow or (few and 1 < B <= FEW_WIDE and in_order and W.size >= LARGE):
        product, x = (ONE_ROW if B == 1 else FEW_ROWS)[W.dtype.name], np.ascontiguousarray(x)
        W = W.view(np.uint16) if narrow else W
    elif B == 1 and in_order:
        np.dot(W, x[0], out[0])  # matmul is several times as slow here
        return
    else:
        matmul(x, W.T, out)
        return
    if W.size * max(B, FEW) < WORTH_THREADS:  # a few rows take the time of reading W
        product(W, x, out)
    else:
        parallel_map(lambda rows: product(W[rows], x, out[:, rows]), spread(len(W), BLOCKS))


def _in_blocks(W: Array, x: Array, out: Array) -> None:
    """Write the product, with some rows of W at a time that are widened to the dtype of x."""
    size, fast = max(ROWS, len(x)), x.dtype == np.float32 and compiled(x.dtype)
    for start in range(0, len(W), size):
        rows = W[start : start + size]
        if fast:
            WIDEN_ROWS[W.dtype.name](rows.view(np.uint16), wide := np.empty(rows.shape, x.dtype))
        else:
            wide = rows.astype(x.dtype)
        np.matmul(x, wide.T, out=out[:, start : start + size])


@pointwise
def same(number: Any) -> Any:
    """Return the number."""
    return number


@pointwise
def from_bfloat16(bits: Any) -> Any:
    """Return the float32 with the bits of a bfloat16 as its upper half."""
    return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)


@pointwise
def from_float16(bits: Any) -> Any:
    """Return a finite float16, whose exponents differ by 112 from those of float32."""
    shifted = np.int32(np.int32(np.int16(bits)) << np.int32(13))  # with copies of the sign
    return np.int32(shifted & np.int32(~0x70000000)).view(np.float32) * np.float32(2.0**112)


def _one_row(widen: Callable[[Any], Any]) -> Callable[..., None]:
    """Return the kernel for one row of x, which takes four rows of W at a time."""

    def one_row(W: Any, x: Any, out: Any) -> None:
        x0, y, zero, whole = x[0], out[0], np.float32(0), len(W) - len(W) % 4
        for r in range(0, whole, 4):
            a, b, c, d = zero, zero, zero, zero
            Wa, Wb, Wc, Wd = W[r], W[r + 1], W[r + 2], W[r + 3]
            for j in range(x0.size):
                a += widen(Wa[j]) * x0[j]
                b += widen(Wb[j]) * x0[j]
                c += widen(Wc[j]) * x0[j]
                d += widen(Wd[j]) * x0[j]
            y[r], y[r + 1], y[r + 2], y[r + 3] = a, b, c, d
        for r in range(whole, len(W)):
            total = zero
            for j in range(x0.size):
                total += widen(W[r, j]) * x0[j]
            y[r] = total

    return summation(one_row)


def _few_rows(widen: Callable[[Any], Any]) -> Callable[..., None]:
    """Return the kernel for a few rows of x, which widens a row of W at a time."""

    def few_rows(W: Any, x: Any, out: Any) -> None:
        wide = np.empty(x.shape[1], np.float32)
        for r in range(len(W)):
            for j in range(wide.size):
                wide[j] = widen(W[r, j])
            for n in range(len(x)):
                total = np.float32(0)
                for j in range(wide.size):
                    total += wide[j] * x[n, j]
                out[n, r] = total

    return summation(few_rows)


def _widen_rows(widen: Callable[[Any], Any]) -> Callable[..., None]:
    """Return the kernel that widens some rows of W."""

    def widen_rows(W: Any, wide: Any) -> None:
        for r in range(len(W)):
            for j in range(W.shape[1]):
                wide[r, j] = widen(W[r, j])

    return summation(widen_rows)


WIDEN = {"bfloat16": from_bfloat16, "float16": from_float16}
WIDEN_ROWS = {kind: _widen_rows(widen) for kind, widen in WIDEN.items()}
ONE_ROW = {kind: _one_row(widen) for kind, widen in WIDEN.items()}
FEW_ROWS = {kind: _few_rows(widen) for kind, widen in (WIDEN | {"float32": same}).items()}
