"""The product x M of a few rows x with a matrix M, for loops that use M at every step.

::

    out[r, j] = x[r, 0] M[0, j] + x[r, 1] M[1, j] + … + x[r, K − 1] M[K − 1, j]

**Panels.** A processor adds x[r, k] times a vector of numbers M[k, j], M[k, j + 1], … to a vector
of sums in one instruction. A vector has W numbers, 64 bytes: the size of a cache line. LLVM divides
it where registers are shorter. The sums of W columns need their vectors of M in the order of k.
:func:`packed` therefore stores M as panels: one panel, (K, W), has W columns, and is read from its
first byte to its last. Zeros fill up the last panel.

**Tiles.** Such an instruction waits for two things: a vector of M, and the sum before, which is
ready after 4 further instructions or so, of which many processors begin two at a time. A tile is
the product of R rows and P panels. For each k it reads P vectors and R numbers for R·P
instructions, whose R·P vectors of sums do not wait for each other and stay in registers:

=========  ==================  =================  =============================================
processor  registers           largest tile       its registers
=========  ==================  =================  =============================================
AVX-512    32 of 64 bytes      8 rows, 2 panels   16 for sums, 2 for M
AVX2       16 of 32 bytes      6 rows, 1 panel    12 for sums, 2 for M, 1 for x
NEON       32 of 16 bytes      6 rows, 1 panel    24 for sums, 4 for M, 1 for x
=========  ==================  =================  =============================================

With more sums than registers, each instruction would also read and write memory: 3 rows and 2
panels take twice as long with AVX2, because M and x need five more. The rows that are left over are
taken with more panels, 2 rows with 2 and one row with 4. The time of one row is then that of
reading M.

**Order.** A sum is one chain of additions in the order of k, in a tile of any shape. So its bits
depend neither on the rows next to it nor on the number of threads.

**Prefetching.** A tile of more than 2 rows asks for the vector 4 KB after the one that it uses,
because processors look ahead within a page of 4 KB only. This matters for an M of 16 MB. It is no
access: the vector may be behind the last panel. A smaller tile has no time to spare for it.

This module needs numba. Without it, and for other dtypes, ``scan.py`` uses NumPy's products.
"""

from functools import cache
from itertools import product
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.cgutils import alloca_once_value, for_range, unpack_tuple
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
    """Return a function of the addresses of some rows of x, of panels and of out, and of steps.

    The steps are K, and the distances in bytes of the rows of x, of panels, and of the rows of out.
    """
    size, number = real.bitwidth // 8, ir.FloatType() if real.bitwidth == 32 else ir.DoubleType()
    vector, byte, int32 = ir.VectorType(number, BYTES // size), ir.IntType(8), ir.IntType(32)
    undefined, entry = ir.Constant(vector, ir.Undefined), ir.VectorType(int32, vector.count)
    arguments = [byte.as_pointer(), int32, int32, int32]
    to_read_soon = int32(0), int32(3), int32(1)  # options of llvm.prefetch

    def generate(context: Any, build: Any, signature: Any, args: Any) -> Any:
        places, (K, x_step, panel_step, out_step) = (unpack_tuple(build, a) for a in args)
        x, panel, out = places

        def at(kind: Any, place: Any, *steps: tuple[int, Any]) -> Any:
            """Return the address after some steps, given as their number and size."""
            for count, step in steps:
                place = build.add(place, build.mul(step, step.type(count)))
            return build.inttoptr(place, kind.as_pointer())

        prefetch = build.module.declare_intrinsic(
            "llvm.prefetch", arguments[:1], ir.FunctionType(ir.VoidType(), arguments)
        )
        sums = {
            sum_of: alloca_once_value(build, ir.Constant(vector, None))  # becomes a register
            for sum_of in product(range(rows), range(panels))
        }
        with for_range(build, K) as loop:
            body, M = build.block, []
            line = build.add(panel, build.mul(loop.index, K.type(BYTES)))
            column = build.add(x, build.mul(loop.index, K.type(size)))
            for p in range(panels):
                M.append(build.load(at(vector, line, (p, panel_step)), align=size))
                if rows > 2:
                    ahead = at(byte, line, (p, panel_step), (1, K.type(AHEAD)))
                    build.call(prefetch, [ahead, *to_read_soon])
            for r in range(rows):
                a = build.load(at(number, column, (r, x_step)), align=size)
                a = build.insert_element(undefined, a, int32(0))
                a = build.shuffle_vector(a, undefined, ir.Constant(entry, None))  # a, a, …
                for p in range(panels):
                    term = build.fmul(a, M[p], flags=("contract",))
                    total = build.fadd(term, build.load(sums[r, p]), flags=("contract",))
                    build.store(total, sums[r, p])
        no_unrolling = build.module.add_metadata(["llvm.loop.unroll.disable"])
        options = build.module.add_metadata([no_unrolling])
        options.operands = options, no_unrolling  # LLVM expects that they begin with themselves
        body.terminator.set_metadata("llvm.loop", options)
        for (r, p), total in sums.items():
            place = at(vector, out, (r, out_step), (p, K.type(BYTES)))
            build.store(build.load(total), place, align=size)
        return context.get_dummy_value()

    return intrinsic(lambda context, places, steps: (types.void(places, steps), generate))


@cache
def rows_by_panels(real: Any, shapes: tuple[tuple[int, int], ...]) -> Any:
    """Return a function that multiplies any number of rows by some panels, in tiles."""
    if not shapes:
        return inline(lambda count, x, panels, panel, out, steps: None)
    (rows, most), others = shapes[0], rows_by_panels(real, shapes[1:])
    several, one = tile(real, rows, most), tile(real, rows, 1)

    def multiply_rows(count: Any, x: Any, panels: Any, panel: Any, out: Any, steps: Any) -> None:
        _, x_step, panel_step, out_step = steps
        whole, wide = count - count % rows, panels - panels % most
        for p in range(0, wide, most):
            for r in range(0, whole, rows):
                to = out + r * out_step + p * BYTES
                several((x + r * x_step, panel + p * panel_step, to), steps)
        for p in range(wide, panels):
            for r in range(0, whole, rows):
                to = out + r * out_step + p * BYTES
                one((x + r * x_step, panel + p * panel_step, to), steps)
        others(count - whole, x + whole * x_step, panels, panel, out + whole * out_step, steps)

    return inline(multiply_rows)


@inline
def address(array: Any) -> Any:
    """Return the address of an array as a signed number: numba adds others to it as floats."""
    return np.intp(array.ctypes.data)


def _packed(M: Any, transposed: Any) -> Any:
    W = BYTES * 8 // M.dtype.bitwidth

    def packed(M: Any, transposed: Any) -> Any:
        heads, rows, columns = M.shape
        K, N = (columns, rows) if transposed else (rows, columns)
        P = (N + W - 1) // W
        space = np.zeros((heads * P * K + 1) * W, M.dtype)
        line = -address(space) % BYTES // space.itemsize  # where a cache line begins
        panels = space[line : line + space.size - W].reshape(heads, P, K, W)
        for head in range(heads):
            for j in range(N):
                for k in range(K):
                    number = M[head, j, k] if transposed else M[head, k, j]
                    panels[head, j // W, k, j % W] = number
        return panels

    return packed


def _multiply(x: Any, panels: Any, N: Any, out: Any) -> Any:
    multiply_rows = rows_by_panels(panels.dtype, SHAPES)

    def multiply(x: Any, panels: Any, N: Any, out: Any) -> None:
        (heads, P, K, _), size = panels.shape, x.itemsize
        steps = K, x.strides[0], K * BYTES, out.strides[0]
        panel, to = address(panels), address(out)
        for head in range(heads):
            for p in range(0, P, GROUP):
                count, row = min(GROUP, P - p), address(x) + head * K * size
                multiply_rows(len(x), row, count, panel, to + p * BYTES, steps)
                panel += count * K * BYTES
            to += N * size

    return multiply


IMPLEMENTATIONS: dict[str, Any] = {"packed": _packed, "multiply": _multiply}
"""As in :mod:`~numpy_xlstm.kernels.elementary`."""
