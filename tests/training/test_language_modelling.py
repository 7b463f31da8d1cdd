from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.generation import ByteTokenizer
from numpy_xlstm.models import LanguageModel
from numpy_xlstm.training import (
    Budget,
    default_text,
    evaluate,
    learn,
    loop,
    ranks,
    split_text,
    unigram_entropy,
    validation_bits,
)
from tests.training.build import CELLS, started, watched


def build(cell: str, vocab_size: int = 6, dtype: Any = np.float64) -> LanguageModel:
    rng = np.random.default_rng(0)
    return LanguageModel(vocab_size, 4, CELLS[cell](4, 8, dtype=dtype, rng=rng), rng=rng)


def nats_one_by_one(model: LanguageModel, ids: list[int], starts: set[int]) -> float:
    """Return the mean loss of a text read id by id, with the state reset at the starts of rows."""
    state: Any = None
    total = 0.0
    for t in range(len(ids) - 1):
        if t in starts:
            state = None
        logits, state = model(np.array([[ids[t]]]), state)
        p = np.exp(logits[0, 0]) / np.exp(logits[0, 0]).sum()
        total -= float(np.log(p[ids[t + 1]]))
    return total / (len(ids) - 1)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("window", [1, 4, 100])
def test_validation_carries_the_state_and_scores_every_character(cell: str, window: int) -> None:
    model = build(cell)
    ids = np.random.default_rng(1).integers(0, 6, 23)
    read = ids[:22].tolist()  # three rows of seven targets; the last id is left over
    expected = nats_one_by_one(model, read, starts={0, 7, 14}) / np.log(2)
    assert validation_bits(model, ids, rows=3, window=window) == pytest.approx(expected, rel=1e-12)


def test_windows_that_are_independent() -> None:
    model, ids, calls = build("slstm"), np.random.default_rng(1).integers(0, 6, 23), []
    expected = nats_one_by_one(model, ids[:22].tolist(), {0, 2, 4, 7, 9, 11, 14, 16, 18}) / np.log(
        2
    )
    options: Any = {"rows": 3, "window": 3, "progress": lambda *counts: calls.append(counts)}
    assert validation_bits(model, ids, carry=False, **options) == pytest.approx(expected, rel=1e-12)
    assert calls == [(6, 23), (12, 23), (21, 23)]


def test_an_evaluation_in_one_row_has_all_units() -> None:
    model, text = build("lstm", 256), "né" * 9
    ids = ByteTokenizer().encode(text)
    found = evaluate(model, ByteTokenizer(), text, rows=1)
    nats = nats_one_by_one(model, ids.tolist(), {0})
    assert (found.characters, found.tokens, found.rows) == (18, 27, 1)
    assert found.bits_per_token == pytest.approx(nats / np.log(2), rel=1e-12)
    assert found.bits_per_character == pytest.approx(nats / np.log(2) * 1.5, rel=1e-12)
    assert found.perplexity == pytest.approx(np.exp(nats), rel=1e-12)


def test_a_model_that_is_hardly_possible_has_an_infinite_perplexity() -> None:
    def wrong(tokens: Any, state: Any) -> Any:
        return 2000.0 * np.eye(256)[tokens], None

    found = evaluate(wrong, ByteTokenizer(), "ab" * 9)  # type: ignore[arg-type]
    assert found.bits_per_token == pytest.approx(2000 / np.log(2))
    assert found.perplexity == np.inf


@pytest.mark.parametrize(
    ("results", "stopped"),
    [
        ([5, 4, 3, 4, 3, 2, 1], 5),  # an equal one is not better
        ([5, 4, 5, 3, 4, 4, 1], 6),
        ([5, 6, 4, 5, 3, 4, 2], 7),  # the budget ends it
    ],
)
def test_patience_ends_a_training_and_survives_a_resume(
    results: list[float], stopped: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, options = split_text("the cat sat on the mat. " * 20, window=4), {"batch_size": 2}
    known: Any = options | {"window": 4, "validate_every": 1, "patience": 2}
    for pause in (0, stopped - 1, stopped):  # resumed after this step
        values = iter(results)
        monkeypatch.setattr(loop, "validation_bits", lambda *args, values=values, **_: next(values))
        state = started(build("lstm", split.tokenizer.size))
        list(islice(learn(state, split, Budget(steps=7), **known), pause))
        after = replace(state, validations=[*state.validations])
        assert len(list(learn(after, split, Budget(steps=7), **known))) == stopped - pause
        assert after.step == len(after.validations) == stopped


def test_records_are_in_bits_per_character_where_a_character_is_several_tokens() -> None:
    split = split_text("é" * 200, 4, ByteTokenizer())
    model = build("lstm", 256)
    state = started(model)
    (record,) = learn(state, split, Budget(steps=1), batch_size=2, window=4)
    assert record.bits == pytest.approx(record.loss * 2 / np.log(2))
    held_out = validation_bits(state.model, split.validation_ids, characters=20)
    assert record.validation == held_out


@pytest.mark.parametrize(("cell", "carry"), [("lstm", False), ("slstm", True), ("mlstm", False)])
def test_it_learns_more_than_the_frequencies_of_the_characters(cell: str, carry: bool) -> None:
    split = split_text(default_text()[:50_000], window=32)
    rng = np.random.default_rng(0)
    layer = CELLS[cell](32, 64, dtype=np.float32, rng=rng)
    model = LanguageModel(split.tokenizer.size, 32, layer, rng=rng)
    options: Any = {"batch_size": 16, "window": 32, "max_norm": 1.0, "carry": carry}
    records = list(learn(started(model, lr=2e-2), split, Budget(steps=60), **options))
    bits = validation_bits(model, split.validation_ids, rows=16, window=32)
    assert records[0].bits > 6
    assert bits < unigram_entropy(split.validation)


@pytest.mark.parametrize(
    ("budget", "validate_every", "batch_size", "expected"),
    [
        (Budget(steps=50), None, 30, [3, 5, 8, 10, 13, 15, 18, 20, 23, 25, 28, 30]),
        (Budget(steps=50), None, 3, [10, 20, 30]),  # 2.5 x 48 tokens, 12 in a step
        (Budget(steps=50), None, 2, [15, 30]),
        (Budget(seconds=40), None, 30, [*range(2, 22)]),
        (Budget(seconds=40), None, 3, [10, 20, 21]),
        (Budget(steps=12), 5, 2, [5, 10, 12]),
        (Budget(steps=4), 2, 2, [2, 4]),
    ],
)
def test_validations_come_every_so_many_steps_or_after_each_twentieth(
    budget: Budget,
    validate_every: int | None,
    batch_size: int,
    expected: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Step n ends after 2 n - 2 seconds, because the clock is read twice in a step.

    A training by steps is stopped and resumed in between.
    """
    split = split_text("the cat sat on the mat. " * 20, window=4)
    state, ticks = started(build("lstm", split.tokenizer.size)), iter(range(10_000))
    monkeypatch.setattr(ranks, "seconds", lambda comm: float(next(ticks)))
    options: Any = {"validate_every": validate_every, "batch_size": batch_size, "window": 4}
    records = list(islice(learn(state, split, budget, **options), 13 if budget.steps else 0))
    records += islice(learn(state, split, budget, **options), 30 - len(records))
    validations = [(r.step, r.validation) for r in records if r.validation is not None]
    assert state.validations == validations
    assert [step for step, _ in validations] == expected
    assert all(1 < bits < 6 for _, bits in validations)


def test_with_carry_the_text_is_read_in_order() -> None:
    split = split_text("the cat sat on the mat. " * 20, window=4)
    model = build("lstm", split.tokenizer.size)
    state, calls = started(model), watched(model)
    steps = 432 // 3 // 16 + 2
    options: Any = {"batch_size": 3, "window": 16, "carry": True, "validate_every": 99}
    list(learn(state, split, Budget(steps=steps), **options))
    read = [token for call in calls[: steps - 2] for token in call.inputs[0].tolist()]
    assert read == split.train_ids[: len(read)].tolist()
    empty = [call.state is None for call in calls]
    assert empty == [True] + [False] * (steps - 3) + [True, False]
