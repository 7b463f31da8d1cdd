"""Compile kernels with numba.

This module needs numba. Only ``elementary.py`` and, if numba is installed,
:mod:`~numpy_xlstm.kernels.functions` import it.
"""

import pickle
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import numba
import numpy as np
from numba.core import ir
from numba.core.caching import FunctionCache
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.serialize import dumps
from numba.core.untyped_passes import IRProcessing
from numba.extending import overload

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

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


class DiskCache(FunctionCache):  # type: ignore[misc]
    """Compiled code of a kernel on disk: numba's cache with checksums, and without errors.

    Each signature on each kind of processor has a file of its own. It begins with a hash of the
    code and of the sources that the kernel is compiled from. A file with another hash is damaged or
    out of date, and is replaced. Where nothing can be written, every process compiles again.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self.stamp = source_hash(function.__module__)

    def load_overload(self, signature: Any, target: Any) -> Any:
        """Return the compiled kernel for a signature, or None."""
        target.refresh()
        with suppress(OSError):
            content = self.file(signature, target.codegen()).read_bytes()
            if content[:32] == self.hash(content[32:]):
                return self._impl.rebuild(target, pickle.loads(content[32:]))
        return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Write a compiled kernel."""
        if self._impl.check_cachable(compiled):
            code = dumps(self._impl.reduce(compiled))
            file = self.file(signature, compiled.codegen)
            with suppress(OSError):
                file.parent.mkdir(parents=True, exist_ok=True)
                partial_file = file.with_suffix(f".{uuid4().hex}")
                try:
                    partial_file.write_bytes(self.hash(code) + code)
                    partial_file.replace(file)
                finally:
                    partial_file.unlink(missing_ok=True)

    def file(self, signature: Any, codegen: Any) -> Path:
        """Return the file for a signature."""
        key = sha256(repr(self._index_key(signature, codegen)).encode()).hexdigest()
        return Path(self.cache_path, f"{self._impl.filename_base}-{key[:16]}.nbc")

    def hash(self, code: bytes) -> bytes:
        """Return the hash at the beginning of a file, 32 bytes."""
        return sha256(self.stamp + numba.__version__.encode() + code).digest()


def dispatcher(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return numba's dispatcher of a kernel, with a cache on disk."""
    compiled = numba.njit(function, **OPTIONS)
    compile_now = compiled.compile

    def compile_once(signature: Any) -> Any:
        """Compile or load the kernel, while no other process does this for a kernel of the file."""
        with ExitStack() as stack:
            with suppress(OSError, AttributeError):  # no file, or no locks
                source = stack.enter_context(Path(function.__code__.co_filename).open("rb"))
                fcntl.flock(source, fcntl.LOCK_EX)
            return compile_now(signature)

    compiled.compile = compile_once
    with suppress(RuntimeError):  # no folder can be written to
        compiled._cache = DiskCache(function)
    return compiled  # type: ignore[no-any-return]


@cache
def source_hash(module: str) -> bytes:
    """Hash the files that a kernel is compiled from.

    They are its module, this one, ``elementary.py``, and all modules of this package whose
    functions one of them uses.
    """
    package = __name__.rpartition(".")[0]
    modules = [module, __name__, f"{package}.elementary"]
    for name in modules:  # grows
        values = vars(sys.modules[name]).values()
        used = {getattr(value, "__module__", getattr(value, "__name__", "")) for value in values}
        modules += sorted({str(n) for n in used if str(n).startswith(package)} - {*modules})
    files = (Path(str(sys.modules[name].__file__)) for name in sorted(modules))
    return sha256(b"".join(sha256(file.read_bytes()).digest() for file in files)).digest()
