"""Compile kernels with numba.

This module needs numba. Only ``elementary.py`` and, if numba is installed,
:mod:`~numpy_xlstm.kernels.functions` import it.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core import ir
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.untyped_passes import IRProcessing
from numba.extending import overload

NARROW: dict[type, type] = {int: np.int8, float: np.float32}
"""Types of literals that widen neither float32 nor float64."""


@register_pass(mutates_CFG=False, analysis_only=False)
class WeakLiterals(FunctionPass):  # type: ignore[misc]
    """Keep ``1 + x`` in the type of x, as in NumPy; numba would widen it to float64."""

    _name = "weak_literals"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        """Narrow each literal operand that the narrow type represents exactly."""
        blocks = [block for _, block in sorted(state.func_ir.blocks.items())]
        kinds = "binop", "inplace_binop"
        operations = [found for b in blocks for kind in kinds for found in b.find_exprs(kind)]
        operands = {var.name for found in operations for var in (found.lhs, found.rhs)}
        assignments = [found for block in blocks for found in block.find_insts(ir.Assign)]
        for found in reversed(assignments):
            if found.target.is_temp and found.target.name in operands:
                if isinstance(found.value, ir.Var):  # ``2 * (a if c else b)`` copies the 2
                    operands.add(found.value.name)
                else:
                    narrow(found.value)
        return True


def narrow(source: Any) -> None:
    """Narrow a constant of numba's intermediate representation in place."""
    if isinstance(source, ir.Const) and type(source.value) in NARROW:
        value, kind = source.value, NARROW[type(source.value)]
        if -128 <= value < 128 and kind(value) == value:
            source.value = kind(value)


class Compiler(CompilerBase):  # type: ignore[misc]
    """Numba's compiler with weak literals."""

    def define_pipelines(self) -> list[Any]:
        """Return the passes of nopython mode, with :class:`WeakLiterals` added."""
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.add_pass_after(WeakLiterals, IRProcessing)
        passes.finalize()
        return [passes]


OPTIONS: dict[str, Any] = {
    "error_model": "numpy",
    "nogil": True,
    "fastmath": {"contract"},  # allow a b + c with one rounding; keep the order of operations
    "pipeline_class": Compiler,
}
INLINE = OPTIONS | {"forceinline": True}

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

inline: Decorator = numba.njit(**INLINE)
"""Decorator for a function that compiled functions call."""

implements: Callable[..., Decorator] = partial(overload, jit_options=INLINE, strict=False)
"""Decorator for a function that takes argument types and returns the function to compile for
them."""


def register(name: Callable[..., Any], function: Callable[..., Any], inlined: bool) -> None:
    """Compile ``function`` where a kernel calls ``name``."""
    options = INLINE if inlined else OPTIONS
    overload(name, jit_options=options, strict=False)(lambda *args: function)


def dispatcher(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return numba's dispatcher of a kernel, with a cache on disk."""
    compiled = numba.njit(function, **OPTIONS)
    with suppress(RuntimeError):  # no writable folder: every process compiles again
        compiled.enable_caching()
        # Numba checks only the kernel's own file for changes, but also compiles functions from
        # other files into the kernel.
        file = compiled._cache._cache_file
        file._source_stamp = file._source_stamp, sources()
    return compiled  # type: ignore[no-any-return]


@cache
def sources() -> list[tuple[str, int]]:
    """Return names and modification times of the files with compiled code."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return [(file.name, file.stat().st_mtime_ns) for file in files]
