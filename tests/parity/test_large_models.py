"""xLSTMLarge compared with the package ``xlstm``: names, logits, gradients, steps, states.

Where the official code is inconsistent, a test documents the behaviour chosen here.
"""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm import xLSTMLarge, xLSTMLargeConfig
from numpy_xlstm.numerics import Array
from tests.models.build import assert_close, draw_tokens, flat, large_config, make
from tests.parity.models import (
    LOGITS,
    REASON,
    assert_same_gradients,
    from_zero,
    torch,
    with_weights,
)

large = pytest.importorskip("xlstm.xlstm_large.model", reason=REASON, exc_type=ImportError)

LARGE: dict[str, dict[str, Any]] = {
    f"{mode}{'-bias' if bias else ''}": {"weight_mode": mode, "use_bias": bias}
    for mode in ("single", "fused")
    for bias in (False, True)
}


def large_pair(mode: Any = "train", **options: Any) -> tuple[xLSTMLarge, Any]:
    """Chunks of 16, the smallest size that theirs supports."""
    kernels = {
        "chunkwise_kernel": "chunkwise--native_autograd",
        "sequence_kernel": "native_sequence__native",
        "step_kernel": "native",
        "autocast_kernel_dtype": "float64",
        "inference_state_dtype": "float64",
        "norm_reduction_force_float32": False,
        "return_last_states": True,
        "mode": mode,
    }
    sizes = {"embedding_dim": 32, "chunk_size": 16}
    ours = make(large_config(**(sizes | kernels | options)), scale=0.3)
    assert isinstance(ours, xLSTMLarge)
    theirs = large.xLSTMLarge(large.xLSTMLargeConfig(**ours.config.to_dict()))
    return ours, with_weights(theirs, ours)


def large_state(state: dict[int, Any], ours: xLSTMLarge) -> dict[str, Array]:
    """Theirs divides q by √DK and ours k: their C and n are √DK times ours."""
    root = np.sqrt(ours.config.qk_dim // ours.config.num_heads)
    found: dict[str, Array] = {}
    for n, (C, vector, m) in state.items():
        arrays = {"C": C / root, "n": vector / root, "m": m[..., 0]}
        found |= {f"state.{n}.{key}": a.detach().numpy() for key, a in arrays.items()}
    return found


@pytest.mark.parametrize("name", list(LARGE))
def test_large_in_training(name: str) -> None:
    """Logits, gradients and last states; theirs starts from m = 0 here."""
    ours, theirs = large_pair(**LARGE[name])
    tokens = draw_tokens(32)
    logits, state = theirs(torch.tensor(tokens))
    assert_same_gradients(ours, theirs, tokens, logits, from_zero(ours))
    after = ours(tokens, from_zero(ours))[1]
    assert_close(flat(after), large_state(state, ours), LOGITS)


def test_large_from_the_empty_state_differs_by_eps_only() -> None:
    """Their chunkwise form starts from m = 0, the xLSTM paper's sequence from m = −inf.

    Ours starts both from m = −inf. This matters only through ε = 1e-6, not with ε = 0.
    """
    for eps, tolerance in ((1e-6, 1e-6), (0.0, LOGITS)):
        ours, theirs = large_pair(eps=eps)
        tokens = draw_tokens(32)
        with torch.no_grad():
            expected = theirs(torch.tensor(tokens))[0].numpy()
        assert_close({"logits": ours(tokens)[0]}, {"logits": expected}, tolerance)


@pytest.mark.parametrize("name", list(LARGE))
def test_large_in_inference(name: str) -> None:
    """A prefill, which theirs splits into kernels, then steps."""
    ours, theirs = large_pair("inference", **LARGE[name])
    tokens = draw_tokens(38)
    with torch.no_grad():
        expected, state = theirs(torch.tensor(tokens[:, :32]))
        logits, now = ours(tokens[:, :32], from_zero(ours))
        assert_close({"logits": logits}, {"logits": expected.numpy()}, LOGITS)
        assert_close(flat(now), large_state(state, ours), LOGITS)
        for t in range(32, 38):
            expected, state = theirs(torch.tensor(tokens[:, t : t + 1]), state)
            logits, now = ours(tokens[:, t : t + 1], now)
            assert_close({"logits": logits}, {"logits": expected.numpy()}, LOGITS)
    assert_close(flat(now), large_state(state, ours), LOGITS)


def test_large_forgets_a_little_in_a_padded_prefill() -> None:
    """A prefill that is not a multiple of a chunk is padded, with a forget gate slightly below 1.

    Each step of padding reduces their m by 1.4e-11. Their decode steps and ours have no padding.
    """
    ours, theirs = large_pair("inference")
    tokens, by_step = draw_tokens(33), None
    with torch.no_grad():
        expected, padded = theirs(torch.tensor(tokens))
        for t in range(33):
            _, by_step = theirs(torch.tensor(tokens[:, t : t + 1]), by_step)
    logits, now = ours(tokens, from_zero(ours))
    assert by_step is not None
    assert_close({"logits": logits}, {"logits": expected.numpy()}, LOGITS)
    assert_close(flat(now), large_state(by_step, ours), LOGITS)
    lost = flat(now)["state.0.m"] - large_state(padded, ours)["state.0.m"]
    np.testing.assert_allclose(lost, 15 * np.log1p(np.exp(-25.0)), rtol=1e-3)


def test_large_does_not_change_the_state_that_it_is_given() -> None:
    """Theirs overwrites the given state; ours does not."""
    ours, theirs = large_pair("inference")
    tokens = draw_tokens(4)
    with torch.no_grad():
        _, state = theirs(torch.tensor(tokens))
        before = state[0][0].clone()
        theirs(torch.tensor(tokens), state)
    assert (state[0][0] != before).any()
    _, now = ours(tokens)
    kept = now[0].C.copy()
    ours(tokens, now)
    np.testing.assert_array_equal(now[0].C, kept)


def test_large_as_it_is_used_in_float32() -> None:
    """Compare with their defaults, float32 norms and states."""
    kernels = {
        "autocast_kernel_dtype": "float32",
        "inference_state_dtype": "float32",
        "norm_reduction_force_float32": True,
    }
    ours, theirs = large_pair("inference", **kernels)
    tokens = draw_tokens(39)
    with torch.no_grad():
        expected, state = theirs.float()(torch.tensor(tokens))
        step = theirs(torch.tensor(tokens[:, :1]), state)[0].numpy()
    narrow = ours.astype(np.float32)
    logits, now = narrow(tokens)
    assert logits.dtype == np.float32
    assert_close({"logits": logits}, {"logits": expected.numpy()}, 1e-5)
    assert_close({"logits": narrow(tokens[:, :1], now)[0]}, {"logits": step}, 1e-5)


def test_the_official_default_of_large_has_the_same_names() -> None:
    """Compare both layouts, with and without biases, and without the last norm."""
    for options in (*LARGE.values(), {"add_out_norm": False}):
        config = xLSTMLargeConfig(
            embedding_dim=8,
            num_heads=2,
            num_blocks=1,
            vocab_size=3,
            **options,
        )
        theirs = large.xLSTMLarge(large.xLSTMLargeConfig(**config.to_dict()))
        shapes = {name: tuple(array.shape) for name, array in theirs.state_dict().items()}
        ours = xLSTMLarge(config).state_dict()
        assert {name: array.shape for name, array in ours.items()} == shapes
