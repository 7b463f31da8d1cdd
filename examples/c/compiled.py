"""The sLSTM in C as a Python layer through ctypes, for gradcheck and the conformance kit.

``make && python compiled.py`` checks its backward.
"""

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm import gradcheck, sLSTMState

LIBRARY = Path(__file__).parent / "libslstm.so"
REAL = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
"""Names of dtypes in C."""


def structure(name: str, **fields: Any) -> Any:
    """Make a C structure with these fields."""
    return type(name, (ctypes.Structure,), {"_fields_": list(fields.items())})


SIZE, POINTER = ctypes.c_size_t, ctypes.c_void_p
PARAMS = dict.fromkeys(("W", "R", "b"), POINTER)
Cell = structure("slstm", D=SIZE, H=SIZE, NH=SIZE, exp_forget=ctypes.c_int, **PARAMS)
State = structure("slstm_state", **dict.fromkeys("hcnm", POINTER))
Grads = structure("slstm_grads", **PARAMS)


class Cache(NamedTuple):
    """Residuals for the backward."""

    x: Any
    lengths: Any
    kept: Any


class CompiledSLSTM:
    """An sLSTM over a sequence, computed in C.

    Parameters
    ----------
    params : Mapping[str, np.ndarray]
        W (4·H, D), R (NH, 4·DH, DH) and b (4·H,), of float32 or float64.
    forget_gate : {"sigmoid", "exp"}
        Activation of the forget gate.
    library : Path
        The shared library.
    """

    def __init__(
        self, params: Mapping[str, Any], forget_gate: str = "sigmoid", library: Path = LIBRARY
    ) -> None:
        self.params = {name: np.ascontiguousarray(a) for name, a in params.items()}
        if (dtype := self.params["W"].dtype) not in REAL:
            raise TypeError(f"params: expected float32 or float64; got {dtype}")
        self.forget_gate, self.library = forget_gate, library
        self._functions = ctypes.CDLL(str(library))

    def with_params(self, params: Mapping[str, Any]) -> "CompiledSLSTM":
        """Return the same layer with other parameters."""
        return CompiledSLSTM(params, self.forget_gate, self.library)

    def forward(
        self, x: Any, state: Any = None, lengths: Any = None
    ) -> tuple[Any, sLSTMState, Cache]:
        """Run over x (B, T, D) from a state, by default the empty state."""
        dtype, (B, T, _), H = self.params["W"].dtype, x.shape, len(self.params["b"]) // 4
        if x.dtype != dtype:
            raise TypeError(f"x: expected dtype {dtype}; got {x.dtype}")
        x = np.ascontiguousarray(x)
        y, final = np.empty((B, T, H), dtype), sLSTMState(*np.empty((4, B, H), dtype))
        if state is None:
            self._call("empty", B, pointers(State, final))
        else:
            for to, given in zip(final, state, strict=True):
                to[...] = given
        kept = np.empty((B, T, H, self._function("kept_size")()), np.uint8)
        self._call("forward", B, T, at(x), at(lengths), pointers(State, final), at(y), at(kept))
        return y, final, Cache(x, lengths, kept)

    def backward(
        self, dy: Any, cache: Cache, dstate: Any = None
    ) -> tuple[Any, sLSTMState, dict[str, Any]]:
        """Return the gradients of x, of the first state and of the parameters."""
        x, lengths, kept = cache
        dy = np.ascontiguousarray(dy)
        dx, grads = np.empty_like(x), {n: np.zeros_like(a) for n, a in self.params.items()}
        dstate0 = sLSTMState(*np.zeros((4, len(x), dy.shape[-1]), x.dtype))
        if dstate is not None:
            for to, given in zip(dstate0, dstate, strict=True):
                to[...] = given
        state, params = pointers(State, dstate0), pointers(Grads, grads.values())
        sizes = (len(x), x.shape[1])
        self._call("backward", *sizes, at(x), at(lengths), at(kept), at(dy), state, at(dx), params)
        return dx, dstate0, grads

    def _function(self, name: str) -> Any:
        found = self._functions[f"slstm_{name}_{REAL[self.params['W'].dtype]}"]
        found.restype = ctypes.c_size_t if name == "kept_size" else None
        return found

    def _call(self, name: str, *arguments: Any) -> None:
        W, R, b = (self.params[name] for name in ("W", "R", "b"))
        sizes = W.shape[1], len(b) // 4, len(R), self.forget_gate == "exp"
        cell = Cell(*sizes, *map(at, (W, R, b)))
        counts = (ctypes.c_size_t(a) if isinstance(a, int) else a for a in arguments)
        self._function(name)(ctypes.byref(cell), *counts)


def at(array: Any) -> Any:
    """Return the address of an array; NULL for None."""
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


def pointers(kind: Any, arrays: Any) -> Any:
    """Return a structure with the addresses of arrays."""
    return kind(*(array.ctypes.data for array in arrays))


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    shapes = {"W": (32, 3), "R": (2, 16, 4), "b": (32,)}
    layer = CompiledSLSTM({n: rng.standard_normal(s) / 2 for n, s in shapes.items()})
    print(gradcheck(layer, rng.standard_normal((2, 4, 3)), rng=0))
