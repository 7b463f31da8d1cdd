"""mLSTM all at once: the parallel form, one chunk as long as the sequence."""

from functools import partial
from typing import Any

from numpy_xlstm.cells.mlstm import mLSTMState
from numpy_xlstm.kernels.mlstm.chunkwise import ChunkwiseCache, chunks
from numpy_xlstm.kernels.mlstm.shared import Cache, Gradients, checked_backward, checked_run
from numpy_xlstm.numerics import Array


def mlstm_parallel(
    q: Array,
    k: Array,
    v: Array,
    i: Array,
    f: Array,
    state: Any = None,
    *,
    lengths: Array | None = None,
    eps: float = 1e-6,
    forget_gate: str = "sigmoid",
    input_gate: str = "exp",
) -> tuple[Array, mLSTMState, Cache]:
    """mLSTM, all steps at once.

    ::

        D̃_ij = log f_{j+1} + … + log f_i + ĩ_j  for j ≤ i, else −inf
        m_i  = max(b_i + m_0, max_j D̃_ij)  with  b_i = log f_1 + … + log f_i
        S_ij = (q_i·k_j / √DK) e^(D̃_ij − m_i);  q̄_i = q_i e^(b_i + m_0 − m_i)
        h_i  = (Σ_j S_ij v_j + C_0ᵀ q̄_i) / (max(|Σ_j S_ij + q̄_i·n_0|, e^(−m_i)) + eps)

    (xLSTM paper, Eqs 71–86, which have no terms with index 0: no initial state, and no eps).
    The result is that of :func:`mlstm_recurrent`. Time and memory grow as T²: a few matrices of
    B·NH·T² entries exist at once. For a long sequence see :func:`mlstm_chunkwise`.

    Parameters
    ----------
    q, k, v, i, f, state, lengths, eps, forget_gate, input_gate
        As in :func:`mlstm_recurrent`, and so are results and errors.

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
    form, options = partial(chunks, chunk_size=0), (eps, forget_gate, input_gate)
    return checked_run(form, (q, k, v, i, f), state, lengths, options)


def mlstm_parallel_backward(dh: Array, cache: Cache, dstate: Any = None) -> Gradients:
    """Vector-Jacobian product of :func:`mlstm_parallel`.

    Arguments, results and errors are those of :func:`mlstm_recurrent_backward`.
    """
    return checked_backward(dh, cache, dstate, ChunkwiseCache)
