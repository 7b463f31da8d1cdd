"""Small models of every kind, with random numbers in every parameter and every state."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from numpy_xlstm import (
    GRU,
    LSTM,
    FeedForwardConfig,
    LayerNorm,
    gradcheck,
    mLSTM,
    mLSTMBlock,
    mLSTMBlockConfig,
    mLSTMLayer,
    mLSTMLayerConfig,
    sLSTM,
    sLSTMBlock,
    sLSTMBlockConfig,
    sLSTMLayer,
    sLSTMLayerConfig,
    xLSTMBlockStack,
    xLSTMLarge,
    xLSTMLargeBlock,
    xLSTMLargeConfig,
    xLSTMLMModel,
    xLSTMLMModelConfig,
)
from numpy_xlstm.gradcheck.report import Report
from numpy_xlstm.models import LanguageModel, xLSTMLargeLayer
from numpy_xlstm.models.blocks import ResidualBlock
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves
from tests.samples import times

V, B, T = 7, 2, 5

LARGE: dict[str, Any] = {"embedding_dim": 8, "num_heads": 2, "num_blocks": 1, "vocab_size": 3}
"""Required fields of the configuration of an xLSTMLarge."""

few = times(0.2)
"""A fifth of the examples of the profile: whole models are slow."""


def mlstm_block(**options: Any) -> mLSTMBlockConfig:
    sizes = {"num_heads": 2, "round_proj_up_to_multiple_of": 4, "proj_factor": 1.5}
    return mLSTMBlockConfig(mlstm=mLSTMLayerConfig(**(sizes | options)))


def slstm_block(*, ffn: Any = None, **options: Any) -> sLSTMBlockConfig:
    """Make a block; ``ffn`` is False for no feed-forward layer, or a dict of its options."""
    up = None
    if ffn is not False:
        up = FeedForwardConfig(**({"round_proj_up_to_multiple_of": 4} | (ffn or {})))
    return sLSTMBlockConfig(slstm=sLSTMLayerConfig(**({"num_heads": 2} | options)), feedforward=up)


def lm_config(**options: Any) -> xLSTMLMModelConfig:
    """Make a configuration, by default with three blocks, mLSTM, sLSTM, mLSTM."""
    given: dict[str, Any] = {
        "mlstm_block": mlstm_block(),
        "slstm_block": slstm_block(),
        "num_blocks": 3,
        "embedding_dim": 8,
        "slstm_at": [1],
        "vocab_size": V,
    }
    return xLSTMLMModelConfig(**(given | options))


def large_config(**options: Any) -> xLSTMLargeConfig:
    """Make a configuration, by default with two blocks and chunks of three steps."""
    given: dict[str, Any] = {
        "embedding_dim": 12,
        "num_heads": 2,
        "num_blocks": 2,
        "vocab_size": V,
        "chunk_size": 3,
        "ffn_round_up_to_multiple_of": 4,
        "ffn_proj_factor": 1.5,
    }
    return xLSTMLargeConfig(**(given | options))


CONFIGS: dict[str, Callable[[], xLSTMLMModelConfig | xLSTMLargeConfig]] = {
    "mlstm-only": lambda: lm_config(slstm_at=[], slstm_block=None, num_blocks=2),
    "slstm-only": lambda: lm_config(slstm_at="all", mlstm_block=None, num_blocks=2),
    "mixed": lm_config,
    "tied": lambda: lm_config(tie_weights=True),
    "biased": lambda: lm_config(
        bias=True,
        mlstm_block=mlstm_block(num_heads=1, qkv_proj_blocksize=2, conv1d_kernel_size=2),
        slstm_block=slstm_block(num_heads=1, conv1d_kernel_size=3, ffn={"bias": True}),
    ),
    "no-conv": lambda: lm_config(
        mlstm_block=mlstm_block(conv1d_kernel_size=1), slstm_block=slstm_block(conv1d_kernel_size=0)
    ),
    "no-ffn": lambda: lm_config(slstm_block=slstm_block(ffn=False, group_norm_weight=False)),
    "no-out-norm": lambda: lm_config(add_post_blocks_norm=False),
    "large-single": large_config,
    "large-fused": lambda: large_config(weight_mode="fused"),
    "large-single-biased": lambda: large_config(
        use_bias=True, add_out_norm=False, num_heads=3, qk_dim_factor=1.0, v_dim_factor=2.0
    ),
    "large-fused-biased": lambda: large_config(use_bias=True, weight_mode="fused"),
    "large-uncapped": lambda: large_config(
        gate_soft_cap=None, output_logit_soft_cap=None, chunk_size=1
    ),
}


def make(
    config: Any, *, dtype: Any = np.float64, seed: int = 1, scale: float | None = None
) -> LanguageModel:
    """Build a model, and overwrite every parameter with normal numbers, smaller in matrices."""
    rng = np.random.default_rng(seed)
    cls = xLSTMLarge if isinstance(config, xLSTMLargeConfig) else xLSTMLMModel
    model: LanguageModel = cls(config, dtype=dtype, rng=rng)
    fill(model, rng, 0.5 if scale is None else scale)
    return model


def fill(model: Any, rng: np.random.Generator, scale: float = 0.5) -> Any:
    for array in model.params.values():
        array[...] = rng.standard_normal(array.shape) * (scale if array.ndim > 1 else 1)
    return model


def build(name: str, **options: Any) -> LanguageModel:
    """One of :data:`CONFIGS` as a model with random parameters."""
    return make(CONFIGS[name](), **options)


def draw_tokens(steps: int = T, *, rows: int = B, vocab: int = V, seed: int = 2) -> Array:
    return np.random.default_rng(seed).integers(0, vocab, (rows, steps))


def flat(state: Any, grads: dict[str, Array] | None = None) -> dict[str, Array]:
    """Return a state and gradients of parameters as one flat dict."""
    return dict(leaves("state", state)) | (grads or {})


def assert_same(got: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    """Check that two trees are bitwise equal."""
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array, err_msg=name, strict=True)


def distance(
    got: dict[str, Array], expected: dict[str, Array], least: float = 1e-3
) -> tuple[float, str]:
    """Return the largest relative error, max |a − b| / max |b| of each array, and its place.

    For an array that is small compared with the largest, the error is relative to this part,
    ``least``, of that. −inf equals −inf.
    """
    assert got.keys() == expected.keys()
    finite = {name: np.where(np.isneginf(b), 0, b) for name, b in expected.items()}
    top = max((float(np.abs(b).max(initial=0)) for b in finite.values()), default=0.0)
    worst = 0.0, ""
    for name, b in finite.items():
        assert got[name].shape == b.shape, name
        assert (np.isneginf(got[name]) == np.isneginf(expected[name])).all(), name
        a = np.where(np.isneginf(got[name]), 0, got[name])
        assert np.isfinite(a).all(), name
        scale = max(float(np.abs(b).max(initial=0)), least * top) or np.finfo(b.dtype).tiny
        worst = max(worst, (float(np.abs(a - b).max(initial=0)) / scale, name))
    return worst


def assert_close(got: dict[str, Array], expected: dict[str, Array], tolerance: float) -> None:
    """Compare by :func:`distance`."""
    error, name = distance(got, expected)
    assert error <= tolerance, f"{name}: {error:.2e}"


def check(target: Any, *inputs: Any, seed: int = 3) -> Report:
    """Compare gradients with the complex step, to 1e-10: an entry of each array, and one sum."""
    report = gradcheck(
        target,
        *inputs,
        rng=seed,
        rtol=1e-10,
        max_entries=1,
        directions=1,
    )
    assert not report.failures, str(report)
    return report


@st.composite
def lm_configs(draw: st.DrawFn, width: st.SearchStrategy[int]) -> xLSTMLMModelConfig:
    """Draw a case; ``width`` is that of an sLSTM head, and a lower bound for an mLSTM head."""
    heads, head = draw(st.integers(1, 3)), draw(width)
    blocks = draw(st.integers(1, 3))
    act_fns = st.sampled_from(["gelu", "gelu_tanh", "swish", "relu^2", "sigmoid", "selu"])
    with_ffn = draw(st.booleans())
    return lm_config(
        embedding_dim=heads * head,
        num_blocks=blocks,
        slstm_at=draw(st.one_of(st.just("all"), st.lists(st.integers(0, blocks - 1)))),
        vocab_size=draw(st.integers(2, 5)),
        bias=draw(st.booleans()),
        tie_weights=draw(st.booleans()),
        add_post_blocks_norm=draw(st.booleans()),
        mlstm_block=mlstm_block(
            num_heads=heads,
            proj_factor=draw(st.floats(0.5, 2)),
            round_proj_up_to_multiple_of=2 * heads * head,
            qkv_proj_blocksize=draw(st.sampled_from([1, 2, head, 2 * heads])),
            conv1d_kernel_size=draw(st.integers(1, 4)),
        ),
        slstm_block=slstm_block(
            num_heads=heads,
            conv1d_kernel_size=draw(st.integers(0, 4)),
            group_norm_weight=draw(st.booleans()),
            ffn={"act_fn": draw(act_fns), "bias": draw(st.booleans())} if with_ffn else False,
        ),
    )


@st.composite
def large_configs(draw: st.DrawFn, width: st.SearchStrategy[int]) -> xLSTMLargeConfig:
    heads, head = draw(st.integers(1, 3)), draw(width)
    caps = st.one_of(st.none(), st.floats(1, 30))
    return large_config(
        embedding_dim=2 * heads * head,
        num_heads=heads,
        num_blocks=draw(st.integers(1, 2)),
        vocab_size=draw(st.integers(2, 5)),
        chunk_size=draw(st.integers(1, 6)),
        qk_dim_factor=draw(st.sampled_from([0.5, 1.0])),
        v_dim_factor=draw(st.sampled_from([0.5, 1.0, 2.0])),
        use_bias=draw(st.booleans()),
        add_out_norm=draw(st.booleans()),
        gate_soft_cap=draw(caps),
        output_logit_soft_cap=draw(caps),
        weight_mode=draw(st.sampled_from(["single", "fused"])),
    )


D = 8
BLOCKS: dict[str, Callable[..., Any]] = {
    "mLSTMLayer": lambda **o: mLSTMLayer(mlstm_block(embedding_dim=D).mlstm, **o),
    "mLSTMLayer-bias": lambda **o: mLSTMLayer(
        mlstm_block(embedding_dim=D, bias=True, conv1d_kernel_size=1).mlstm, **o
    ),
    "mLSTMBlock": lambda **o: mLSTMBlock(mlstm_block(embedding_dim=D), **o),
    "sLSTMLayer": lambda **o: sLSTMLayer(slstm_block(embedding_dim=D).slstm, **o),
    "sLSTMLayer-no-conv": lambda **o: sLSTMLayer(
        slstm_block(embedding_dim=D, conv1d_kernel_size=0).slstm, **o
    ),
    "sLSTMBlock": lambda **o: sLSTMBlock(slstm_block(embedding_dim=D, ffn={"bias": True}), **o),
    "sLSTMBlock-no-ffn": lambda **o: sLSTMBlock(slstm_block(embedding_dim=D, ffn=False), **o),
    "xLSTMBlockStack": lambda **o: xLSTMBlockStack(lm_config(), **o),
    "xLSTMLargeLayer": lambda **o: xLSTMLargeLayer(large_config(embedding_dim=D), **o),
    "xLSTMLargeBlock": lambda **o: xLSTMLargeBlock(
        large_config(embedding_dim=D, weight_mode="fused", use_bias=True), **o
    ),
    "ResidualBlock": lambda dtype, rng: ResidualBlock(
        LSTM(D, D, 2, dtype=dtype, rng=rng), LayerNorm(D, dtype=dtype)
    ),
}
"""Layers, blocks and stacks on their own."""

CELLS: dict[str, Callable[..., Any]] = {
    "LSTM": lambda **o: LSTM(4, 6, **o),
    "LSTM-projected": lambda **o: LSTM(4, 6, 2, proj_size=3, bias=False, **o),
    "GRU": lambda **o: GRU(4, 6, 2, **o),
    "sLSTM": lambda **o: sLSTM(4, 6, num_heads=2, **o),
    "mLSTM": lambda **o: mLSTM(4, 6, num_heads=2, qk_dim=8, **o),
}
"""Bodies of language models that are not made of blocks."""

SUBJECTS = [*BLOCKS, *CONFIGS, *CELLS]
"""Everything with a forward over sequences in ``numpy_xlstm.models``."""


def subject(name: str, *, dtype: Any = np.float64, seed: int = 1) -> Any:
    """One of :data:`SUBJECTS` with random parameters."""
    if name in CONFIGS:
        return build(name, dtype=dtype, seed=seed)
    rng = np.random.default_rng(seed)
    if name in BLOCKS:
        return fill(BLOCKS[name](dtype=dtype, rng=rng), rng)
    return fill(LanguageModel(V, 4, CELLS[name](dtype=dtype, rng=rng), rng=rng), rng)


def draw_input(model: Any, steps: int = T, *, rows: int = B, seed: int = 2) -> Array:
    """Draw tokens for a language model, and vectors for a block."""
    if isinstance(model, LanguageModel):
        return draw_tokens(steps, rows=rows, vocab=model.vocab_size, seed=seed)
    x = np.random.default_rng(seed).standard_normal((rows, steps, model.in_features))
    return x.astype(model.dtype)


EVERY_SUBJECT = pytest.mark.parametrize("name", SUBJECTS)
EVERY_MODEL = pytest.mark.parametrize("name", list(CONFIGS))
MAIN_MODELS = pytest.mark.parametrize("name", ["mixed", "tied", "large-single", "large-fused"])


def run(
    model: Any, x: Array, state: Any, dy: Array, dstate: Any, **options: Any
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return outputs and final state, and gradients of x, of the first state and of parameters."""
    y, after, cache = model.forward(x, state, **options)
    dx, before, grads = model.backward(dy, cache, dstate)
    assert (dx is None) == isinstance(model, LanguageModel)
    return flat(after, {"y": y}), flat(before, grads if dx is None else grads | {"x": dx})
