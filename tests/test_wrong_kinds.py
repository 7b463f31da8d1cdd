"""What is of another kind altogether is named at once, before a first step or piece."""

from collections.abc import Callable
from functools import partial
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
    Linear,
    LSTMCell,
    gradcheck,
    mLSTM,
    mLSTMBlock,
    mLSTMBlockConfig,
    mLSTMCell,
    mLSTMLayer,
    mLSTMLayerConfig,
    sLSTM,
    sLSTMBlock,
    sLSTMBlockConfig,
    sLSTMCell,
    sLSTMLayer,
    sLSTMLayerConfig,
    xLSTMBlockStack,
    xLSTMBlockStackConfig,
    xLSTMLarge,
    xLSTMLargeBlock,
    xLSTMLargeConfig,
    xLSTMLMModel,
    xLSTMLMModelConfig,
)
from numpy_xlstm.errors import DTypeError, OptionError, ShapeError, TextError
from numpy_xlstm.generation import ByteTokenizer, generate, generate_text, join_states, stream
from numpy_xlstm.training import (
    AdamW,
    Batch,
    Budget,
    Run,
    TrainingState,
    bigram_entropy,
    clip_grad_norm,
    consecutive_windows,
    learn,
    parallel_rows,
    random_windows,
    split_text,
    train,
    train_step,
    unigram_entropy,
    validation_bits,
)

FOLDER = Path("nowhere")
IDS = np.arange(40) % 7
RNG = np.random.default_rng(0)
MODEL = LanguageModel(256, 4, LSTM(4, 8, rng=RNG), rng=RNG)
BYTES: Any = ByteTokenizer()
ONE = Budget(steps=1)
BATCH = Batch(IDS[None, :-1], IDS[None, 1:])
ANY: Any = None
LARGE = xLSTMLargeConfig(8, num_heads=2, num_blocks=1, vocab_size=5)
MLSTM = mLSTMLayerConfig(embedding_dim=8, num_heads=2)
SLSTM = sLSTMLayerConfig(embedding_dim=8, num_heads=2)


def state() -> TrainingState:
    return TrainingState(MODEL, AdamW(MODEL.params), RNG)


def taught(*args: Any, **options: Any) -> Any:
    return learn(*args, batch_size=2, window=3, **options)


WRONG: dict[str, tuple[Callable[[Any], Any], Any, type[Exception], str]] = {
    "Budget steps": (Budget, "3", OptionError, "steps: expected a whole number"),
    "Budget half a step": (Budget, 2.5, OptionError, "steps: expected a whole number"),
    "Budget seconds": (lambda x: Budget(seconds=x), "3", OptionError, "seconds: .*; got '3'"),
    "state model": (lambda x: TrainingState(x, ANY, RNG), 3, OptionError, "model: .*forward.*int"),
    "state optimizer": (
        lambda x: TrainingState(MODEL, x, RNG),
        None,
        OptionError,
        "optimizer: .*step.*; got",
    ),
    "state rng": (
        lambda x: TrainingState(MODEL, state().optimizer, x),
        3,
        OptionError,
        "rng: .* 3",
    ),
    "train state": (lambda x: train(x, [BATCH], ONE), MODEL, OptionError, "a TrainingState; got"),
    "train batches": (lambda x: train(state(), x, ONE), 3, OptionError, "batches: .*iterable; got"),
    "train budget": (lambda x: train(state(), [BATCH], x), 3, OptionError, "a Budget; got int"),
    "train max_norm": (
        lambda x: train(state(), [BATCH], ONE, max_norm=x),
        "a",
        OptionError,
        "max_norm: ",
    ),
    "train accumulate": (
        lambda x: train(state(), [BATCH], ONE, accumulate=x),
        0,
        OptionError,
        "accumulate: ",
    ),
    "train recompute": (
        lambda x: train(state(), [BATCH], ONE, recompute=x),
        True,
        OptionError,
        "a LanguageModel",
    ),
    "train schedule": (
        lambda x: train(state(), [BATCH], ONE, schedule=x),
        3,
        OptionError,
        "schedule: expected a callable; got int",
    ),
    "train clock": (lambda x: train(state(), [BATCH], ONE, clock=x), 3, OptionError, "clock: "),
    "train comm": (
        lambda x: train(state(), [BATCH], ONE, comm=x),
        2,
        OptionError,
        "comm: .*Allreduce.*; got",
    ),
    "train batch": (lambda x: next(train(state(), x, ONE)), [3], OptionError, "a Batch; got int"),
    "step model": (lambda x: train_step(x, ANY, BATCH), None, OptionError, "model: .*NoneType"),
    "step optimizer": (
        lambda x: train_step(MODEL, x, BATCH),
        {},
        OptionError,
        "optimizer: .*step; got dict",
    ),
    "step comm": (
        lambda x: train_step(MODEL, state().optimizer, BATCH, comm=x),
        2,
        OptionError,
        "comm: .*Allreduce",
    ),
    "clip grads": (
        lambda x: clip_grad_norm(x, 1.0),
        [3],
        OptionError,
        "grads: .*mapping of arrays; got list",
    ),
    "windows ids": (lambda x: random_windows(x, 2, 3, RNG), IDS * 1.0, DTypeError, "float64"),
    "windows list": (lambda x: random_windows(x, 2, 3, RNG), [1, 2], DTypeError, "ids: .*got list"),
    "windows rank": (lambda x: random_windows(x, 2, 3, RNG), IDS[None], ShapeError, r"\(N,\)"),
    "windows batch": (lambda x: random_windows(IDS, x, 3, RNG), "a", OptionError, "batch_size: "),
    "windows window": (lambda x: random_windows(IDS, 2, x, RNG), None, OptionError, "window: "),
    "windows rng": (lambda x: random_windows(IDS, 2, 3, x), 3, OptionError, "rng: .*; got 3"),
    "in order ids": (lambda x: consecutive_windows(x, 2, 3), None, DTypeError, "ids: "),
    "in order window": (lambda x: consecutive_windows(IDS, 2, x), 0, OptionError, "window: "),
    "in order start": (lambda x: consecutive_windows(IDS, 2, 3, x), -1, OptionError, "start: "),
    "rows ids": (lambda x: parallel_rows(x, 2), None, DTypeError, "ids: "),
    "rows": (lambda x: parallel_rows(IDS, x), 1.5, OptionError, "rows: "),
    "split text": (lambda x: split_text(x, 3), b"abc", TextError, "a string; got bytes"),
    "split window": (lambda x: split_text("ab" * 40, x), "3", OptionError, "window: "),
    "split tokenizer": (lambda x: split_text("ab" * 40, 3, x), 3, OptionError, "tokenizer: .*int"),
    "split fraction": (
        lambda x: split_text("ab" * 40, 3, validation_fraction=x),
        2,
        OptionError,
        "from 0 to 1",
    ),
    "unigrams": (unigram_entropy, None, TextError, "text: expected a string; got NoneType"),
    "bigrams": (bigram_entropy, 3, TextError, "text: expected a string; got int"),
    "validation model": (lambda x: validation_bits(x, IDS), None, OptionError, "model: "),
    "validation ids": (lambda x: validation_bits(MODEL, x), "ab", DTypeError, "ids: .*got str"),
    "validation window": (
        lambda x: validation_bits(MODEL, IDS, window=x),
        0,
        OptionError,
        "window: ",
    ),
    "validation characters": (
        lambda x: validation_bits(MODEL, IDS, characters=x),
        "a",
        OptionError,
        "characters: ",
    ),
    "learn state": (
        lambda x: taught(x, split_text("ab" * 40, 3), ONE),
        None,
        OptionError,
        "state: ",
    ),
    "learn split": (lambda x: taught(state(), x, ONE), "abc", OptionError, "a TextSplit; got str"),
    "learn budget": (
        lambda x: taught(state(), split_text("ab" * 40, 3), x),
        3,
        OptionError,
        "budget: ",
    ),
    "learn validation": (
        lambda x: taught(state(), split_text("ab" * 40, 3), ONE, validate_every=x),
        0,
        OptionError,
        "validate_every: ",
    ),
    "learn seconds": (
        lambda x: taught(state(), split_text("ab" * 40, 3), ONE, validate_seconds=x),
        "a",
        OptionError,
        "validate_seconds: ",
    ),
    "Run save_every": (
        lambda x: Run(FOLDER, state(), save_every=x),
        0,
        OptionError,
        "save_every: ",
    ),
    "Run save_seconds": (
        lambda x: Run(FOLDER, state(), save_seconds=x),
        "a",
        OptionError,
        "save_seconds: ",
    ),
    "Run tokenizer": (
        lambda x: Run(FOLDER, state(), tokenizer=x),
        3,
        OptionError,
        "tokenizer",
    ),
    "Run state": (lambda x: Run(FOLDER, x), None, OptionError, "state: "),
    "generate model": (
        lambda x: generate(x, IDS, rng=RNG),
        None,
        OptionError,
        "model: ",
    ),
    "text tokenizer": (
        lambda x: generate_text(MODEL, x, "a", rng=RNG),
        None,
        OptionError,
        "tokenizer: ",
    ),
    "stream tokenizer": (
        lambda x: stream(MODEL, x, "a", rng=RNG),
        3,
        OptionError,
        "tokenizer: ",
    ),
    "batch tokenizer": (
        lambda x: generate_text(MODEL, x, ["a"], rng=RNG),
        3,
        OptionError,
        "tokenizer: ",
    ),
    "no states": (join_states, [], ShapeError, r"at least one; got \[\]"),
    "a number of states": (join_states, 3, ShapeError, "at least one; got 3"),
    "large block config": (xLSTMLargeBlock, None, OptionError, "a xLSTMLargeConfig; got NoneType"),
    "sLSTM layer block": (
        lambda x: sLSTMLayer(SLSTM, block=x),
        -1,
        OptionError,
        "block: expected a whole number, at least 0; got -1",
    ),
    "sLSTM layer num_blocks": (
        lambda x: sLSTMLayer(SLSTM, num_blocks=x),
        "a",
        OptionError,
        "num_blocks: expected a whole number, at least 1; got 'a'",
    ),
    "name of a fused map": (
        lambda x: GatedFeedForward(3, 4, fused=x),
        ["up"],
        OptionError,
        "fused: expected a str; got list",
    ),
    "a state without axes": (
        lambda x: xLSTMLarge(LARGE)(np.array([[1]]), x),
        np.array(1.0),
        ShapeError,
        r"state: expected a tuple \(0\); got an array",
    ),
    "gradcheck target": (gradcheck, 3, TypeError, "a layer with forward and backward.*; got 3"),
    "gradcheck class": (gradcheck, Linear, TypeError, "got the class Linear"),
    "gradcheck one function": (gradcheck, (abs,), TypeError, "a tuple of two functions; got"),
    "gradcheck rng": (
        lambda x: gradcheck(Linear(2, 2), np.ones((1, 2)), rng=x),
        "a",
        OptionError,
        "rng: .*'a'",
    ),
    "gradcheck methods": (
        lambda x: gradcheck(Linear(2, 2), np.ones((1, 2)), methods=x),
        3,
        OptionError,
        "methods: ",
    ),
    "gradcheck rtol": (
        lambda x: gradcheck(Linear(2, 2), np.ones((1, 2)), rtol=x),
        "a",
        OptionError,
        "rtol: ",
    ),
}
"""A call, an argument, and the error that it raises."""


@pytest.mark.parametrize("name", WRONG)
def test_the_error_names_what_is_of_another_kind(name: str) -> None:
    call, argument, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        call(argument)


BLOCKS: dict[str, Any] = {"num_blocks": 1, "embedding_dim": 8, "slstm_block": None}
BLOCKS["mlstm_block"] = mLSTMBlockConfig(mLSTMLayerConfig(num_heads=2))
DRAWN: dict[str, Callable[..., Any]] = {
    "LSTM": partial(LSTM, 3, 4),
    "LSTMCell": partial(LSTMCell, 3, 4),
    "sLSTM": partial(sLSTM, 3, 4),
    "sLSTMCell": partial(sLSTMCell, 3, 4),
    "mLSTM": partial(mLSTM, 3, 4),
    "mLSTMCell": partial(mLSTMCell, 3, 4),
    "Linear": partial(Linear, 3, 4),
    "HeadwiseLinear": partial(HeadwiseLinear, 4, 2),
    "CausalConv1d": partial(CausalConv1d, 3),
    "Embedding": partial(Embedding, 3, 4),
    "GatedFeedForward": partial(GatedFeedForward, 3, 4),
    "LanguageModel": partial(LanguageModel, 3, 4, LSTM(4, 8)),
    "mLSTMLayer": partial(mLSTMLayer, MLSTM),
    "sLSTMLayer": partial(sLSTMLayer, SLSTM),
    "mLSTMBlock": partial(mLSTMBlock, mLSTMBlockConfig(MLSTM)),
    "sLSTMBlock": partial(sLSTMBlock, sLSTMBlockConfig(SLSTM)),
    "xLSTMBlockStack": partial(xLSTMBlockStack, xLSTMBlockStackConfig(**BLOCKS)),
    "xLSTMLMModel": partial(xLSTMLMModel, xLSTMLMModelConfig(**BLOCKS, vocab_size=5)),
    "xLSTMLargeBlock": partial(xLSTMLargeBlock, LARGE),
    "xLSTMLarge": partial(xLSTMLarge, LARGE),
}
"""All that draws its parameters, but for the source of randomness."""


@pytest.mark.parametrize("name", DRAWN)
def test_parameters_are_drawn_from_a_generator(name: str) -> None:
    for rng in ("a", 3, np.random.RandomState(0), [1.0]):
        with pytest.raises(OptionError, match=r"rng: expected a np.random.Generator, or None; got"):
            DRAWN[name](rng=rng)
    with pytest.raises(OptionError, match=r"got 3; write np.random.default_rng\(3\)$"):
        DRAWN[name](rng=3)
    first, again = (DRAWN[name](rng=np.random.default_rng(5)).params for _ in range(2))
    assert all((array == again[n]).all() for n, array in first.items())
    DRAWN[name]()
