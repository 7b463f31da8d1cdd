"""mLSTM all at once: the parallel form, one chunk as long as the sequence."""

from collections.abc import Sequence

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
from numpy_xlstm.numerics import Array
from numpy_xlstm.signatures import check_returned_by


def mlstm_parallel(
    q: Array,
    k: Array,
    v: Array,
    i: Array,
    f: Array,
    state: Sequence[Array | None] | None = None,
    *,
    lengths: Array | None = None,
    eps: float = 1e-6,
    forget_gate: str = "sigmoid",
    input_gate: str = "exp",
) -> tuple[Array, mLSTMState, PiecesCache]:
    """mLSTM, all steps at once.

    ::

        D̃_ij = log f_{j+1} + … + log f_i + ĩ_j  for j ≤ i, else −inf
        m_i  = max(b_i + m_0, max_j D̃_ij)  with  b_i = log f_1 + … + log f_i
        S_ij = (q_i·k_j / √DK) e^(D̃_ij − m_i);  q̄_i = q_i e^(b_i + m_0 − m_i)
        h_i  = (Σ_j S_ij v_j + C_0ᵀ q̄_i) / (max(|Σ_j S_ij + q̄_i·n_0|, e^(−m_i)) + eps)

    (xLSTM paper, Eqs 71–86, with an initial state and eps.)
    The result is that of :func:`mlstm_recurrent`. Time and memory grow as T²: a few matrices of
    B·NH·T² entries exist at once. For a long sequence see :func:`mlstm_chunkwise`.

    Parameters
    ----------
    q, k, v, i, f, state, lengths, eps, forget_gate, input_gate
        As in :func:`mlstm_recurrent`.

    Returns
    -------
    h : np.ndarray
        Outputs, shape (B, NH, T, DV).
    state : mLSTMState
        State after the last step.
    cache : PiecesCache
        What :func:`mlstm_parallel_backward` needs. It refers to the inputs: do not change them
        before the backward.

    Raises
    ------
    ShapeError, DTypeError, NonFiniteError, OptionError
        If an argument is not as described.

    Notes
    -----
    The paper's parallel form has no initial state and no final one; the terms with index 0 are
    derived in ``docs/derivations/mlstm-forms.md``.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import mlstm_parallel, mlstm_recurrent
    >>> rng = np.random.default_rng(0)
    >>> q, k, v = rng.standard_normal((3, 1, 2, 5, 4))
    >>> i, f = rng.standard_normal((2, 1, 2, 5))
    >>> h, state, cache = mlstm_parallel(q, k, v, i, f)
    >>> np.allclose(h, mlstm_recurrent(q, k, v, i, f)[0], rtol=0, atol=1e-14)
    True
    """
    options = check_options(eps, forget_gate, input_gate)
    inputs = check_inputs(q, k, v, i, f, lengths)
    start = own(check_state("state", state, inputs, options))
    return with_own_state(*run(inputs, start, options, uncut(inputs)))


def mlstm_parallel_backward(
    dh: Array, cache: PiecesCache, dstate: Sequence[Array | None] | None = None
) -> Gradients:
    """Vector-Jacobian product of :func:`mlstm_parallel`.

    Arguments, results and errors are those of :func:`mlstm_recurrent_backward`.
    """
    check_returned_by("mlstm_parallel", cache, PiecesCache)
    return run_backward(dh, cache, check_cotangents(dh, dstate, cache.inputs, cache.options))


def uncut(inputs: Inputs) -> tuple[Piece, ...]:
    """All steps as one chunk."""
    T = inputs.q.shape[2]
    return (Piece(0, T, 0, 1),) if T else ()
