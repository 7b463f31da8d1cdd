"""What all forms of mLSTM take: checked arrays, states and cotangents."""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, TypeVar

import numpy as np

from numpy_xlstm.cells.mlstm.gates import Options, log_gates, log_gates_backward
from numpy_xlstm.cells.padding import check_lengths, padding
from numpy_xlstm.cells.states import mLSTMState
from numpy_xlstm.errors import ShapeError
from numpy_xlstm.numerics import Array, check_array, entries


class Inputs(NamedTuple):
    """q, k (B, NH, T, DK), v (B, NH, T, DV) and pre-activations i, f (B, NH, T)."""

    q: Array
    k: Array
    v: Array
    i: Array
    f: Array
    padding: Array | None = None
    """True at steps that are not there, (B, 1, T); None if there are none."""

    @property
    def arrays(self) -> tuple[Array, Array, Array, Array, Array]:
        """What the padding pads."""
        return self.q, self.k, self.v, self.i, self.f

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        """B, NH, T, DK, DV."""
        B, NH, T, DK = self.q.shape
        return B, NH, T, DK, self.v.shape[-1]

    def steps(self, start: int, stop: int) -> "Inputs":
        """Some of the steps, as views."""
        padding = None if self.padding is None else self.padding[:, :, start:stop]
        q, k, v, i, f = (array[:, :, start:stop] for array in self.arrays)
        return Inputs(q, k, v, i, f, padding)

    def at(self, place: "Place") -> "Inputs":
        """Some of the rows and heads, as views."""
        padding = None if self.padding is None else self.padding[place[0]]
        q, k, v, i, f = (array[place] for array in self.arrays)
        return Inputs(q, k, v, i, f, padding)


Cache = TypeVar("Cache")

Gradients = tuple[Array, Array, Array, Array, Array, mLSTMState]
"""Of q, k, v, i, f and of the state before the first step."""

Place = tuple[slice, slice]
"""Some batch rows and some heads."""


class MemoryInputs(NamedTuple):
    """What the memory of mLSTM is given, or the gradients of it."""

    q: Array
    k: Array
    """Divided by √DK."""
    v: Array
    log_i: Array
    """−inf at a step that is not there."""
    log_f: Array
    """0 at a step that is not there."""


def check_inputs(
    q: Array, k: Array, v: Array, i: Array, f: Array, lengths: Array | None = None
) -> Inputs:
    """Return the inputs, or raise an error that names the one which does not fit."""
    check_array("q", q, ("batch", "heads", "time", "DK"))
    B, NH, T, DK = q.shape
    check_array("k", k, (B, NH, T, DK), q.dtype)
    check_array("v", v, (B, NH, T, "DV"), q.dtype)
    check_array("i", i, (B, NH, T), q.dtype)
    check_array("f", f, (B, NH, T), q.dtype)
    if 0 in (B, NH, DK, v.shape[-1]):
        raise ShapeError(
            f"q, v: expected at least 1 along batch, heads, DK and DV; got {q.shape}, {v.shape}"
        )
    if lengths is None:
        return Inputs(q, k, v, i, f)
    return Inputs(q, k, v, i, f, padding_of(check_lengths(lengths, B, T), T))


def padding_of(lengths: Array, T: int) -> Array:
    """True at steps that are not there, (B, 1, T)."""
    return padding(lengths, T).T[:, None]


def check_cotangents(
    dh: Array, dstate: Sequence[Any] | None, inputs: Inputs, options: Options
) -> mLSTMState:
    """Check both cotangents and return that of the state."""
    B, NH, T, _, DV = inputs.sizes
    check_array("dh", dh, (B, NH, T, DV), inputs.q.dtype)
    return check_state("dstate", dstate, inputs, options)


def to_memory(inputs: Inputs, options: Options) -> MemoryInputs:
    """Divide the keys by √DK, and take the logarithms of the gates."""
    q, k, v, i, f, padding = inputs
    log_i, log_f = log_gates(i, f, options)
    if padding is not None:
        q, k, v = (np.where(padding[..., None], 0, array) for array in (q, k, v))
        log_i, log_f = np.where(padding, -np.inf, log_i), np.where(padding, 0, log_f)
    return MemoryInputs(q, scale_keys(k), v, log_i, log_f)


def to_memory_backward(
    d: MemoryInputs, inputs: Inputs, options: Options
) -> tuple[Array, Array, Array, Array, Array]:
    """Gradients of q, k, v and the pre-activations i, f; that of k replaces ``d.k``."""
    di, df = log_gates_backward(d.log_i, d.log_f, inputs.i, inputs.f, options)
    if inputs.padding is not None:
        di, df = np.where(inputs.padding, 0, di), np.where(inputs.padding, 0, df)
    return d.q, unscale_key_gradient(d.k), d.v, di, df


def scale_keys(k: Array) -> Array:
    """K / √DK, so that the factor is inside C and n  [mlstm.3]."""
    scaled: Array = k * key_scale(k.shape[-1], k.dtype)
    return scaled


def unscale_key_gradient(dk: Array) -> Array:
    """Gradient of k from that of k / √DK, which it replaces."""
    dk *= key_scale(dk.shape[-1], dk.dtype)
    return dk


@cache
def key_scale(DK: int, dtype: np.dtype[Any]) -> Any:
    """1/√DK in the precision of ``dtype``."""
    return 1 / np.sqrt(np.finfo(dtype).dtype.type(DK))


def empty_state(
    B: int, NH: int, DK: int, DV: int, dtype: np.dtype[Any], options: Options
) -> mLSTMState:
    """C = n = 0 and m = −inf."""
    C = np.zeros((B, NH, DK, DV), dtype)
    if not options.normalised:
        return mLSTMState(C, None, None)
    return mLSTMState(C, np.zeros((B, NH, DK), dtype), np.full((B, NH), -np.inf, dtype))


def own(state: mLSTMState) -> mLSTMState:
    """The same state in arrays that nobody else holds."""
    n, m = (None if array is None else array.copy() for array in state[1:])
    return mLSTMState(state.C.copy(), n, m)


def with_own_state(h: Array, state: mLSTMState, cache: Cache) -> tuple[Array, mLSTMState, Cache]:
    """What a forward returns, its state in arrays that the cache does not hold."""
    return h, own(state), cache


def at(state: mLSTMState, index: tuple[slice, ...]) -> mLSTMState:
    """Part of a state, as views."""
    n, m = (None if array is None else array[index] for array in state[1:])
    return mLSTMState(state.C[index], n, m)


def put(part: mLSTMState, state: mLSTMState, index: tuple[slice, ...]) -> None:
    """Write a part of a state."""
    for array, value in zip(state, part, strict=True):
        if array is not None:
            array[index] = value


def check_state(
    name: str, state: Sequence[Any] | None, inputs: Inputs, options: Options
) -> mLSTMState:
    """Return the state or its cotangent, or raise an error that says what it should have been.

    For ``None`` that is the empty state, or a cotangent of zero if ``name`` is "dstate".
    """
    B, NH, _, DK, DV = inputs.sizes
    dtype = inputs.q.dtype
    is_cotangent = name == "dstate"
    if state is None:
        empty = empty_state(B, NH, DK, DV, dtype, options)
        if is_cotangent and empty.m is not None:
            empty.m[...] = 0
        return empty
    if not isinstance(state, tuple | list) or len(state) != 3:
        raise ShapeError(f"{name}: expected a tuple (C, n, m); got {entries(state)}")
    C, n, m = state
    check_array(f"{name}.C", C, (B, NH, DK, DV), dtype)
    if not options.normalised:
        if n is not None or m is not None:
            raise ShapeError(f"{name}: expected n = m = None with a sigmoid input gate; got arrays")
        return mLSTMState(C, None, None)
    check_array(f"{name}.n", n, (B, NH, DK), dtype)
    check_array(f"{name}.m", m, (B, NH), dtype, allow_minus_inf=not is_cotangent)
    return mLSTMState(C, n, m)
