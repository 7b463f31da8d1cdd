"""mLSTM chunk by chunk: parallel inside of a chunk, recurrent from chunk to chunk."""

from collections.abc import Sequence
from itertools import pairwise

from numpy_xlstm.cells.mlstm.gates import check_options
from numpy_xlstm.cells.mlstm.inputs import (
    Gradients,
    Inputs,
    check_cotangents,
    check_inputs,
    check_state,
    own,
    with_own_state,
)
from numpy_xlstm.cells.mlstm.pieces import Piece, PiecesCache, run, run_backward
from numpy_xlstm.cells.states import mLSTMState
from numpy_xlstm.numerics import Array, check_positive
from numpy_xlstm.signatures import check_returned_by

CHUNK_SIZE = 64
"""Steps per chunk, unless told."""

GROUP_SIZE = 2**19
"""Entries of the matrices D̃ of one group: few, to stay near the processor; enough, to be fast."""


def mlstm_chunkwise(
    q: Array,
    k: Array,
    v: Array,
    i: Array,
    f: Array,
    state: Sequence[Array | None] | None = None,
    *,
    lengths: Array | None = None,
    chunk_size: int = CHUNK_SIZE,
    eps: float = 1e-6,
    forget_gate: str = "sigmoid",
    input_gate: str = "exp",
) -> tuple[Array, mLSTMState, PiecesCache]:
    """mLSTM, chunk by chunk: :func:`mlstm_parallel` within a chunk, a state from one to the next.

    ::

        C_L = Σ_j e^(D̃_Lj − m_L) k_j v_jᵀ / √DK + e^(b_L + m_0 − m_L) C_0
        n_L = Σ_j e^(D̃_Lj − m_L) k_j / √DK      + e^(b_L + m_0 − m_L) n_0

    for chunks of L = ``chunk_size`` steps, with D̃, b and m as in :func:`mlstm_parallel`, counted
    from the beginning of the chunk. The result is that of :func:`mlstm_recurrent`.

    Time grows as T·(L·(DK + DV) + DK·DV). What the backward needs are the inputs, the state before
    each chunk and the weights within it: T·(2 DK + DV + L) + (T/L)·DK·DV numbers per batch row and
    head.

    Parameters
    ----------
    q, k, v, i, f, state, lengths, eps, forget_gate, input_gate
        As in :func:`mlstm_recurrent`.
    chunk_size : int, default 64
        Steps per chunk, L ≥ 1. T need not be a multiple.

    Returns
    -------
    h : np.ndarray
        Outputs, shape (B, NH, T, DV).
    state : mLSTMState
        State after the last step.
    cache : PiecesCache
        What :func:`mlstm_chunkwise_backward` needs. It refers to the inputs: do not change them
        before the backward.

    Raises
    ------
    ShapeError, DTypeError, NonFiniteError, OptionError
        If an argument is not as described.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import mlstm_chunkwise, mlstm_recurrent
    >>> rng = np.random.default_rng(0)
    >>> q, k, v = rng.standard_normal((3, 1, 2, 50, 4))
    >>> i, f = rng.standard_normal((2, 1, 2, 50))
    >>> h, state, cache = mlstm_chunkwise(q, k, v, i, f, chunk_size=16)
    >>> np.allclose(h, mlstm_recurrent(q, k, v, i, f)[0], rtol=0, atol=1e-14)
    True
    """
    options = check_options(eps, forget_gate, input_gate)
    L = check_positive("chunk_size", chunk_size)
    inputs = check_inputs(q, k, v, i, f, lengths)
    start = own(check_state("state", state, inputs, options))
    return with_own_state(*run(inputs, start, options, cut(inputs, L)))


def mlstm_chunkwise_backward(
    dh: Array, cache: PiecesCache, dstate: Sequence[Array | None] | None = None
) -> Gradients:
    """Vector-Jacobian product of :func:`mlstm_chunkwise`.

    Arguments, results and errors are those of :func:`mlstm_recurrent_backward`.
    """
    check_returned_by("mlstm_chunkwise", cache, PiecesCache)
    return run_backward(dh, cache, check_cotangents(dh, dstate, cache.inputs, cache.options))


def cut(inputs: Inputs, L: int) -> tuple[Piece, ...]:
    """Groups of whole chunks of L steps, and what is left over as one shorter chunk."""
    B, NH, T, _, _ = inputs.sizes
    steps = L * max(1, GROUP_SIZE // (B * NH * L * L))
    whole = T - T % L
    stops = [min(start + steps, whole) for start in range(0, whole, steps)]
    pieces = [Piece(a, b, a // L, (b - a) // L) for a, b in pairwise([0, *stops])]
    return (*pieces, Piece(whole, T, T // L, 1)) if whole < T else tuple(pieces)
