from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import LSTM, mLSTM, sLSTM
from numpy_xlstm.generation import (
    ByteTokenizer,
    CharacterTokenizer,
    generate_text,
    stream,
)
from numpy_xlstm.layers.embedding import IndexArray
from numpy_xlstm.models import LanguageModel
from numpy_xlstm.numerics import Array

LETTERS = CharacterTokenizer("abcd")
BYTES = ByteTokenizer()


class Script:
    """A model that prefers the tokens of a script, which the first prompt token selects."""

    def __init__(self, size: int, scripts: Mapping[int, Sequence[int]]) -> None:
        self.size, self.scripts = size, scripts
        self.calls: list[list[list[int]]] = []

    def __call__(self, tokens: IndexArray, state: Any = None) -> tuple[Array, Any]:
        self.calls.append(tokens.tolist())
        rows = np.arange(len(tokens))
        which, (step, _) = (tokens[:, 0], (0 * rows, None)) if state is None else state
        logits = np.zeros((*tokens.shape, self.size))
        wanted = [self.scripts[int(w)][int(t)] for w, t in zip(which, step, strict=True)]
        logits[rows, -1, wanted] = 50.0
        return logits, (which, (step + 1, None))


def says(text: str) -> Script:
    """Make a model of bytes that generates a text after any prompt that starts with ">"."""
    return Script(256, {ord(">"): text.encode()})


def lstm(size: int = LETTERS.size, seed: int = 0) -> LanguageModel:
    rng = np.random.default_rng(seed)
    return LanguageModel(size, 8, LSTM(8, 16, rng=rng), rng=rng)


def lively(make: Any) -> LanguageModel:
    """Make a model with large parameters, whose preferred token changes at each step."""
    model = LanguageModel(LETTERS.size, 8, make(8, 16))
    source = rng(1)
    for array in model.params.values():
        array[...] = source.standard_normal(array.shape)
    return model


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("stop", [[], ["ab"], ["dd", "ca"]])
@pytest.mark.parametrize("seed", range(5))
def test_a_stream_is_the_whole_text(stop: list[str], seed: int) -> None:
    options: dict[str, Any] = {"max_new_tokens": 40, "do_sample": True}
    pieces = list(stream(lstm(), LETTERS, "a", **options, stop=stop, rng=rng(seed)))
    text = generate_text(lstm(), LETTERS, "a", **options, stop=stop, rng=rng(seed))
    free = generate_text(lstm(), LETTERS, "a", **options, rng=rng(seed))
    ends = [free.find(s) for s in stop if s in free]
    assert "".join(pieces) == text == free[: min(ends, default=40)]
    assert all(pieces)


def test_characters_of_several_bytes_come_whole() -> None:
    assert list(stream(says("né€😀."), BYTES, ">", max_new_tokens=11, rng=rng())) == list("né€😀.")
    assert list(stream(says("a€"), BYTES, ">", max_new_tokens=3, rng=rng())) == ["a", "\ufffd"]
    assert generate_text(says("a€b"), BYTES, "> né", max_new_tokens=5, rng=rng()) == "a€b"


def test_a_stop_string_ends_the_text_and_the_work() -> None:
    model = says("one END two")
    assert list(stream(model, BYTES, ">", max_new_tokens=11, stop=["END"], rng=rng())) == list(
        "one "
    )
    assert len(model.calls) == len("one END")


def test_no_length_is_no_work() -> None:
    model = says("a")
    assert list(stream(model, BYTES, ">", max_new_tokens=0, rng=rng())) == []
    assert generate_text(model, BYTES, [">", ">>"], max_new_tokens=0, rng=rng()) == ["", ""]
    assert generate_text(model, BYTES, [], max_new_tokens=5, rng=rng()) == []
    assert model.calls == []


def test_the_unknown_character_is_not_drawn_unless_it_is_allowed() -> None:
    model = Script(5, {0: [4, 4, 4]})
    assert "\ufffd" not in generate_text(model, LETTERS, "a", max_new_tokens=3, rng=rng())
    assert (
        generate_text(model, LETTERS, "a", max_new_tokens=3, suppress_tokens=(), rng=rng())
        == "\ufffd" * 3
    )


def test_logits_beyond_the_tokenizer_are_ignored() -> None:
    model = Script(300, {97: [299, 98, 299]})
    text = generate_text(model, BYTES, "a", max_new_tokens=3)
    assert text == "\0b\0"


def test_the_penalty_counts_the_prompt_and_what_was_drawn() -> None:
    class Fixed:
        def __call__(self, tokens: IndexArray, state: Any = None) -> tuple[Array, Any]:
            logits = np.array([5.0, 4.0, 3.0, 2.9, 9.0])
            return np.broadcast_to(logits, (*tokens.shape, 5)), state

    options: dict[str, Any] = {"max_new_tokens": 4, "repetition_penalty": 2.0}
    assert generate_text(Fixed(), LETTERS, "a", **options) == "bcda"
    assert generate_text(Fixed(), LETTERS, ["a", "db"], **options) == ["bcda", "acaa"]


@pytest.mark.parametrize("make", [LSTM, sLSTM, mLSTM])
def test_each_text_of_a_batch_is_that_of_its_prompt_alone(make: Any) -> None:
    prompts, model = ["a", "bcd", "ddddddd", "cab", "b"], lively(make)
    options: dict[str, Any] = {"max_new_tokens": 30}
    texts = generate_text(model, LETTERS, prompts, **options)
    assert texts == [generate_text(model, LETTERS, prompt, **options) for prompt in prompts]
    assert len(set(texts)) > 2
    options["stop"] = [texts[0][4:8], texts[1][7:11]]
    stopped = generate_text(model, LETTERS, prompts, **options)
    assert stopped == [generate_text(model, LETTERS, prompt, **options) for prompt in prompts]
    assert len(stopped[0]) <= 4 < len(texts[0])
    assert len({len(text) for text in stopped}) > 1


def test_rows_that_have_stopped_are_computed_on_until_all_have() -> None:
    scripts = {
        ord("a"): b"one. two. three",
        ord("b"): b"a long one. two",
        ord("c"): b"\xe2\x82\xac. 4 5 6 7 8",
    }
    model = Script(256, scripts)
    texts = generate_text(model, BYTES, ["a", "bb", "c"], max_new_tokens=12, stop=["."], rng=rng())
    assert texts == ["one", "a long one", "€"]
    assert [len(rows) for rows in model.calls] == [1] * 3 + [3] * 10
    assert all(len(row) == 1 for rows in model.calls[3:] for row in rows)
