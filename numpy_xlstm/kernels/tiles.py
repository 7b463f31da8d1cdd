"""The product x M of rows x with a matrix M, for compiled loops that use M at every step.

A step of a scan has few rows, and its time is that of reading M and of the multiplications::

    out[r, j] = x[r, 0] M[0, j] + x[r, 1] M[1, j] + … + x[r, K − 1] M[K − 1, j]

**Vectors.** A processor multiplies a vector of numbers at once. Take W neighbouring columns j: the
vector M[k, j : j + W] is multiplied by the number x[r, k], and added to a vector of W sums. W
numbers have 64 bytes, the size of a cache line. LLVM divides vectors of this size if those of the
processor are shorter.

**Panels.** The vectors of W columns are used in the order of k. :func:`packed` stores them in this
order, one after the other. They are a panel, (K, W). The processor reads it from the first to the
last byte, and knows what is next. The last panel is filled up with zeros.

**Tiles.** For one vector of sums, each vector of M is read for one multiplication. A tile computes
the sums of several rows r and panels p at once, and keeps all of them in registers. For R rows and
P panels, a step in k reads P vectors and R numbers for R·P multiplications. A tile also hides the
time from the begin of an addition to its end: about 4 times 2 additions can be on their way, each
to another vector of sums.

==========  ==================  =============================================================
processor   registers           largest tile
==========  ==================  =============================================================
AVX-512     32 of 64 bytes      8 rows × 2 panels: 16 for sums, 2 for M, others for x
AVX2        16 of 32 bytes      6 rows × 1 panel: 12 for sums, 2 for M, 1 for x
NEON        32 of 16 bytes      6 rows × 1 panel: 24 for sums, 4 for M, 1 for x
==========  ==================  =============================================================

With more sums, LLVM stores some of them in memory: 3 rows × 2 panels take twice the time with AVX2,
because both vectors of M need two registers each. Fewer rows are taken with more panels, since a
row alone has one vector of sums per panel.

**Order.** Each sum is one chain of additions in the order of k, in a tile of any shape. So its bits
depend neither on the rows next to it nor on the number of threads.

**Prefetching.** A panel of a large matrix comes from memory that is far from the processor. While
it uses one vector, a tile of more than 2 rows asks for the vector 4 KB further on. The processor
does this itself within a page of 4 KB. It may ask for what lies behind the last panel, which is no
access. A tile of fewer rows reads faster than vectors can be asked for.

This module needs numba. Without it, and for other dtypes, ``scan.py`` uses NumPy's products.
"""

from functools import cache
from itertools import product
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.cgutils import alloca_once_value, for_range
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from numpy_xlstm.kernels.compiler import inline

BYTES = 64
"""Size of a vector, and of a cache line."""

AHEAD = 4096
"""Distance in bytes from the vector that is used to the one that is prefetched."""

GROUP = 4
"""Number of panels that are multiplied by all rows before the next ones are used."""

WIDE = "+avx512f" in cpu_target.target_context.codegen().magic_tuple()[2].split(",")

SHAPES = ((8, 2), (2, 2), (1, 4)) if WIDE else ((6, 1), (2, 2), (1, 4))
"""Rows and panels of tiles, with the largest number of rows first."""


@cache
def tile(real: Any, rows: int, panels: int) -> Any:
    """Return a function that multiplies some rows of x by some panels, given their addresses.

    ``x_step``, ``panel_step`` and ``out_step`` are the distances in bytes between rows of x,
    panels, and rows of out.
    """
    size, number = real.bitwidth // 8, ir.FloatType() if real.bitwidth == 32 else ir.DoubleType()
    vector, byte, int32 = ir.VectorType(number, BYTES // size), ir.IntType(8), ir.IntType(32)
    undefined, entry = ir.Constant(vector, ir.Undefined), ir.VectorType(int32, vector.count)
    arguments = [byte.as_pointer(), int32, int32, int32]
    into_cache = int32(0), int32(3), int32(1)  # for reading, as near as possible, data

    def generate(context: Any, build: Any, signature: Any, args: Any) -> Any:
        K, x, x_step, panel, panel_step, out, out_step = args

        def at(kind: Any, address: Any, *steps: tuple[int, Any]) -> Any:
            """Return the address after some steps, given as their number and size."""
            for count, step in steps:
                address = build.add(address, build.mul(step, step.type(count)))
            return build.inttoptr(address, kind.as_pointer())

        prefetch = build.module.declare_intrinsic(
            "llvm.prefetch", arguments[:1], ir.FunctionType(ir.VoidType(), arguments)
        )
        sums = {
            place: alloca_once_value(build, ir.Constant(vector, None))  # becomes a register
            for place in product(range(rows), range(panels))
        }
        with for_range(build, K) as loop:
            line, M = build.add(panel, build.mul(loop.index, K.type(BYTES))), []
            for p in range(panels):
                M.append(build.load(at(vector, line, (p, panel_step)), align=size))
                if rows > 2:
                    ahead = at(byte, line, (p, panel_step), (1, K.type(AHEAD)))
                    build.call(prefetch, [ahead, *into_cache])
            column = build.add(x, build.mul(loop.index, K.type(size)))
            for r in range(rows):
                a = build.load(at(number, column, (r, x_step)), align=size)
                a = build.insert_element(undefined, a, int32(0))
                a = build.shuffle_vector(a, undefined, ir.Constant(entry, None))  # a, a, …
                for p in range(panels):
                    term = build.fmul(a, M[p], flags=("contract",))
                    total = build.fadd(term, build.load(sums[r, p]), flags=("contract",))
                    build.store(total, sums[r, p])
        for (r, p), total in sums.items():
            place = at(vector, out, (r, out_step), (p, K.type(BYTES)))
            build.store(build.load(total), place, align=size)
        return context.get_dummy_value()

    def multiply_tile(
        context: Any,
        K: Any,
        x: Any,
        x_step: Any,
        panel: Any,
        panel_step: Any,
        out: Any,
        out_step: Any,
    ) -> Any:
        return types.void(*[types.intp] * 7), generate

    return intrinsic(multiply_tile)


@cache
def rows_by_panels(real: Any, shapes: tuple[tuple[int, int], ...]) -> Any:
    """Return a function that multiplies any number of rows by some panels, in tiles."""
    if not shapes:
        return inline(lambda count, x, panels, panel, out, steps: None)
    (rows, most), others = shapes[0], rows_by_panels(real, shapes[1:])
    several, one = tile(real, rows, most), tile(real, rows, 1)

    def multiply_rows(count: Any, x: Any, panels: Any, panel: Any, out: Any, steps: Any) -> None:
        K, x_step, panel_step, out_step = steps
        p, whole = 0, count - count % rows
        while p < panels:
            width = most if p + most <= panels else 1
            for r in range(0, whole, rows):
                x_r, out_r = x + r * x_step, out + r * out_step + p * BYTES
                if width == most:
                    several(K, x_r, x_step, panel + p * panel_step, panel_step, out_r, out_step)
                else:
                    one(K, x_r, x_step, panel + p * panel_step, panel_step, out_r, out_step)
            p += width
        others(count - whole, x + whole * x_step, panels, panel, out + whole * out_step, steps)

    return inline(multiply_rows)


def _packed(M: Any, transposed: Any) -> Any:
    W = BYTES * 8 // M.dtype.bitwidth

    def packed(M: Any, transposed: Any) -> Any:
        heads, C, rows, columns = M.shape
        K, N = (columns, rows) if transposed else (rows, columns)
        panels = np.zeros((C, heads, (N + W - 1) // W, K, W), M.dtype)
        for c in range(C):
            for head in range(heads):
                for j in range(N):
                    for k in range(K):
                        number = M[head, c, j, k] if transposed else M[head, c, k, j]
                        panels[c, head, j // W, k, j % W] = number
        return panels

    return packed


def _multiply(x: Any, panels: Any, N: Any, out: Any) -> Any:
    multiply_rows = rows_by_panels(panels.dtype, SHAPES)

    def multiply(x: Any, panels: Any, N: Any, out: Any) -> None:
        (C, heads, P, K, _), size = panels.shape, x.itemsize
        steps = K, x.strides[0], K * BYTES, out.strides[0]
        panel, to = panels.ctypes.data, out.ctypes.data
        for _ in range(C):
            for head in range(heads):
                row = x.ctypes.data + head * K * size
                for p in range(0, P, GROUP):
                    count = min(GROUP, P - p)
                    multiply_rows(len(x), row, count, panel, to + p * BYTES, steps)
                    panel += count * K * BYTES
                to += N * size

    return multiply


IMPLEMENTATIONS: dict[str, Any] = {"packed": _packed, "multiply": _multiply}
"""As in :mod:`~numpy_xlstm.kernels.elementary`."""
