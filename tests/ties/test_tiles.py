"""Products of packed matrices stay within their arrays; a row has the same bits in any tile."""

import ctypes
import mmap
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.kernels.functions import compiled, kernel, multiply, packed
from numpy_xlstm.numerics import Array

pytestmark = pytest.mark.skipif(not compiled(), reason="kernels are not compiled")


@kernel
def pack(M: Any, transposed: Any) -> Any:
    return packed(M, transposed)


@kernel
def times(x: Any, panels: Any, N: Any, out: Any) -> None:
    multiply(x, panels, N, out)


def guarded(array: Array, at_the_end: bool) -> Array:
    """Return a copy that ends before, or begins after, a page that nothing may read or write."""
    page, size = mmap.PAGESIZE, -(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    area = mmap.mmap(-1, size + 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    for forbidden in (start, start + page + size):
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(forbidden), page, 0) == 0
    offset = page + (size - array.nbytes if at_the_end else 0)
    copy = np.frombuffer(area, array.dtype, array.size, offset).reshape(array.shape)
    copy[...] = array
    return copy


def sizes() -> Iterator[tuple[int, ...]]:
    """Yield numbers of rows and heads, and the shape of the matrix of a head."""
    for rows, N in product((*range(1, 10), 12, 17, 29), (1, 7, 8, 15, 16, 17, 33, 64, 80, 130)):
        yield rows, 1, 5, N
    yield from ((3, 2, 1, 5), (9, 3, 4, 16), (2, 2, 3, 9), (13, 4, 9, 24), (7, 2, 6, 70))


def check_products() -> None:
    """Compare products, between forbidden pages, with sums in float64, and rows with each other."""
    rng = np.random.default_rng(0)
    dtypes: tuple[Any, ...] = np.float32, np.float64
    for dtype, (rows, heads, K, N), flag in product(dtypes, sizes(), (False, True)):
        M = rng.standard_normal((heads, K, N)).astype(dtype)
        x = guarded(rng.standard_normal((rows, heads * K)).astype(dtype), flag)
        stored = np.ascontiguousarray(M.swapaxes(1, 2)) if flag else M
        panels = guarded(pack(guarded(stored, flag), flag), flag)
        W = 64 // dtype().itemsize
        columns = (heads - 1) * N + -(-N // W) * W
        out = guarded(np.full((rows, columns), np.nan, dtype), flag)
        times(x, panels, N, out)
        parts = x.reshape(rows, heads, K).astype(float), M.astype(float)
        expected = np.einsum("rhk,hkn->rhn", *parts).reshape(rows, -1)
        bound = np.einsum("rhk,hkn->rhn", *map(abs, parts)).reshape(rows, -1)
        found = out[:, : heads * N]
        assert (abs(found - expected) <= K * np.finfo(dtype).eps * bound).all()
        for r in range(rows):
            alone = np.empty_like(out[:1])
            times(x[r : r + 1].copy(), panels, N, alone)
            assert (alone[0, : found.shape[1]] == found[r]).all()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no mprotect")
def test_nothing_outside_of_the_arrays_is_read_or_written() -> None:
    """A product that reads or writes outside ends the process."""
    code = "from tests.ties.test_tiles import check_products; check_products()"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("real", ["float32", "float64"])
@pytest.mark.parametrize(("rows", "panels"), [(8, 2), (6, 1), (2, 2), (1, 4)])
def test_arm_multiplies_and_adds_in_one_instruction(real: str, rows: int, panels: int) -> None:
    """A vector of 64 bytes has four registers of NEON."""
    import llvmlite.binding as llvm
    import numba
    from llvmlite import ir

    from numpy_xlstm.kernels.tiles import tile

    module, integer = ir.Module(), ir.IntType(64)
    tuples = [ir.ArrayType(integer, count) for count in (3, 4)]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), tuples), "tile")
    build = ir.IRBuilder(function.append_basic_block())
    _, generate = tile(getattr(numba, real), rows, panels)._defn(*[None] * 3)
    generate(SimpleNamespace(get_dummy_value=list), build, None, function.args)
    build.ret_void()
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple("aarch64-unknown-linux-gnu")
    assembly = target.create_target_machine(opt=3).emit_assembly(llvm.parse_assembly(str(module)))
    assert assembly.count("fmla") == 4 * rows * panels
    assert "fmul" not in assembly
    assert "fadd" not in assembly
