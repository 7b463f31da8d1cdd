"""All forms of mLSTM compared with the native PyTorch forms of ``mlstm_kernels``.

They divide q by √DK and this package k, so that their C and n are √DK times ours; h is the same.
Their recurrent form starts from m = 0, and their parallel form from the empty state.
"""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    mlstm_chunkwise,
    mlstm_chunkwise_backward,
    mlstm_parallel,
    mlstm_parallel_backward,
    mlstm_recurrent,
    mlstm_recurrent_backward,
    mLSTMState,
)
from tests.variants import assert_close

FORMS: dict[str, tuple[Any, Any]] = {
    "recurrent": (mlstm_recurrent, mlstm_recurrent_backward),
    "parallel": (mlstm_parallel, mlstm_parallel_backward),
    "chunkwise": (mlstm_chunkwise, mlstm_chunkwise_backward),
}

torch = pytest.importorskip("torch", reason="PyTorch (the extra 'peers') is not installed")
recurrent = pytest.importorskip(
    "mlstm_kernels.torch.recurrent.native_sequence",
    reason="mlstm_kernels (the extra 'peers') is not installed",
    exc_type=ImportError,
)
parallel = pytest.importorskip("mlstm_kernels.torch.parallel.native", exc_type=ImportError)


def _inputs(seed: int, B: int, NH: int, T: int, DK: int, DV: int) -> tuple[list[Any], Any]:
    rng = np.random.default_rng(seed)
    q, k = rng.standard_normal((2, B, NH, T, DK))
    v, (i, f) = rng.standard_normal((B, NH, T, DV)), 2 * rng.standard_normal((2, B, NH, T))
    return [q, k, v, i, f], rng


SHAPES = [(1, 1, 1, 2, 2), (2, 2, 9, 3, 4), (1, 3, 33, 4, 2)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("zero", [True, False])
def test_their_recurrent_form(form: str, shape: tuple[int, int, int, int, int], zero: bool) -> None:
    forward, backward = FORMS[form]
    inputs, rng = _inputs(1, *shape)
    B, NH, _, DK, DV = shape
    sizes = ((B, NH, DK, DV), (B, NH, DK), (B, NH))
    state = mLSTMState(*(np.zeros(s) if zero else rng.standard_normal(s) for s in sizes))
    assert state.n is not None
    assert state.m is not None
    root = np.sqrt(DK)
    theirs = [torch.tensor(a, requires_grad=True) for a in inputs]
    start = [torch.tensor(a, requires_grad=True) for a in (state.C, state.n, state.m)]
    h, (C, n, m) = recurrent.mlstm_recurrent_sequence__native_fw(
        *theirs,
        c_initial=start[0] * root,
        n_initial=start[1] * root,
        m_initial=start[2][..., None],
        return_last_states=True,
        dtype_state=torch.float64,
    )
    q, k, v, i, f = inputs
    ours, last, cache = forward(q, k, v, i, f, state)
    found = (h, C / root, n / root, m[..., 0])
    assert_close((ours, *last), tuple(t.detach().numpy() for t in found), 1e-12)

    dh = rng.standard_normal(ours.shape)
    dstate = mLSTMState(*(rng.standard_normal(s) for s in sizes))
    cotangents = (dh, *dstate)
    sum((torch.tensor(c) * t).sum() for c, t in zip(cotangents, found, strict=True)).backward()
    *grads, dstate0 = backward(dh, cache, dstate)
    expected = tuple(t.grad.numpy() for t in theirs)
    assert_close(tuple(grads), expected, 1e-10, 1e-12)
    assert_close(tuple(dstate0), tuple(t.grad.numpy() for t in start), 1e-10, 1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_their_parallel_form(form: str, shape: tuple[int, int, int, int, int]) -> None:
    forward, backward = FORMS[form]
    inputs, rng = _inputs(2, *shape)
    theirs = [torch.tensor(a, requires_grad=True) for a in inputs]
    h = parallel.mlstm_parallel__native_autograd(*theirs)
    q, k, v, i, f = inputs
    ours, _, cache = forward(q, k, v, i, f)
    assert_close(ours, h.detach().numpy(), 1e-12)
    dh = rng.standard_normal(ours.shape)
    (torch.tensor(dh) * h).sum().backward()
    *grads, _ = backward(dh, cache)
    assert_close(tuple(grads), tuple(t.grad.numpy() for t in theirs), 1e-10, 1e-12)
