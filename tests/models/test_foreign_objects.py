"""Errors also name arguments that are not arrays at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    LSTM,
    CausalConv1d,
    Embedding,
    GatedFeedForward,
    HeadwiseLinear,
    LanguageModel,
    LayerNorm,
    Linear,
    LSTMCell,
    MultiHeadLayerNorm,
    RMSNorm,
    load_checkpoint,
    mLSTM,
    mLSTMBlock,
    mLSTMBlockConfig,
    mLSTMCell,
    mLSTMLayerConfig,
    save_checkpoint,
    sLSTM,
    sLSTMBlock,
    sLSTMBlockConfig,
    sLSTMCell,
    sLSTMLayerConfig,
    xLSTMLarge,
    xLSTMLargeConfig,
    xLSTMLMModel,
    xLSTMLMModelConfig,
)
from numpy_xlstm.errors import (
    CacheError,
    DTypeError,
    NonFiniteError,
    OptionError,
    ShapeError,
    TextError,
)
from numpy_xlstm.generation import ByteTokenizer, generate_text, stream
from numpy_xlstm.training import AdamW, Batch, clip_grad_norm, train_step

X = np.random.default_rng(1).standard_normal((2, 3, 8))
IDS = np.array([[1, 2, 0], [2, 2, 1]])


def large(**options: Any) -> xLSTMLarge:
    config = xLSTMLargeConfig(8, num_heads=2, num_blocks=1, vocab_size=5, **options)
    return xLSTMLarge(config, rng=np.random.default_rng(0))


def mlstm_block(width: int = 8) -> mLSTMBlock:
    layer = mLSTMLayerConfig(embedding_dim=width, num_heads=2)
    return mLSTMBlock(mLSTMBlockConfig(layer), rng=np.random.default_rng(0))


def slstm_block() -> sLSTMBlock:
    layer = sLSTMLayerConfig(embedding_dim=8, num_heads=2)
    return sLSTMBlock(sLSTMBlockConfig(layer), rng=np.random.default_rng(0))


NOTHING: Any = None
NO_CACHE: dict[str, Callable[[], Any]] = {
    "LSTM": lambda: LSTM(8, 8).backward(X, NOTHING),
    "mLSTM": lambda: mLSTM(8, 8).backward(X, NOTHING),
    "Linear": lambda: Linear(8, 8).backward(X, NOTHING),
    "Embedding": lambda: Embedding(5, 8).backward(X, NOTHING),
    "CausalConv1d": lambda: CausalConv1d(8).backward(X, None),
    "LayerNorm": lambda: LayerNorm(8).backward(X, NOTHING),
    "mLSTMBlock": lambda: mlstm_block().backward(X, None),
    "xLSTMLarge": lambda: large().backward(X, NOTHING),
    "LanguageModel": lambda: LanguageModel(5, 8, LSTM(8, 8)).backward(X, NOTHING),
}


@pytest.mark.parametrize("name", NO_CACHE)
def test_a_backward_without_a_cache(name: str) -> None:
    with pytest.raises(CacheError, match=r"cache: expected the .* has returned; got NoneType"):
        NO_CACHE[name]()


def test_caches_hold_what_the_options_of_their_models_were() -> None:
    """A model with the same weights loads them correctly for any of its own options."""
    params, rng = large().params, np.random.default_rng(3)
    options = {"gate_soft_cap": 2.0, "output_logit_soft_cap": 3.0, "eps": 0.1, "norm_eps": 0.2}
    other, dlogits = large(**options).with_params(params), rng.standard_normal((2, 3, 5))
    _, _, cache = other.forward(IDS)
    grads, same = (model.backward(dlogits, cache)[2] for model in (other, large()))
    own = large().backward(dlogits, large().forward(IDS)[2])[2]
    for name, grad in grads.items():
        np.testing.assert_array_equal(same[name], grad)
    assert max(np.abs(own[name] - grad).max() for name, grad in grads.items()) > 1e-3


@pytest.mark.parametrize("rng", [3, "seed", np.random.RandomState(0)])
def test_a_source_of_randomness_that_is_none(rng: Any) -> None:
    for call in (
        lambda: mlstm_block().forward(X, rng=rng),
        lambda: large().forward(IDS, rng=rng),
        lambda: train_step(large(), AdamW(large().params), Batch(IDS, IDS), rng=rng),
    ):
        with pytest.raises(OptionError, match=r"rng: expected a np.random.Generator, or None; got"):
            call()


def test_generation_with_a_seed_or_with_options_as_a_dict() -> None:
    model, tokenizer = large().with_params(large().params), ByteTokenizer()
    with pytest.raises(OptionError, match=r"options: expected max_new_tokens, .*; got 'sampling'"):
        generate_text(model, tokenizer, "a", sampling={})
    with pytest.raises(OptionError, match=r"rng: expected a np.random.Generator, or None; got 3"):
        generate_text(model, tokenizer, "a", rng=3)


def test_no_parameters_by_name() -> None:
    model = large()
    with pytest.raises(ShapeError, match=r"state_dict: expected a mapping of arrays; got None"):
        model.load_state_dict(None)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"such as model.params; got xLSTMLarge"):
        AdamW(model)  # type: ignore[arg-type]


def test_a_batch_of_lists() -> None:
    model = large()
    batch = Batch(IDS.tolist(), IDS)
    with pytest.raises(ShapeError, match=r"inputs: expected an array of ids \(B, T\); got list"):
        train_step(model, AdamW(model.params), batch)
    with pytest.raises(ShapeError, match=r"targets: expected .* \(B, T\); got \(3,\)"):
        train_step(model, AdamW(model.params), Batch(IDS, IDS[0]))


def test_a_dtype_that_numpy_does_not_know() -> None:
    with pytest.raises(DTypeError, match=r"dtype: expected one of float32, .*; got 'float33'"):
        LSTM(2, 2, dtype="float33")


def test_a_layer_without_parameters_has_no_dtype() -> None:
    assert LayerNorm(3, weight=False).dtype is None


def test_parameters_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    model, path = large(), tmp_path / "model.npz"
    save_checkpoint(path, model)
    before = path.read_bytes()
    model.params["lm_head.weight"][0, 0] = np.nan
    with pytest.raises(NonFiniteError, match=r"lm_head.weight: expected finite numbers; got nan"):
        save_checkpoint(path, model)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]
    assert np.isfinite(load_checkpoint(path).model.params["lm_head.weight"]).all()


def test_ids_in_a_list() -> None:
    assert ByteTokenizer().decode([110, 195, 169]) == "né"  # type: ignore[arg-type]
    assert ByteTokenizer().decode([]) == ""  # type: ignore[arg-type]


def stack(**options: Any) -> xLSTMLMModel:
    sizes: dict[str, Any] = {"num_blocks": 2, "embedding_dim": 8, "slstm_at": [1], "vocab_size": 5}
    config = xLSTMLMModelConfig(
        mlstm_block=mLSTMBlockConfig(mLSTMLayerConfig(num_heads=2)),
        slstm_block=sLSTMBlockConfig(sLSTMLayerConfig(num_heads=2)),
        **sizes | options,
    )
    return xLSTMLMModel(config, rng=np.random.default_rng(0))


FOREIGN: dict[str, tuple[Callable[[], Any], Callable[[], Any], Any, str]] = {
    "LSTM, of an sLSTM": (lambda: LSTM(8, 8), lambda: sLSTM(8, 8), CacheError, "got KernelCache"),
    "sLSTM, of a cell": (
        lambda: sLSTM(8, 8),
        lambda: sLSTMCell(8, 8),
        CacheError,
        "got sLSTMCache",
    ),
    "sLSTM, wider": (lambda: sLSTM(8, 8), lambda: sLSTM(8, 4), CacheError, "expected one made by"),
    "mLSTM, wider": (lambda: mLSTM(8, 8), lambda: mLSTM(8, 4), CacheError, "expected one made by"),
    "mLSTMCell, of an LSTMCell": (
        lambda: mLSTMCell(8, 8),
        lambda: LSTMCell(8, 8),
        CacheError,
        "got LSTMCache",
    ),
    "Linear, of a norm": (lambda: Linear(8, 8), lambda: LayerNorm(8), CacheError, "got NormCache"),
    "Linear, wider": (
        lambda: Linear(8, 8),
        lambda: Linear(8, 4),
        CacheError,
        "one made by a Linear with",
    ),
    "RMSNorm, wider": (
        lambda: RMSNorm(4),
        lambda: RMSNorm(8),
        CacheError,
        "'in_features 4'.*'in_features 8'",
    ),
    "RMSNorm, of a LayerNorm": (
        lambda: RMSNorm(8),
        lambda: LayerNorm(8),
        CacheError,
        "'type RMSNorm'.*'type LayerNorm'",
    ),
    "MultiHeadLayerNorm, of more heads": (
        lambda: MultiHeadLayerNorm(2, 4),
        lambda: MultiHeadLayerNorm(4, 2),
        CacheError,
        "'num_heads 2'.*'num_heads 4'",
    ),
    "GatedFeedForward, of another activation": (
        lambda: GatedFeedForward(8, 6),
        lambda: GatedFeedForward(8, 6, act_fn="swish"),
        CacheError,
        "'act_fn gelu'.*'act_fn swish'",
    ),
    "HeadwiseLinear, of a Linear": (
        lambda: HeadwiseLinear(8, 2),
        lambda: Linear(8, 8),
        CacheError,
        "got LinearCache",
    ),
    "GatedFeedForward, of a conv": (
        lambda: GatedFeedForward(8, 6),
        lambda: CausalConv1d(8),
        CacheError,
        "got CausalConv1dCache",
    ),
    "mLSTMBlock, of an sLSTMBlock": (
        mlstm_block,
        slstm_block,
        CacheError,
        r"a mLSTMBlock with .*'xlstm\.learnable_skip.*; got one made .* with \['ffn\.proj_down",
    ),
    "mLSTMBlock, of its layer": (
        mlstm_block,
        lambda: mlstm_block().layer,
        CacheError,
        "got mLSTMLayerCache",
    ),
}
"""A layer, another one, and the errors of the first for an output and a cache of the second."""


@pytest.mark.parametrize("name", FOREIGN)
def test_the_cache_of_another_layer(name: str) -> None:
    layer, other, error, message = FOREIGN[name]
    made_by = other()
    shape = (2, 8) if "Cell" in type(made_by).__name__ else (2, 3, 8)
    y, *_, cache = made_by.forward(np.ones(shape, made_by.dtype))
    with pytest.raises(error, match=message):
        layer().backward(y, cache)
    for nothing in (y, (y, cache)):
        with pytest.raises(CacheError, match=r"cache: expected the .*; got"):
            layer().backward(y, nothing)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"num_blocks": 3}, r"by a xLSTMLMModel with .*; got .*blocks\.2\."),
        ({"add_post_blocks_norm": False}, r"with \['.*post_blocks_norm.weight \(8,\)'\]; got"),
        ({"slstm_at": [0]}, r"blocks\.0\.xlstm\.conv.*\(64, 1, 4\).*; got .*\.0\..*\(8, 1, 4\)"),
    ],
    ids=str,
)
def test_the_cache_of_another_model(other: dict[str, Any], message: str, recompute: bool) -> None:
    logits, _, cache = stack(**other).forward(IDS, recompute=recompute)
    with pytest.raises(CacheError, match=message):
        stack().backward(logits, cache)


def test_the_cache_of_another_kind_of_model() -> None:
    logits, _, cache = large().forward(IDS)
    cell = LanguageModel(5, 8, LSTM(8, 8))
    with pytest.raises(
        CacheError, match=r"with .*'cell\.weight.*; got one made by .* with .*'backbone"
    ):
        cell.backward(logits, cache)
    with pytest.raises(
        CacheError, match=r"with .*'backbone.*; got one made by .* with .*'cell\.weight"
    ):
        large().backward(logits, cell.forward(IDS)[2])
    with pytest.raises(ShapeError, match=r"dy: expected shape \(2, 3, 5\); got \(2, 2, 5\)"):
        large().backward(logits[:, 1:], cache)
    narrow = stack().astype(np.float32).forward(IDS)
    with pytest.raises(CacheError, match=r"float64.*; got one made by .* with .*float32"):
        stack().backward(narrow[0], narrow[2])


ROWS = np.concatenate((IDS, IDS))
FLOATS: Any = IDS * 1.0
OTHER_ROWS: dict[str, tuple[Any, Callable[[Any], Any], str]] = {
    "targets": (
        Batch(IDS, ROWS),
        lambda m: None,
        r"targets: expected shape \(2, 3\); got \(4, 3\)",
    ),
    "mask": (
        Batch(IDS, IDS, np.ones((4, 3), bool)),
        lambda m: None,
        r"mask: expected shape \(2, 3\); got \(4, 3\)",
    ),
    "state": (
        Batch(IDS, IDS),
        lambda m: m.init_state(4),
        r"state.0.conv: expected 2 rows, .* \(4,",
    ),
    "floats": (
        Batch(FLOATS, IDS),
        lambda m: None,
        r"inputs: expected an array of integers; got",
    ),
    "tuple": ((IDS, IDS), lambda m: None, r"batch: expected a Batch; got tuple"),
}


@pytest.mark.parametrize("case", OTHER_ROWS)
def test_a_batch_whose_parts_are_for_other_rows(case: str) -> None:
    batch, state, message = OTHER_ROWS[case]
    model = stack()
    optimizer, before = AdamW(model.params), {n: a.copy() for n, a in model.params.items()}
    given = state(model)
    with pytest.raises((ShapeError, DTypeError, OptionError), match=message):
        train_step(model, optimizer, batch, state=given, accumulate=2)
    assert all((before[n] == a).all() for n, a in model.params.items())


def test_recomputation_by_a_model_that_cannot() -> None:
    model = LanguageModel(5, 8, LSTM(8, 8))
    with pytest.raises(OptionError, match=r"recompute: .* got a LanguageModel"):
        train_step(model, AdamW(model.params), Batch(IDS, IDS), recompute=True)


@pytest.mark.parametrize("as_what", [set, np.array, tuple])
def test_banned_ids_in_any_collection(as_what: Callable[[Any], Any]) -> None:
    model, tokenizer = LanguageModel(256, 4, LSTM(4, 8)), ByteTokenizer()
    allowed = [97, 98]
    banned = as_what([k for k in range(256) if k not in allowed])
    options: dict[str, Any] = {"max_new_tokens": 30, "do_sample": True, "suppress_tokens": banned}
    text = generate_text(model, tokenizer, "a", **options, rng=np.random.default_rng(0))
    assert set(text) <= {"a", "b"}


@pytest.mark.parametrize("banned", [3, "a", [None], [1.5], [True], np.ones(256, bool)])
def test_banned_ids_that_are_none(banned: Any) -> None:
    model = LanguageModel(256, 4, LSTM(4, 8))
    with pytest.raises(
        OptionError, match=r"suppress_tokens: expected .*(whole numbers?|ids).*; got"
    ):
        generate_text(model, ByteTokenizer(), "a", suppress_tokens=banned)


@pytest.mark.parametrize("prompt", [3, None, b"ab", ["a"]])
def test_a_prompt_that_is_no_text(prompt: Any) -> None:
    model = LanguageModel(256, 4, LSTM(4, 8))
    with pytest.raises(OptionError, match="prompt: expected a string; got"):
        stream(model, ByteTokenizer(), prompt)
    with pytest.raises(TextError, match="text: expected a string; got"):
        ByteTokenizer().encode(prompt)


def test_an_optimiser_that_could_fail_half_way_does_nothing() -> None:
    params = {"w": np.array([1.0, 2.0]), "z": np.ones(2)}
    params["z"].flags.writeable = False
    optimizer = AdamW(params)
    with pytest.raises(OptionError, match="z: expected an array that can be written to"):
        optimizer.step(params, {"w": np.ones(2), "z": np.ones(2)})
    assert (params["w"].tolist(), optimizer.t) == ([1, 2], 0)

    def decays(name: str, array: Any) -> bool:
        return 1 / (name != "z") > 0

    params = {"w": np.array([1.0, 2.0]), "z": np.ones(2)}
    optimizer = AdamW(params, decays=decays)
    with pytest.raises(ZeroDivisionError):
        optimizer.step(params, {"w": np.ones(2), "z": np.ones(2)})
    assert (params["w"].tolist(), optimizer.t) == ([1, 2], 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decays": True}, "decays: expected a function of name and array; got True"),
        ({"betas": (0.9,)}, r"betas: expected two numbers; got \(0.9,\)"),
        ({"lr": "x"}, "lr: expected a number in .*; got 'x'"),
        ({"lr": True}, "lr: expected a number in .*; got True"),
    ],
)
def test_options_of_an_optimiser_that_are_none(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        AdamW({"w": np.ones(2)}, **options)


@pytest.mark.parametrize("array", [np.array([1, 2]), [1.0], None, np.ones(2, np.complex128)])
def test_parameters_and_gradients_that_are_no_numbers_to_learn(array: Any) -> None:
    with pytest.raises(DTypeError, match=r"params\['w'\]: expected .* floating-point numbers; got"):
        AdamW({"w": array})
    with pytest.raises(DTypeError, match=r"w: expected an array of floating-point numbers; got"):
        clip_grad_norm({"w": array}, 1.0)


def test_parameters_are_read_and_copies_can_be_changed() -> None:
    model = stack()
    params: Any = model.params
    with pytest.raises(TypeError, match="expected a change in place"):
        params["lm_head.weight"] = np.zeros(1)
    for copied in (dict(model.params), params | {}):
        copied["lm_head.weight"] = np.zeros(1)
        assert len(copied) == len(model.params)
    assert model.params["lm_head.weight"].size > 1


def test_a_configuration_changed_to_nonsense_is_refused_by_the_model() -> None:
    config = stack().config
    config.num_blocks = -3
    with pytest.raises(
        OptionError, match="num_blocks: expected a whole number, at least 1; got -3"
    ):
        xLSTMLMModel(config)
    config = stack().config
    assert config.mlstm_block is not None
    config.mlstm_block.mlstm.dropout = 0.5
    with pytest.raises(OptionError, match=r"mLSTMLayerConfig.dropout: expected 0.0, as in the"):
        xLSTMLMModel(config)
