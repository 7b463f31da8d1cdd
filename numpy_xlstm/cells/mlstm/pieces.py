"""A sequence as groups of chunks: how parallel and chunkwise form cut it and put it together."""

from typing import NamedTuple

import numpy as np

from numpy_xlstm.cells.mlstm.chunk import Weights, backward, forward
from numpy_xlstm.cells.mlstm.gates import Options
from numpy_xlstm.cells.mlstm.inputs import (
    Gradients,
    Inputs,
    MemoryInputs,
    Place,
    at,
    own,
    put,
    to_memory,
    to_memory_backward,
)
from numpy_xlstm.cells.mlstm.step import enter_backward, leave_backward
from numpy_xlstm.cells.padding import without_padding
from numpy_xlstm.cells.states import mLSTMState
from numpy_xlstm.numerics import Array
from numpy_xlstm.numerics.threads import num_threads, parallel_map, spread

WORTH_THREADS = 2**20
"""Numbers in q and v from which on several threads are faster than one."""


class Piece(NamedTuple):
    """Steps ``start`` to ``stop``, as some chunks of equal length."""

    start: int
    stop: int
    first: int
    """Number of its first chunk."""
    chunks: int

    @property
    def which(self) -> slice:
        """The numbers of its chunks."""
        return slice(self.first, self.first + self.chunks)

    def cut(self, array: Array) -> Array:
        """These steps of (B, NH, T, …), as (B, NH, G, L, …)."""
        B, NH, _, *rest = array.shape
        steps = self.stop - self.start
        part = array[:, :, self.start : self.stop]
        return part.reshape(B, NH, self.chunks, steps // self.chunks, *rest)

    def paste(self, part: Array, array: Array) -> None:
        """Write (B, NH, G, L, …) to these steps of ``array``: the inverse of :meth:`cut`."""
        steps = array[:, :, self.start : self.stop]
        steps[...] = part.reshape(steps.shape)


class PiecesCache(NamedTuple):
    """What the backward of a form made of chunks needs."""

    inputs: Inputs
    """As given."""
    options: Options
    pieces: tuple[Piece, ...]
    places: list[Place]
    """Which rows and heads went together."""
    before: mLSTMState
    """The states before each chunk, stacked along axis 2."""
    weights: tuple[tuple[Weights, ...], ...]
    """What each step has left of the others, for each place and piece."""
    first: mLSTMState
    last: mLSTMState


def run(
    inputs: Inputs, state: mLSTMState, options: Options, pieces: tuple[Piece, ...]
) -> tuple[Array, mLSTMState, PiecesCache]:
    """Go through the pieces in order."""
    h = np.empty_like(inputs.v)
    before = _stacked(state, sum(piece.chunks for piece in pieces))
    last = own(state)

    def go(place: Place) -> tuple[Weights, ...]:
        now, here, found = at(state, place), inputs.at(place), []
        for piece in pieces:
            states = at(before, (*place, piece.which))
            part, now, w = forward(_chunks(here, piece, options), now, states, options.eps)
            piece.paste(part, h[place])
            found.append(w)
        put(now, last, place)
        return tuple(found)

    places = _places(inputs)
    weights = tuple(parallel_map(go, places))
    cache = PiecesCache(inputs, options, pieces, places, before, weights, state, last)
    return without_padding(h, inputs.padding), last, cache


def run_backward(dh: Array, cache: PiecesCache, dstate: mLSTMState) -> Gradients:
    """Go back through the pieces."""
    inputs, options, pieces, places, before, weights, first, last = cache
    dh = without_padding(dh, inputs.padding)
    grads = MemoryInputs(*(np.empty_like(array) for array in inputs.arrays))
    dfirst = own(dstate)

    def go(n: int) -> None:
        place = places[n]
        here = inputs.at(place)
        d = enter_backward(at(dstate, place), at(last, place))
        for piece, w in zip(reversed(pieces), reversed(weights[n]), strict=True):
            chunks, states = _chunks(here, piece, options), at(before, (*place, piece.which))
            parts, d = backward(piece.cut(dh[place]), d, chunks, states, w, options.eps)
            for grad, part in zip(grads, parts, strict=True):
                piece.paste(part, grad[place])
        put(leave_backward(d, at(first, place)), dfirst, place)

    parallel_map(go, range(len(places)))
    return *to_memory_backward(grads, inputs, options), dfirst


def _places(inputs: Inputs) -> list[Place]:
    """Cut the heads, or the batch if it has more rows, into one part per thread."""
    B, NH, T, DK, DV = inputs.sizes
    count = num_threads() if B * NH * T * (DK + DV) >= WORTH_THREADS else 1
    if B > NH:
        return [(rows, slice(None)) for rows in spread(B, count)]
    return [(slice(None), heads) for heads in spread(NH, count)]


def _chunks(inputs: Inputs, piece: Piece, options: Options) -> MemoryInputs:
    steps = to_memory(inputs.steps(piece.start, piece.stop), options)
    here = Piece(0, piece.stop - piece.start, 0, piece.chunks)
    return MemoryInputs(*map(here.cut, steps))


def _stacked(state: mLSTMState, chunks: int) -> mLSTMState:
    """Make the arrays for one state per chunk."""

    def stacked(array: Array) -> Array:
        B, NH, *rest = array.shape
        return np.empty((B, NH, chunks, *rest), array.dtype)

    n, m = (None if array is None else stacked(array) for array in state[1:])
    return mLSTMState(stacked(state.C), n, m)
