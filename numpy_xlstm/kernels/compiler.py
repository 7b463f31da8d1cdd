"""Compile kernels with numba.

This module needs numba. Only ``elementary.py`` and, if numba is installed,
:mod:`~numpy_xlstm.kernels.functions` import it.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from hashlib import sha256
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core import ir
from numba.core.caching import IndexDataCacheFile
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.untyped_passes import IRProcessing
from numba.extending import overload

from numpy_xlstm.numerics import activations

LONGEST_WAIT = 60.0
"""Time in seconds to wait for another process that compiles the same kernel."""

NARROW: dict[type, type] = {int: np.int8, float: np.float32}
"""Types of literals that widen neither float32 nor float64."""


@register_pass(mutates_CFG=False, analysis_only=False)
class WeakLiterals(FunctionPass):  # type: ignore[misc]
    """Keep ``1 + x`` in the type of x, as in NumPy; numba would widen it to float64."""

    _name = "weak_literals"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        """Narrow each literal operand that the narrow type represents exactly.

        A literal is an assignment to a temporary variable, which an operation then reads.
        """
        blocks = [block for _, block in sorted(state.func_ir.blocks.items())]
        kinds = "binop", "inplace_binop"
        operations = [e for block in blocks for kind in kinds for e in block.find_exprs(kind)]
        operands = {var.name for e in operations for var in (e.lhs, e.rhs)}
        assignments = [a for block in blocks for a in block.find_insts(ir.Assign)]
        for assignment in reversed(assignments):
            target, value = assignment.target, assignment.value
            if target.is_temp and target.name in operands:
                if isinstance(value, ir.Var):  # ``2 * (a if c else b)`` copies the 2
                    operands.add(value.name)
                elif isinstance(value, ir.Const) and type(value.value) in NARROW:
                    number, kind = value.value, NARROW[type(value.value)]
                    if -128 <= number < 128 and kind(number) == number:
                        value.value = kind(number)
        return True


class Compiler(CompilerBase):  # type: ignore[misc]
    """Numba's compiler with weak literals."""

    def define_pipelines(self) -> list[Any]:
        """Return the passes of nopython mode, with :class:`WeakLiterals` added."""
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.add_pass_after(WeakLiterals, IRProcessing)
        passes.finalize()
        return [passes]


KERNEL: dict[str, Any] = {
    "error_model": "numpy",
    "nogil": True,
    "fastmath": {"contract"},  # allow a b + c with one rounding; keep the order of operations
    "pipeline_class": Compiler,
    "no_cfunc_wrapper": True,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "kernel": KERNEL,
    "inlined": KERNEL | {"forceinline": True, "no_cpython_wrapper": True},
    "summation": KERNEL | {"fastmath": {"contract", "reassoc", "nsz"}},  # sums in any order
}
"""Options of numba for each decorator of ``functions.py``."""

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

inline: Decorator = numba.njit(**OPTIONS["inlined"])
"""Decorator for a function that compiled functions call."""

implements: Callable[..., Decorator] = partial(
    overload, jit_options=OPTIONS["inlined"], strict=False
)
"""Decorator for a function that takes argument types and returns the function to compile for
them."""


def register(name: Callable[..., Any], function: Callable[..., Any], options: str) -> None:
    """Compile ``function`` where a kernel calls ``name``."""
    overload(name, jit_options=OPTIONS[options], strict=False)(lambda *args: function)


@cache
def announce(compiled_before: bool) -> None:
    """Log once, to standard error by default, that the first use takes long."""
    if not compiled_before and parent_process() is None:
        message = "compiling kernels for this machine: the first use may take half a minute"
        logging.getLogger("numpy_xlstm").warning(message)


class CheckedFiles(IndexDataCacheFile):  # type: ignore[misc]
    """Numba's files with the compiled code of a kernel, with checksums.

    Each signature on each kind of processor has a file of its own, and there is no index. A file
    ends with a hash of the code and of the sources that it was compiled from. With another hash it
    is damaged or out of date, and is replaced.
    """

    def load(self, key: Any) -> Any:
        """Return the code for a key, or None."""
        name = self.name(key)
        with suppress(OSError):
            content = Path(self._data_path(name)).read_bytes()
            if content[-32:] == self.hash(content[:-32]):
                return self._load_data(name)
        announce(any(Path(self._cache_path).glob("*.nbc")))
        return None

    def save(self, key: Any, code: Any) -> None:
        """Write the code for a key."""
        self._save_data(self.name(key), code)

    def name(self, key: Any) -> str:
        """Return the name of the file for a key."""
        return self._data_name(int(sha256(repr(key).encode()).hexdigest()[:16], 16))  # type: ignore[no-any-return]

    def hash(self, code: bytes) -> bytes:
        """Return the hash at the end of a file, 32 bytes."""
        return sha256(self._source_stamp + self._version.encode() + code).digest()

    def _dump(self, code: Any) -> bytes:
        """Return the content of a file."""
        content: bytes = super()._dump(code)
        return content + self.hash(content)


def dispatcher(function: Callable[..., Any], options: str) -> Callable[..., Any]:
    """Return numba's dispatcher of a kernel, with a cache on disk."""
    compiled: Any = numba.njit(function, **OPTIONS[options])
    compile_now = compiled.compile
    try:
        compiled.enable_caching()
    except RuntimeError:  # no folder can be written to: every process compiles again
        return compiled  # type: ignore[no-any-return]
    kept, name = compiled._cache, compiled._cache._impl.filename_base
    kept._cache_file = CheckedFiles(kept.cache_path, name, source_hash(function.__module__))

    def compile_once(signature: Any) -> Any:
        """Compile or load the kernel, while no other process does this."""
        with lock(Path(kept.cache_path, f"{name}.lock")):
            try:
                return compile_now(signature)
            except OSError:  # a full disk: numba keeps the code before it writes, and now finds it
                return compile_now(signature)

    compiled.compile = compile_once
    return compiled  # type: ignore[no-any-return]


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the lock of a file, or do without it after :data:`LONGEST_WAIT`."""
    with ExitStack() as stack:
        with suppress(OSError, ImportError):  # the folder is read-only; Windows has no such locks
            import fcntl

            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)  # other users cannot lock it
            stack.callback(os.close, file)
            stack.callback(fcntl.flock, file, fcntl.LOCK_UN)  # a forked process has it open too
            for _ in range(int(20 * LONGEST_WAIT)):
                with suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(0.05)
            else:
                message = "another process has held %s for %g s: compiling without waiting for it"
                logging.getLogger("numpy_xlstm").warning(message, path, LONGEST_WAIT)
        yield


@cache
def source_hash(module: str) -> bytes:
    """Hash the files that a kernel is compiled from.

    They are its module, this one, ``elementary.py``, ``activations.py``, and all modules of this
    package whose functions one of them uses.
    """
    package = __name__.rpartition(".")[0]
    modules = [module, __name__, f"{package}.elementary", activations.__name__]
    for name in modules:  # the loop appends to this list
        values = vars(sys.modules[name]).values()
        used = {getattr(value, "__module__", getattr(value, "__name__", "")) for value in values}
        modules += sorted({str(n) for n in used if str(n).startswith(package)} - {*modules})
    files = (Path(str(sys.modules[name].__file__)) for name in sorted(modules))
    return sha256(b"".join(sha256(file.read_bytes()).digest() for file in files)).digest()
